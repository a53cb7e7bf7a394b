"""Feeds the log to the process that writes the read model, which works on one batch while the next is read."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import msgspec

from events.aggregates.aggregate_names import EVERYTHING
from events.bus.connection import Connection
from events.log.consumer_reader import Batch
from events.log.direct_reader import read_direct, short_pause
from events.log.grammar import Foreign
from events.log.stored_message import StoredMessage
from events.worker.parent import ChildGone, run_worker
from projections.projector import writer_process
from projections.projector.writer_process import Outcome

_decode = msgspec.json.Decoder(Outcome).decode


class Extent(NamedTuple):
    """A part of the log: from sequence `start` to `until` (None: without end), as long as `wanted` is true.

    A narrower `filter` than the whole log is for a read model that may have gaps: its file is marked with
    `read_model.PART`. Without an end, `pause` is awaited between two reads of the log's end.
    """

    start: int = 1
    until: int | None = None
    filter: str = EVERYTHING
    wanted: Callable[[StoredMessage], bool] | None = None
    pause: Callable[[], Awaitable[None]] = short_pause


class _Stopped(Exception):
    """The read model goes no further, for the reason in this outcome."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


async def feed(
    connection: Connection,
    path: Path,
    extent: Extent,
    advance: Callable[[int], None],
    found: Callable[[Foreign], None] = lambda _: None,
) -> Outcome | None:
    """Write that part of the log to the read model at `path`, which is closed when this returns.

    `advance` receives the sequence applied last, `found` each foreign message that was skipped. Returns the outcome
    that stopped it before the end of the extent, or None.
    """

    def answered(answer: bytes) -> None:
        outcome = _decode(answer)
        for foreign in outcome.foreign:
            found(foreign)
        advance(outcome.applied)
        if not outcome.is_well:
            raise _Stopped(outcome)

    command = [writer_process.MODULE, str(path)]
    batches = read_direct(connection, extent.start, filter=extent.filter, until=extent.until, pause=extent.pause)
    try:
        await run_worker(command, batches if extent.wanted is None else _while(batches, extent.wanted), answered)
    except _Stopped as stopped:
        return stopped.outcome
    except ChildGone as gone:
        return Outcome(0, unwritable=f"the writer ended: {gone}")
    return None


async def _while(
    batches: AsyncGenerator[Batch, None], wanted: Callable[[StoredMessage], bool]
) -> AsyncGenerator[Batch, None]:
    async with aclosing(batches):
        async for batch in batches:
            commits = list(takewhile(wanted, batch.messages))
            yield Batch(commits, batch.pending)
            if len(commits) < len(batch.messages):
                return
