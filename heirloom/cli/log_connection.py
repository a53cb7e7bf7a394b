"""Reading the log from the command line."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click

from events.aggregates.aggregate_names import STREAM
from events.bus.connection import Connection
from events.log.grammar import Foreign
from events.log.jetstream_api import JetStreamMissing, Unavailable
from heirloom.cli.service_connection import open_bus, reach_log

INTERRUPTED = 130
"""The exit status after Ctrl-C, as in shells."""


@asynccontextmanager
async def reading(data: Path, nats: str | None) -> AsyncIterator[tuple[Connection, int]]:
    """A connection that may read the log, as an auditor's may, and the log's last sequence.

    It survives a broker that goes and comes back. `Unavailable` becomes one clear line.
    """
    async with open_bus(data, nats, "auditor") as connection:
        try:
            end = await reach_log(connection)
            connection.outlast_brokers()
            yield connection, end
        except (JetStreamMissing, Unavailable) as error:
            raise click.ClickException(str(error)) from error


def report_foreign(foreign: Foreign) -> None:
    """Report a foreign message on standard error."""
    click.echo(f"stepped over {described(foreign)}", err=True)


def described(foreign: Foreign) -> str:
    """The message's place, and why it is foreign."""
    where = "sequence" if foreign.stream == STREAM else f"{foreign.stream} sequence"
    return f"{where} {foreign.seq}: {foreign.reason} (on {foreign.subject})"
