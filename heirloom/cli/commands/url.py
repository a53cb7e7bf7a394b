"""`heirloom url`: the only place where credentials are shown."""

import asyncio
import contextlib
import re
import sys
from contextlib import aclosing
from datetime import datetime
from pathlib import Path

import click
from nats.errors import Error as NatsError

from events.aggregates import aggregate_names
from events.aggregates.aggregate_names import CLIENT_ID, TENANT
from events.aggregates.commit import UnreadableCommit
from events.bus.connect import connect
from events.log.direct_reader import read_direct
from events.log.grammar import Foreign, read_commit
from events.log.jetstream_api import JetStreamMissing, Unavailable
from heirloom.broker.roles import SHOWN, inbox
from heirloom.cli.options import DATA
from heirloom.cli.service_connection import open_bus, own_service, reach_log


@click.command()
@DATA
@click.option("--client", metavar="TENANT/CLIENT_ID", help="A registered client.")
@click.option("--role", type=click.Choice(list(SHOWN)), help="A role that is not a client.")
def url(data: Path, client: str | None, role: str | None) -> None:
    """Print a NATS URL with a caller's credentials. Keep it secret: it is a password."""
    if (client is None) == (role is None):
        raise click.UsageError("name either --client TENANT/CLIENT_ID or --role ROLE")
    where, known = own_service(data)
    if role is not None:
        addresses, prefix = known.url(role, where.host), inbox(role)
        refusal = f"no broker lets the role {role} in; is the service still up?"
    else:
        tenant, client_id = _split(client or "")
        void_until = asyncio.run(_void_until(data, tenant, client_id))
        addresses = known.client_url(tenant, client_id, where.host, void_until)
        prefix = f"_INBOX.{tenant}.{client_id}"
        refusal = (
            f"the service does not know the client {client}, or has disabled it; register it with `heirloom apply`"
        )
    address = asyncio.run(_answering(addresses, prefix, refusal))
    click.echo(address if where.tls is None else address.replace("nats://", "tls://"))
    if sys.stderr.isatty():
        click.echo(f"Connect with the inbox prefix {prefix}", err=True)


def _split(client: str) -> tuple[str, str]:
    match = re.fullmatch(rf"({TENANT.pattern})/({CLIENT_ID.pattern})", client)
    if match is None:
        raise click.UsageError("--client is TENANT/CLIENT_ID, for example acme/web")
    return match[1], match[2]


async def _void_until(data: Path, tenant: str, client_id: str) -> datetime | None:
    """The time until which a client's grants and passwords are void, or None. Raises `click.ClickException`."""
    filter, last = aggregate_names.client(tenant, client_id).filter, None
    try:
        async with open_bus(data, None, "auditor") as connection:
            end = await reach_log(connection)
            async with aclosing(read_direct(connection, filter=filter, until=end)) as batches:
                async for batch in batches:
                    commits = [
                        commit for each in batch.messages if not isinstance(commit := read_commit(each), Foreign)
                    ]
                    last = commits[-1] if commits else last
    except (Unavailable, JetStreamMissing, UnreadableCommit, NatsError) as error:
        raise click.ClickException(f"the log cannot be read now ({error}); repeat the command") from error
    return last.state.void_until if last is not None else None


async def _answering(addresses: str, prefix: str, refusal: str) -> str:
    """The URL of the first broker that lets the caller in, one that any NATS client accepts."""
    for address in addresses.split(","):
        with contextlib.suppress(NatsError, OSError):
            connection = await connect(address, "heirloom url", inbox_prefix=prefix, patient=False)
            await connection.close()
            return address
    raise click.ClickException(refusal)
