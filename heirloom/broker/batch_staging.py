"""Stages the batches of an embedded broker in memory until they are complete (ADR 0018).

A nats-server that is alone stages each atomic batch in files beside its stream. It creates them, syncs them four times
and removes them again, which costs more than the batch itself. They need not survive a crash: each commit of a batch is
valid by itself, and none is acknowledged before the stream's own file is synced.
"""

import asyncio
import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from events.aggregates.aggregate_names import STREAM
from events.log.books import number_of, stream_of
from events.task_cancellation import end
from heirloom.broker.roles import LOG_ACCOUNT

MEMORY = Path("/dev/shm")  # noqa: S108  # what is made there is ours alone, and checked to be
PREFIX = "heirloom-"
LOOK_SECONDS = 0.5


def staged_at(store: Path) -> Path:
    """Where a nats-server with that store directory stages the batches of the log's newest book."""
    streams = store / "jetstream" / LOG_ACCOUNT / "streams"
    numbers = [number for path in streams.glob(f"{STREAM}*") if (number := number_of(path.name)) is not None]
    return streams / stream_of(max(numbers, default=1)) / "batches"


@contextlib.asynccontextmanager
async def staged_in_memory(store: Path) -> AsyncIterator[None]:
    """While the block runs, the broker that starts and ends within it stages its batches in memory, if there is any.

    Nothing of it remains after the block.
    """
    stagings: dict[Path, Staging] = {}
    keeping = asyncio.create_task(_keep(store, stagings), name="staging batches in memory")
    try:
        yield
    finally:
        await end((keeping,))
        for staging in stagings.values():
            staging.remove()


async def _keep(store: Path, stagings: "dict[Path, Staging]") -> None:
    """Repair the newest book's link for ever: at each start, the broker replaces it by a directory of its own."""
    while True:
        newest = staged_at(store)
        stagings.setdefault(newest, Staging(newest)).ensure()
        for closed in stagings.keys() - {newest}:
            stagings.pop(closed).remove()
        await asyncio.sleep(LOOK_SECONDS)


class Staging:
    """`batches` as a link to a directory in memory. A directory that a killed service left is reused."""

    def __init__(self, batches: Path) -> None:
        self._batches = batches
        left = batches.readlink() if batches.is_symlink() else None
        self._directory = left if left is not None and _is_ours(left) else None

    def ensure(self) -> bool:
        """Whether the link is in place now: not without a log or memory, nor while a batch is staged elsewhere."""
        if self._batches.is_symlink() and self._directory is not None and _is_ours(self._directory):
            return True
        if not self._batches.parent.is_dir() or not os.access(MEMORY, os.W_OK | os.X_OK):
            return False
        try:
            self._make_way()
            self._directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=MEMORY))
            self._batches.symlink_to(self._directory)
        except OSError:  # a batch is in there, or the broker was faster; the next check repairs it
            return False
        return True

    def remove(self) -> None:
        """Remove the link and its directory."""
        if self._batches.is_symlink():
            self._batches.unlink()
        if self._directory is not None and _is_ours(self._directory):
            shutil.rmtree(self._directory)

    def _make_way(self) -> None:
        """Remove what is in the place of the link. Raises `OSError` while a batch is staged there."""
        if self._batches.is_dir() and not self._batches.is_symlink():
            self._batches.rmdir()
        self.remove()


def _is_ours(directory: Path) -> bool:
    """Whether the directory exists in memory and only we can have made it: readers of the link know its name."""
    try:
        found = directory.lstat()
    except FileNotFoundError:
        return False
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) == 0o700
    return ours and directory.parent == MEMORY and directory.name.startswith(PREFIX)
