"""A store in memory: for one process, until it ends."""

import threading
from contextlib import AbstractAsyncContextManager

from heirloom_client.errors import StoreError
from heirloom_client.fork import renew
from heirloom_client.record import Record
from heirloom_client.stores.store import Stored
from heirloom_client.stores.turn import InProcess, turn


class MemoryStore:
    """Kept as long as the process. A forked process may not use it: two that rotate one family apart would end it."""

    def __init__(self) -> None:
        self._stored: Stored | None = None
        self._forked = False
        self._turns = InProcess()
        self._lock = threading.Lock()
        renew(self)

    def after_fork(self) -> None:
        """The record is the parent's."""
        self._forked = True
        self._lock = threading.Lock()

    async def read(self) -> Stored | None:
        """As `Store`. Raises `StoreError` in a forked process."""
        self._require_own()
        return self._stored

    async def swap(self, record: Record, revision: int) -> bool:
        """As `Store`. Raises `StoreError` in a forked process."""
        self._require_own()
        with self._lock:
            if (self._stored.revision if self._stored is not None else 0) != revision:
                return False
            self._stored = Stored(record, revision + 1)
            return True

    def turn(self) -> AbstractAsyncContextManager[None]:
        """As `Store`."""
        return turn(self._turns.take, self._turns.give_back)

    def _require_own(self) -> None:
        if self._forked:
            raise StoreError("a MemoryStore is not shared with forked processes: use a FileStore")

    def __repr__(self) -> str:
        return "MemoryStore()"
