"""How a command reaches the service: through the data directory of a running `heirloom up`, or a NATS URL."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import click
import msgspec
from nats.errors import NoServersError

from events import bus
from events.stream import JetStreamMissing, NoLeader, last_sequence
from heirloom import credentials
from heirloom.credentials import Credentials
from heirloom.roles import API, LOG_API, inbox
from heirloom.running import RUNNING, Running, host_of
from service.keyring import KeyringError


@contextlib.asynccontextmanager
async def open_bus(data: Path, nats: str | None, role: str) -> AsyncIterator[bus.Connection]:
    """A connection as `role`. Raises `click.ClickException` with one clear line."""
    if nats is None:
        where, known = find(data)
        nats = known.url(role, where.host)
    try:
        connection = await bus.connect(nats, f"heirloom {role}", inbox_prefix=inbox(role), patient=False)
    except NoServersError as error:
        raise click.ClickException(f"no broker answers at {host_of(nats)}") from error
    except Exception as error:
        reason = str(error).removeprefix("nats: ") or type(error).__name__
        raise click.ClickException(f"the broker does not let this command in: {reason}") from error
    try:
        yield connection
    finally:
        await connection.close()


async def reach_log(connection: bus.Connection) -> int:
    """Find the log from where these credentials are: its last sequence. Raises `JetStreamMissing`."""
    for connection.jetstream_api in (LOG_API, API):  # outside of its account; on a broker without accounts
        try:
            return await last_sequence(connection)
        except NoLeader as silent:
            raise JetStreamMissing(
                "there is no answer about the log: its cluster has no leader, or these credentials may not read it;"
                " `heirloom url --role auditor` shows some that may"
            ) from silent
        except JetStreamMissing as missing:
            reason = missing
    raise reason


def find(data: Path) -> tuple[Running, Credentials]:
    """Where the service of this data directory runs. Raises `click.ClickException` when none does."""
    try:
        where = msgspec.json.decode((data / RUNNING).read_bytes(), type=Running)
    except (OSError, msgspec.DecodeError) as error:
        raise click.ClickException(
            f"no service runs on {data}: start one with `heirloom up --data {data}`, or name a broker with --nats"
        ) from error
    if where.tls is not None:
        where.tls.be_trusted()
    if not where.ours:
        raise click.ClickException(f"the service on {data} uses a broker of your own: name it with --nats")
    try:
        return where, credentials.load(data)
    except KeyringError as error:
        raise click.ClickException(str(error)) from error
