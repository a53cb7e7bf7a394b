"""Following the log into the read model, for as long as the process lives.

A file that is no read model of this version and this log is not repaired: the right one is built beside it and swapped
in. Until then there is nothing to ask.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import msgspec

from events.bus import Connection
from events.log import Stored
from events.pipe import ChildGone, Pipe
from events.reader import read
from events.stream import JetStreamMissing, last_sequence
from projections.audit import Audit
from projections.progress import Progress
from projections.read_model import ReadModel, Unusable
from projections.writer import Outcome

log = logging.getLogger("heirloom.projector")

AGAIN_SECONDS = 1.0
"""Between two attempts at something that may come back: a stream, room on the disk."""
BATCH = 2000
"""Commits in one transaction while there are more to come; at the end of the log whatever has arrived goes at once."""

_decode = msgspec.json.Decoder(Outcome).decode


class Follower:
    """Keeps the read model at `path` up with the log, tells `progress` and opens the file to `audit`.

    Sets `ready` when everything that was in the log at the start can be asked about.
    """

    def __init__(
        self, connection: Connection, path: Path, progress: Progress, audit: Audit, ready: asyncio.Event
    ) -> None:
        self._connection = connection
        self._path = path
        self._progress = progress
        self._audit = audit
        self._ready = ready

    async def follow(self) -> None:
        """Until cancelled, or until the read model halts at a commit: then queries see what came before it."""
        end = await self._end_of_log()
        damage: str | None = None
        while True:
            if fault := damage or await self._fault(end):
                await self._rebuild(fault)
            applied = _prepare(self._path)
            self._audit.open(self._path)
            self._advance(applied, end)
            outcome = await self._feed(self._path, applied + 1, None, lambda applied: self._advance(applied, end))
            if outcome.halted is not None:
                log.error("%s", outcome.halted)
                self._progress.give_up_waiting(outcome.halted)
                return
            await self._audit.close()
            damage = outcome.damaged
            if outcome.unwritable is not None:
                log.error("the read model cannot be written: %s", outcome.unwritable)
                await asyncio.sleep(AGAIN_SECONDS)

    def _advance(self, applied: int, end: int) -> None:
        self._progress.advance(applied)
        if applied >= end and not self._ready.is_set():
            log.info("caught up", extra={"seq": applied})
            self._ready.set()

    async def _feed(self, path: Path, start: int, until: int | None, advance: Callable[[int], None]) -> Outcome:
        """Read from `start` on and have it written, `advance` hearing how far it is.

        Gives the outcome that ended it, or the last one when `until` is reached.
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
            if outcome != Outcome(outcome.applied):
                ended.set_result(outcome)

        pipe = await Pipe.start("projections.writer", str(path))
        reading = asyncio.create_task(self._read(pipe, start, until, answered))
        try:
            await asyncio.wait((reading, ended), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await pipe.close()
        return ended.result() if ended.done() else Outcome(until or 0)

    async def _read(
        self, pipe: Pipe, start: int, until: int | None, answered: Callable[[asyncio.Future[bytes]], None]
    ) -> None:
        held: list[Stored] = []
        async with aclosing(read(self._connection, start, until=until)) as batches:
            async for batch in batches:
                held += batch.commits
                if held and (batch.pending == 0 or len(held) >= BATCH):
                    (await pipe.hand_over(held)).add_done_callback(answered)
                    held = []

    async def _fault(self, end: int) -> str | None:
        """Why the file that is there cannot be used; None if it can, or if there is none."""
        if not self._path.exists():
            return None
        try:
            model = ReadModel(self._path)
        except Unusable as unusable:
            return str(unusable)
        try:
            return None if await self._stands_on_log(model, end) else "it was made from another log"
        finally:
            model.close()

    async def _stands_on_log(self, model: ReadModel, end: int) -> bool:
        if model.applied == 0:
            return True
        if model.applied > end:
            return False
        last: list[Stored] = []
        async with aclosing(read(self._connection, model.applied, until=model.applied)) as batches:
            async for batch in batches:
                last += batch.commits
        return bool(last) and model.stands_on(last[0])

    async def _rebuild(self, fault: str) -> None:
        log.warning("the read model is built anew: %s", fault)
        beside = self._path.with_name(f"{self._path.name}.new")
        _delete(beside)
        _prepare(beside)
        end = await self._end_of_log()
        outcome = Outcome(0)
        if end > 0:
            # where it halts, what it has is right; whoever goes on from there halts again
            outcome = await self._feed(beside, 1, end, lambda _: None)
        _delete(self._path)
        beside.replace(self._path)
        log.info("the new read model is in place", extra={"seq": outcome.applied})

    async def _end_of_log(self) -> int:
        while True:
            try:
                return await last_sequence(self._connection)
            except JetStreamMissing as missing:
                log.info("waiting for the log: %s", missing)
                await asyncio.sleep(AGAIN_SECONDS)


def _prepare(path: Path) -> int:
    """Make the read model if there is none; the sequence it stands at."""
    model = ReadModel(path)
    model.close()
    return model.applied


def _delete(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
