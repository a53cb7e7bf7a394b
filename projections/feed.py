"""Feeding the log to the process that writes the read model, which works on one batch while the next is read."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import aclosing
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import msgspec

from events.bus import Connection
from events.direct_reader import read_direct
from events.log import Stored
from events.pipe import ChildGone, Pipe
from events.reader import Batch, read
from events.subjects import EVERYTHING
from projections.writer import PART, Outcome

_decode = msgspec.json.Decoder(Outcome).decode


class Extent(NamedTuple):
    """Which of the log: from sequence `start` to `until` (None: for ever), as long as `wanted` says yes.

    With another `filter` than the whole log the read model has gaps and knows it.
    """

    start: int = 1
    until: int | None = None
    filter: str = EVERYTHING
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

    part = [] if extent.filter == EVERYTHING else [PART]
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
    # who follows must hear at once what is new, and a consumer tells; what lies there is asked for
    if extent.until is None:
        reading = read(connection, extent.start, filters=(extent.filter,))
    else:
        reading = read_direct(connection, extent.start, filter=extent.filter, until=extent.until)
    async with aclosing(reading) as batches:
        await pipe.pour(batches if extent.wanted is None else _while(batches, extent.wanted), answered)


async def _while(batches: AsyncIterable[Batch], wanted: Callable[[Stored], bool]) -> AsyncIterator[Batch]:
    async for batch in batches:
        commits = list(takewhile(wanted, batch.commits))
        yield Batch(commits, batch.pending)
        if len(commits) < len(batch.commits):
            return
