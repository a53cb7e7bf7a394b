"""Feeding the log to the process that writes the read model, which works on one batch while the next is read."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import msgspec

from events.aggregates.subjects import EVERYTHING
from events.bus.connection import Connection
from events.log.consumer_reader import Batch
from events.log.direct_reader import a_moment, read_direct
from events.log.grammar import Foreign
from events.log.stored_commit import Stored
from events.task_cancellation import end
from events.worker.parent import ChildGone, Pipe
from projections.projector.writer_process import PART, Outcome

_decode = msgspec.json.Decoder(Outcome).decode


class Extent(NamedTuple):
    """Which of the log: from sequence `start` to `until` (None: for ever), as long as `wanted` says yes.

    With another `filter` than the whole log the read model has gaps and knows it. For ever, `pause` lies between two
    looks at the log's end.
    """

    start: int = 1
    until: int | None = None
    filter: str = EVERYTHING
    wanted: Callable[[Stored], bool] | None = None
    pause: Callable[[], Awaitable[None]] = a_moment


async def feed(
    connection: Connection,
    path: Path,
    extent: Extent,
    advance: Callable[[int], None],
    found: Callable[[Foreign], None] = lambda _: None,
) -> Outcome | None:
    """Have that much of the log written to the read model at `path`; `advance` hears the sequence applied last.

    `found` receives each foreign message that was stepped over.

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
        for foreign in outcome.foreign:
            found(foreign)
        advance(outcome.applied)
        if not outcome.is_well:
            ended.set_result(outcome)

    part = [] if extent.filter == EVERYTHING else [PART]
    pipe = await Pipe.start("projections.projector.writer_process", str(path), *part)
    batches = read_direct(connection, extent.start, filter=extent.filter, until=extent.until, pause=extent.pause)
    pouring = asyncio.create_task(_pour(batches, extent, pipe, answered))
    try:
        await asyncio.wait((pouring, ended), return_when=asyncio.FIRST_COMPLETED)
        if pouring.done():
            pouring.result()
    finally:
        await end((pouring,))
        await pipe.close()
    return ended.result() if ended.done() else None


async def _pour(
    batches: AsyncGenerator[Batch, None],
    extent: Extent,
    pipe: Pipe,
    answered: Callable[[asyncio.Future[bytes]], None],
) -> None:
    async with aclosing(batches):
        await pipe.feed(batches if extent.wanted is None else _while(batches, extent.wanted), answered)


async def _while(batches: AsyncIterable[Batch], wanted: Callable[[Stored], bool]) -> AsyncIterator[Batch]:
    async for batch in batches:
        commits = list(takewhile(wanted, batch.commits))
        yield Batch(commits, batch.pending)
        if len(commits) < len(batch.commits):
            return
