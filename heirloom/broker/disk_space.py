"""Room on the brokers' disks (ADR 0012).

nats-server does not forget a write that failed for want of room: it refuses every later one until it is started again,
and in a cluster it has by then answered from a store that lost its end. So a broker of a cluster leaves in order while
there is still some room, as long as most of the others have more, and comes back; one that did fail is started again
once there is room.
"""

import asyncio
import logging
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from heirloom.broker.broker_log import is_of_a_connection
from heirloom.process.child_process import Child, ChildFailed

log = logging.getLogger("heirloom.up")

LOOK_SECONDS = 0.5
RESERVE = 32 << 20
"""Bytes. A broker of a cluster that has less leaves; it comes back when it has twice as much."""
ENOUGH = 1 << 20
"""Bytes. What a broker that failed must find free to be started again."""
END_SECONDS = 15
REST_SECONDS = 5
"""Between two restarts: room may be what there is not for this user alone."""
FAILED = b"no space left on device"


class Store:
    """A broker and the disk it writes to: its own words lie beside its log."""

    def __init__(self, broker: Child, words: Path) -> None:
        self.broker = broker
        self._words = words
        self._heard = words.stat().st_size
        self._failed = False
        self._rest_until = 0.0
        self.is_away = False

    @property
    def free(self) -> int:
        """Bytes."""
        return shutil.disk_usage(self._words.parent).free

    def has_failed(self) -> bool:
        """Whether it could not write something since it was started (it says so), and may be started again."""
        try:
            with self._words.open("rb") as words:
                begin = self._heard if self._heard <= words.seek(0, os.SEEK_END) else 0  # somebody cut it short
                words.seek(begin)
                said = words.read()
        except FileNotFoundError:  # somebody took it away
            begin, said = 0, b""
        self._heard = begin + len(said)
        self._failed |= any(FAILED in line and not is_of_a_connection(line) for line in said.splitlines())
        return self._failed and time.monotonic() > self._rest_until

    async def leave(self) -> None:
        """End it in order."""
        self.is_away = True
        await self.broker.stop(END_SECONDS)

    async def come_back(self) -> None:
        """Start it; if that fails, it is still away."""
        try:
            await self.broker.start()
        except (ChildFailed, OSError) as error:
            log.error("%s does not come up: %s", self.broker.name, error)
            return
        self.has_failed()  # what it said until now was before
        self._failed = self.is_away = False
        self._rest_until = time.monotonic() + REST_SECONDS


async def keep_room(brokers: Sequence[Child], hands: asyncio.Lock) -> None:
    """For ever; all of them are running. `hands` is held by whoever decides on one of them, until that is done."""
    stores = [Store(broker, broker.words) for broker in brokers if broker.words is not None]
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        for store in stores:
            async with hands:
                await _look_after(store, stores)


async def _look_after(store: Store, stores: Sequence[Store]) -> None:
    name = store.broker.name
    if store.is_away:
        if store.free >= 2 * RESERVE:
            log.warning("%s has room again", name)
            await store.come_back()
    elif store.free < RESERVE and _others_suffice(store, stores):
        log.warning("%s has less than %s MiB left on its disk: it stays away meanwhile", name, RESERVE >> 20)
        await store.leave()
    elif store.has_failed() and store.free >= ENOUGH:
        log.warning("%s could not write for want of room; there is some now, it is started again", name)
        await store.leave()
        await store.come_back()


def _others_suffice(store: Store, stores: Sequence[Store]) -> bool:
    """Whether most of the cluster remains with room when this one leaves."""
    remaining = [other for other in stores if other is not store and not other.is_away and other.free >= 2 * RESERVE]
    return len(remaining) > len(stores) // 2
