"""Following the log into the read model, for as long as the process lives.

A file that is no read model of this version and this log is not repaired: the right one is built beside it and swapped
in. Until then there is nothing to ask.
"""

import asyncio
import logging
import sqlite3
from contextlib import aclosing
from pathlib import Path

from events.bus import Connection
from events.log import Stored
from events.reader import read
from events.stream import JetStreamMissing, last_sequence
from projections.audit import Audit
from projections.progress import Progress
from projections.read_model import Halted, ReadModel, Unusable

log = logging.getLogger("heirloom.projector")

AGAIN_SECONDS = 1.0
"""Between two attempts at something that may come back: a stream, room on the disk."""


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
        self._model: ReadModel | None = None

    async def follow(self) -> None:
        """Until cancelled, or until the read model halts at a commit: then queries see what came before it."""
        end = await self._end_of_log()
        fault = await self._fault(end)
        while True:
            if fault is not None:
                await self._rebuild(fault)
            model = self._model = ReadModel(self._path)
            self._audit.open(self._path)
            try:
                await self._apply_from(model, end)
            except Halted as halted:
                log.error("%s", halted)  # an expected end, it needs no trace
                self._progress.give_up_waiting(str(halted))
                return
            except sqlite3.DatabaseError as error:
                fault = str(error)
                await self._audit.close()
                self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._model is not None:
            self._model.close()
            self._model = None

    async def _apply_from(self, model: ReadModel, end: int) -> None:
        self._advance(model.applied, end)
        async with aclosing(read(self._connection, model.applied + 1)) as batches:
            async for batch in batches:
                await _apply(model, batch.commits)
                self._advance(model.applied, end)

    def _advance(self, applied: int, end: int) -> None:
        self._progress.advance(applied)
        if applied >= end and not self._ready.is_set():
            log.info("caught up", extra={"seq": applied})
            self._ready.set()

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
        model = self._model = ReadModel(beside)
        end = await self._end_of_log()
        try:
            async with aclosing(read(self._connection, until=end)) as batches:
                async for batch in batches:
                    await _apply(model, batch.commits)
        except Halted:
            pass  # as far as it came it is right, and whoever goes on from there halts again
        self.close()
        _delete(self._path)
        beside.replace(self._path)
        log.info("the new read model is in place", extra={"seq": model.applied})

    async def _end_of_log(self) -> int:
        while True:
            try:
                return await last_sequence(self._connection)
            except JetStreamMissing as missing:
                log.info("waiting for the log: %s", missing)
                await asyncio.sleep(AGAIN_SECONDS)


async def _apply(model: ReadModel, commits: list[Stored]) -> None:
    while True:
        try:
            model.apply(commits)
            return
        except sqlite3.OperationalError as error:
            log.error("the read model cannot be written: %s", error)  # the text says it all
            await asyncio.sleep(AGAIN_SECONDS)


def _delete(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
