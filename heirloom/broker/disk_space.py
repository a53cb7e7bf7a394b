"""Free space on the brokers' disks (ADR 0012).

After a write that failed on a full disk, nats-server refuses every later write until it is restarted, and in a cluster
it may already have answered from a store that lost its end. So a broker of a cluster stops in order while there is
still some space, as long as most of the others have more, and starts again later. A broker whose write failed is
restarted once there is space.
"""

import asyncio
import logging
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from heirloom.broker.broker_log import is_of_a_connection
from heirloom.broker.nats_server import STOP_SECONDS
from heirloom.process.child_process import Child, ChildFailed

log = logging.getLogger("heirloom.up")

CHECK_SECONDS = 0.5
RESERVE = 32 << 20
"""Bytes. A broker of a cluster stops when it has less, and starts again when it has twice as much."""
ENOUGH = 1 << 20
"""Bytes that must be free before a broker whose write failed is restarted."""
RESTART_PAUSE_SECONDS = 5
"""Between two restarts: the free space may be reserved for other users."""
FAILED = b"no space left on device"


class Store:
    """A broker and the disk that it writes to, which also holds its log file."""

    def __init__(self, broker: Child, log_file: Path) -> None:
        self.broker = broker
        self._log_file = log_file
        self._read_bytes = log_file.stat().st_size
        self._failed = False
        self._paused_until = 0.0
        self.is_away = False

    @property
    def free(self) -> int:
        """Bytes of free space."""
        return shutil.disk_usage(self._log_file.parent).free

    def has_failed(self) -> bool:
        """Whether a write failed since the broker's start, as its log file says, and it may be restarted now."""
        try:
            with self._log_file.open("rb") as file:
                begin = self._read_bytes if self._read_bytes <= file.seek(0, os.SEEK_END) else 0  # it was truncated
                file.seek(begin)
                text = file.read()
        except FileNotFoundError:  # it was removed
            begin, text = 0, b""
        self._read_bytes = begin + len(text)
        self._failed |= any(FAILED in line and not is_of_a_connection(line) for line in text.splitlines())
        return self._failed and time.monotonic() > self._paused_until

    async def stop(self) -> None:
        """Stop the broker in order."""
        self.is_away = True
        await self.broker.stop(STOP_SECONDS)

    async def start(self) -> None:
        """Start the broker again; where that fails, it stays away."""
        try:
            await self.broker.start()
        except (ChildFailed, OSError) as error:
            log.error("%s does not come up: %s", self.broker.name, error)
            return
        self.has_failed()  # skip what it logged before this start
        self._failed = self.is_away = False
        self._paused_until = time.monotonic() + RESTART_PAUSE_SECONDS


async def keep_room(brokers: Sequence[Child], broker_lock: asyncio.Lock) -> None:
    """Stop and restart running brokers as their free space requires, for ever.

    `broker_lock` is held while one broker is stopped or restarted, so that never two are down at once.
    """
    stores = [Store(broker, broker.log_file) for broker in brokers if broker.log_file is not None]
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        for store in stores:
            async with broker_lock:
                await _check(store, stores)


async def _check(store: Store, stores: Sequence[Store]) -> None:
    name = store.broker.name
    if store.is_away:
        if store.free >= 2 * RESERVE:
            log.warning("%s has room again", name)
            await store.start()
    elif store.free < RESERVE and _others_suffice(store, stores):
        log.warning("%s has less than %s MiB left on its disk: it stays away meanwhile", name, RESERVE >> 20)
        await store.stop()
    elif store.has_failed() and store.free >= ENOUGH:
        log.warning("%s could not write for want of room; there is some now, it is started again", name)
        await store.stop()
        await store.start()


def _others_suffice(store: Store, stores: Sequence[Store]) -> bool:
    """Whether most of the cluster remains, and has room, when this one stops."""
    remaining = [other for other in stores if other is not store and not other.is_away and other.free >= 2 * RESERVE]
    return len(remaining) > len(stores) // 2
