"""Reading the log from the command line."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from events.aggregates.subjects import STREAM
from events.bus.connection import Connection
from events.log.grammar import Foreign
from events.log.jetstream_api import JetStreamMissing
from events.log.log import Unavailable
from heirloom.cli.service_connection import open_bus, reach_log

INTERRUPTED = 130
"""The exit status of what Ctrl-C ended, as shells have it."""


@asynccontextmanager
async def reading(data: Path, nats: str | None) -> AsyncIterator[tuple[Connection, int]]:
    """A connection that may read the log, as an auditor's may, and the log's last sequence.

    It outlasts a broker that goes and comes back. `Unavailable` becomes one clear line.
    """
    async with open_bus(data, nats, "auditor") as connection:
        try:
            end = await reach_log(connection)
            connection.outlast_brokers()
            yield connection, end
        except (JetStreamMissing, Unavailable) as error:
            raise click.ClickException(str(error)) from error


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal's standard error; gives what to tell it how far one is."""
    columns = SpinnerColumn(), TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


def stepped_over(foreign: Foreign) -> None:
    """Tell a person, on standard error, of a message that is no commit, or no checkpoint."""
    click.echo(f"stepped over {described(foreign)}", err=True)


def described(foreign: Foreign) -> str:
    """Where it lies, and why it is foreign."""
    where = "sequence" if foreign.stream == STREAM else f"{foreign.stream} sequence"
    return f"{where} {foreign.seq}: {foreign.reason} (on {foreign.subject})"
