"""`heirloom url`: the only place where credentials are shown."""

import asyncio
import re
import sys
from pathlib import Path

import click

from events import bus
from events.subjects import CLIENT_ID, TENANT
from heirloom.commands.options import DATA
from heirloom.reach import find
from heirloom.roles import SHOWN, inbox


@click.command()
@DATA
@click.option("--client", metavar="TENANT/CLIENT_ID", help="A registered client.")
@click.option("--role", type=click.Choice(SHOWN), help="A role that is not a client.")
def url(data: Path, client: str | None, role: str | None) -> None:
    """Print a NATS URL with a caller's credentials. Keep it secret: it is a password."""
    if (client is None) == (role is None):
        raise click.UsageError("name either --client TENANT/CLIENT_ID or --role ROLE")
    where, known = find(data)
    if role is not None:
        address, prefix = known.url(role, where.host), inbox(role)
    else:
        tenant, client_id = _split(client or "")
        address, prefix = known.client_url(tenant, client_id, where.host), f"_INBOX.{tenant}.{client_id}"
        asyncio.run(_try(address, prefix, client or ""))
    click.echo(address if where.tls is None else address.replace("nats://", "tls://"))
    if sys.stderr.isatty():
        click.echo(f"Connect with the inbox prefix {prefix}", err=True)


def _split(client: str) -> tuple[str, str]:
    match = re.fullmatch(rf"({TENANT.pattern})/({CLIENT_ID.pattern})", client)
    if match is None:
        raise click.UsageError("--client is TENANT/CLIENT_ID, for example acme/web")
    return match[1], match[2]


async def _try(address: str, prefix: str, client: str) -> None:
    try:
        connection = await bus.connect(address, "heirloom url", inbox_prefix=prefix, patient=False)
    except Exception as error:
        raise click.ClickException(
            f"the service does not know the client {client}, or has disabled it; register it with `heirloom apply`"
        ) from error
    await connection.close()
