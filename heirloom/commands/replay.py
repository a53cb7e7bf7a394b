"""`heirloom audit replay`: the read model as it was."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import click
import msgspec

from events.bus import Connection
from events.log import Stored
from events.subjects import EVERYTHING, FAMILY_ID
from heirloom.commands.options import where
from heirloom.commands.reading import progress, reading
from heirloom.commands.when import Until
from projections.feed import Extent, feed
from projections.read_model import ReadModel, Unusable


@click.command()
@where
@click.option("--until", "end", type=Until(), help="As of this sequence or time; otherwise as of now.")
@click.option("--family", "family_id", metavar="ID", help="Of this family alone.")
@click.option("--into", type=click.Path(dir_okay=False, path_type=Path), default=Path("replay.db"), show_default=True)
def replay(data: Path, nats: str | None, end: int | datetime | None, family_id: str | None, into: Path) -> None:
    """Rebuild the read model as of then, into a new SQLite file."""
    if into.exists():
        raise click.ClickException(f"{into} exists already; name another file with --into")
    if family_id is not None and not FAMILY_ID.fullmatch(family_id):
        raise click.ClickException(f"{family_id!r} is no family's id")
    filters = (EVERYTHING,) if family_id is None else (f"tokens.*.family.{family_id}.*",)

    async def run() -> int:
        async with reading(data, nats) as (connection, last):
            until = min(last, end) if isinstance(end, int) else last
            wanted = _not_after(end) if isinstance(end, datetime) else None
            with progress("replaying", until) as advance:
                return await replay_log(connection, into, Extent(1, until, filters, wanted), advance)

    applied = asyncio.run(run())
    if applied == 0:
        into.unlink(missing_ok=True)
        raise click.ClickException("there is nothing to replay: the log holds no such commit")
    click.echo(f"{into} is the read model as of sequence {applied}")


async def replay_log(connection: Connection, into: Path, extent: Extent, advance: Callable[[int], None]) -> int:
    """Build a read model of that much of the log; the sequence it ends at, 0 if there was nothing.

    Raises `click.ClickException` at a commit it cannot take in.
    """
    applied = 0

    def advanced(to: int) -> None:
        nonlocal applied
        applied = to
        advance(to)

    try:
        ReadModel(into).close()
    except Unusable as unusable:
        raise click.ClickException(f"{into}: {unusable}") from unusable
    outcome = await feed(connection, into, extent, advanced) if extent.until else None
    if outcome is not None:
        raise click.ClickException(outcome.halted or outcome.unwritable or outcome.damaged or "")
    return applied


def _not_after(time: datetime) -> Callable[[Stored], bool]:
    decode = msgspec.json.Decoder(_At).decode

    def wanted(stored: Stored) -> bool:
        try:
            return decode(stored.body).at <= time
        except (msgspec.DecodeError, UnicodeDecodeError):
            return True  # whoever must understand it will say what is wrong

    return wanted


class _At(msgspec.Struct):
    at: datetime
