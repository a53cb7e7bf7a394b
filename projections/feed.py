"""Feeding the log to the process that writes the read model, which works on one batch while the next is read."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import msgspec

from events.bus import Connection
from events.log import Stored
from events.pipe import ChildGone, Pipe
from events.reader import read
from events.subjects import EVERYTHING
from projections.writer import PART, Outcome

BATCH = 2000
"""Commits in one transaction while there are more to come; at the end of the log whatever has arrived goes at once."""

_decode = msgspec.json.Decoder(Outcome).decode


class Extent(NamedTuple):
    """Which of the log: from sequence `start` to `until` (None: for ever), as long as `wanted` says yes.

    With other `filters` than the whole log the read model has gaps and knows it.
    """

    start: int = 1
    until: int | None = None
    filters: Sequence[str] = (EVERYTHING,)
    wanted: Callable[[Stored], bool] | None = None


async def feed(connection: Connection, path: Path, extent: Extent, advance: Callable[[int], None]) -> Outcome | None:
    """Have that much of the log written to the read model at `path`; `advance` hears the sequence applied last.

    Gives what ended it before its end, or None. The file is closed then.
    """
    ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def answered(answer: asyncio.Future[bytes]) -> None:
        if answer.cancelled() or ended.done():
            return
        try:
            outcome = _decode(answer.result())
        except ChildGone as gone:
            ended.set_result(Outcome(0, unwritable=f"the writer ended: {gone}"))
            return
        advance(outcome.applied)
        if not outcome.is_well:
            ended.set_result(outcome)

    part = [] if tuple(extent.filters) == (EVERYTHING,) else [PART]
    pipe = await Pipe.start("projections.writer", str(path), *part)
    reading = asyncio.create_task(_read(connection, extent, pipe, answered))
    try:
        await asyncio.wait((reading, ended), return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            reading.result()
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await pipe.close()
    return ended.result() if ended.done() else None


async def _read(
    connection: Connection, extent: Extent, pipe: Pipe, answered: Callable[[asyncio.Future[bytes]], None]
) -> None:
    held: list[Stored] = []
    async with aclosing(read(connection, extent.start, filters=extent.filters, until=extent.until)) as batches:
        async for batch in batches:
            commits = batch.commits
            if extent.wanted is not None:
                commits = list(takewhile(extent.wanted, commits))
            is_last = len(commits) < len(batch.commits)
            held += commits
            if held and (is_last or batch.pending == 0 or len(held) >= BATCH):
                (await pipe.hand_over(held)).add_done_callback(answered)
                held = []
            if is_last:
                return
