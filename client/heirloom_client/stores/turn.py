"""One refresh at a time, as far as waiting for it is worth while."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from heirloom_client.fork import renew

PATIENCE_SECONDS = 5.0
PAUSE_SECONDS = 0.01


@asynccontextmanager
async def turn(take: Callable[[], bool], give_back: Callable[[], None]) -> AsyncIterator[None]:
    """Within it `take` has succeeded, or `PATIENCE_SECONDS` are over: whoever holds it may have been stopped."""
    end = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while not (taken := take()) and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110  # others are processes
        await asyncio.sleep(PAUSE_SECONDS)
    try:
        yield
    finally:
        if taken:
            give_back()


class InProcess:
    """The turns of one process, over all of its event loops."""

    def __init__(self) -> None:
        self.after_fork()
        renew(self)

    def after_fork(self) -> None:
        """The parent's turn is not ours."""
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Whether it is the caller's turn."""
        return self._lock.acquire(blocking=False)

    def give_back(self) -> None:
        """Let the next one."""
        if self._lock.locked():
            self._lock.release()
