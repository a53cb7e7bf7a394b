"""Follows the log into the read model, for as long as the process lives.

A file that is no read model of this version and this log is not repaired: a new one is built beside it and swapped in.
Meanwhile a file of an older version answers what it can; one of another log, or a damaged one, is not queried.
"""

import asyncio
import itertools
import logging
import sqlite3
from pathlib import Path

from events.bus.connection import Connection
from events.log.direct_reader import message_at
from events.log.grammar import Foreign
from events.log.jetstream_api import JetStreamMissing
from events.log.stream import last_sequence
from projections.progress import Progress
from projections.projector.feed import Extent, feed
from projections.queries.server import Audit
from projections.read_model import OtherVersion, ReadModel, UnusableReadModel

log = logging.getLogger("heirloom.projector")

RETRY_SECONDS = 1.0
"""Between two attempts where the obstacle may go away: a missing stream, a full disk."""
FIRST_RETRY_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.5)
"""Before that, while a replica that started at the same time may still be creating the stream."""


class Follower:
    """Keeps the read model at `path` up to date, reports to `progress`, and opens the file for `audit`.

    Sets `ready` when everything that was in the log at the start can be queried.
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
        """Run until cancelled, or until the read model halts at a commit: then queries see the commits before it."""
        end = await self._end_of_log()
        damage: str | None = None
        while True:
            try:
                applied = await self._open(damage)
            except (OSError, sqlite3.OperationalError, UnusableReadModel) as error:
                await self._hindered(f"the read model {self._path.name} cannot be made: {error}")
                continue
            self._advance(applied, end)
            extent = Extent(applied + 1, pause=self._progress.pause)
            outcome = await feed(
                self._connection, self._path, extent, lambda applied: self._advance(applied, end), found=self._found
            )
            assert outcome is not None  # it has no end otherwise
            if outcome.halted is not None:
                log.error("%s", outcome.halted)
                self._progress.give_up_waiting(outcome.halted)
                return
            if (damage := outcome.damaged) is not None:
                await self._audit.close()
            if outcome.unwritable is not None:
                await self._hindered(f"the read model {self._path.name} cannot be written: {outcome.unwritable}")

    async def _open(self, damage: str | None) -> int:
        """Put the right file in place, built anew if need be, and open it; returns the sequence it has applied."""
        if fault := damage or await self._fault():
            log.warning("the read model is built anew: %s", fault)
        if fault or not self._path.exists():
            await self._rebuild()
        applied, self._progress.foreign = _prepare(self._path)
        await self._audit.swap(self._path)
        return applied

    def _found(self, foreign: Foreign) -> None:
        self._progress.foreign += 1
        log.warning(
            "sequence %d is no commit and is stepped over: %s (%s); heirloom audit verify names them all",
            *(foreign.seq, foreign.reason, foreign.subject),
            extra={"seq": foreign.seq},
        )

    async def _hindered(self, obstacle: str) -> None:
        """Log and report an obstacle, and wait before the next attempt."""
        log.error("%s", obstacle)
        self._progress.give_up_waiting(f"{obstacle}; see to its directory's permissions and room, it is tried again")
        await asyncio.sleep(RETRY_SECONDS)

    def _advance(self, applied: int, end: int) -> None:
        self._progress.advance(applied)
        if applied >= end and not self._ready.is_set():
            log.info("caught up", extra={"seq": applied})
            self._ready.set()

    async def _fault(self) -> str | None:
        """Why the existing file cannot be used; None if it can, or does not exist."""
        if not self._path.exists():
            return None
        try:
            model = ReadModel(self._path)
        except OtherVersion as other:
            await self._audit.swap(self._path)
            return str(other)
        except UnusableReadModel as unusable:
            return str(unusable)
        try:
            return None if await self._stands_on_log(model) else "it was made from another log"
        finally:
            model.close()

    async def _stands_on_log(self, model: ReadModel) -> bool:
        if model.applied == 0:
            return True
        if model.applied > await self._end_of_log():
            return False
        last = await message_at(self._connection, model.applied)
        return last is not None and model.stands_on(last)

    async def _rebuild(self) -> None:
        beside = self._path.with_name(f"{self._path.name}.new")
        _delete(beside)
        end = await self._end_of_log()
        if end > 0:
            # where it halts, its rows are right; the follower goes on from there, and halts again
            await feed(self._connection, beside, Extent(until=end), lambda _: None, found=self._found)
        _prepare(beside)
        _delete(self._path)
        beside.replace(self._path)
        log.info("the new read model is in place", extra={"seq": end})

    async def _end_of_log(self) -> int:
        pauses = itertools.chain(FIRST_RETRY_SECONDS, itertools.repeat(RETRY_SECONDS))
        while True:
            try:
                return await last_sequence(self._connection)
            except JetStreamMissing as missing:
                log.info("waiting for the log: %s", missing)
                await asyncio.sleep(next(pauses))


def _prepare(path: Path) -> tuple[int, int]:
    """Create the read model if need be; returns the sequence applied last and the number of foreign messages."""
    model = ReadModel(path)
    foreign = model.foreign
    model.close()
    return model.applied, foreign


def _delete(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
