"""`heirloom audit replay`: the read model as it was."""

import asyncio
import itertools
import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path

import click
import msgspec

from events.aggregates.aggregate_names import EVERYTHING, FAMILY_ID
from events.aggregates.commit import UnreadableCommit
from events.bus.connection import Connection
from events.files import make_empty
from events.log.direct_reader import message_at
from events.log.grammar import Foreign, read_commit
from events.log.stored_message import StoredMessage
from heirloom.cli.log_connection import INTERRUPTED, reading, report_foreign
from heirloom.cli.options import FILE, where
from heirloom.cli.progress_bar import progress
from heirloom.cli.time_param import MomentParam
from projections.projector.feed import Extent, feed
from projections.projector.writer_process import Outcome
from projections.read_model import PART, ReadModel, UnusableReadModel


@click.command()
@where
@click.option(
    "--until",
    "end",
    type=MomentParam(end_of_day=True),
    help="As of this sequence or time, or the end of this day; otherwise now.",
)
@click.option("--family", "family_id", metavar="FAMILY_ID", help="Of this family alone.")
@click.option("--into", "named", type=FILE, help="A new file.  [default: replay.db, or the next that is free]")
@click.option("--resume", is_flag=True, help="Go on in the file where an interrupted replay was.")
def replay(
    data: Path, nats: str | None, end: int | datetime | None, family_id: str | None, named: Path | None, resume: bool
) -> None:
    """Rebuild the read model as of then, into a new SQLite file.

    What Ctrl-C or a crash interrupted goes on with --resume.
    """
    if family_id is not None and not FAMILY_ID.fullmatch(family_id):
        raise click.BadParameter(f"{family_id!r} is no family's id", param_hint="--family")
    if family_id is not None and resume:
        raise click.UsageError("one family is quickly replayed: do it again, into a new file")
    into = named or _default(resume)
    if os.path.lexists(into) and (not resume or into.is_symlink()):
        raise click.ClickException(f"{into} exists already; go on with --resume, or name another with --into")
    filter = EVERYTHING if family_id is None else f"tokens.*.family.{family_id}.*"
    known = _known(into) if into.exists() else None

    async def run() -> int:
        async with reading(data, nats) as (connection, last):
            until = min(last, end) if isinstance(end, int) else last
            wanted = _not_after(end) if isinstance(end, datetime) else None
            done = 0 if known is None else await _agreed(connection, into, known, until)
            with progress("replaying", until) as advance:
                return await replay_log(connection, into, Extent(done + 1, until, filter, wanted), advance)

    try:
        applied = asyncio.run(run())
    except KeyboardInterrupt:
        click.echo("interrupted; to go on: the same command with --resume", err=True)
        sys.exit(INTERRUPTED)
    if applied == 0:
        into.unlink(missing_ok=True)
        raise click.ClickException("there is nothing to replay: the log holds no such commit")
    click.echo(f"{into} is the read model as of sequence {applied}")


def _default(resume: bool) -> Path:
    """The first of replay.db, replay-2.db, … that does not exist; to resume, the last one that does."""
    before = path = Path("replay.db")
    for number in itertools.count(2):
        if not path.exists():
            break
        before, path = path, Path(f"replay-{number}.db")
    return before if resume else path


async def replay_log(connection: Connection, into: Path, extent: Extent, advance: Callable[[int], None]) -> int:
    """Build a read model of that part of the log, or continue one; returns its last sequence, 0 for none.

    Raises `click.ClickException` at a commit that it cannot apply.
    """
    applied = extent.start - 1

    def advanced(to: int) -> None:
        nonlocal applied
        applied = to
        advance(to)

    if extent.until is not None and extent.start > extent.until:
        return applied
    try:
        _mark(into, 0 if extent.filter == EVERYTHING else PART)
    except (sqlite3.Error, OSError) as error:
        raise click.ClickException(f"{into} cannot be written: {error}") from error
    outcome = await feed(connection, into, extent, advanced, report_foreign)
    if outcome is not None:
        raise click.ClickException(_obstacle(into, outcome))
    return applied


def _obstacle(into: Path, outcome: Outcome) -> str:
    """What a person can do about it; SQLite's messages name no file."""
    if outcome.unwritable is not None:
        return f"{into} cannot be written: {outcome.unwritable}; once it can be, --resume, or name another with --into"
    if outcome.damaged is not None:
        return f"{into} is damaged: {outcome.damaged}; name another file with --into"
    return outcome.halted or ""


def _mark(into: Path, version: int) -> None:
    """Set the file's version without `ReadModel`, which would create its indexes: a new file is filled without them."""
    if not into.exists():
        make_empty(into)  # for its owner alone: it contains what the log contains
    with closing(sqlite3.connect(into)) as file:
        file.execute(f"PRAGMA user_version = {version}")


def _known(into: Path) -> ReadModel:
    """The existing file's model, closed. Raises `click.ClickException` where it cannot be continued."""
    try:
        with closing(sqlite3.connect(into)) as file:
            version = file.execute("PRAGMA user_version").fetchone()[0]
        if version == PART:
            raise click.ClickException(f"{into} holds one family alone; name another file with --into")
        model = ReadModel(into)
    except (UnusableReadModel, sqlite3.Error) as error:
        raise click.ClickException(f"{into} is no read model of this version: {error}") from error
    model.close()
    return model


async def _agreed(connection: Connection, into: Path, known: ReadModel, until: int) -> int:
    """Where to continue. Raises `Unavailable`, and `click.ClickException` for another log's or a later file."""
    if known.applied > until:
        raise click.ClickException(f"{into} is as of sequence {known.applied} already: name another file with --into")
    if known.applied > 0:
        stored = await message_at(connection, known.applied)
        if stored is None or not known.stands_on(stored):
            raise click.ClickException(f"{into} was made from another log; name another file with --into")
    return known.applied


def _not_after(time: datetime) -> Callable[[StoredMessage], bool]:
    decode = msgspec.json.Decoder(_At).decode

    def wanted(stored: StoredMessage) -> bool:
        try:
            return decode(stored.body).at <= time or isinstance(read_commit(stored), Foreign)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, UnreadableCommit):
            return True  # the code that must read it reports the fault

    return wanted


class _At(msgspec.Struct):
    at: datetime
