"""How far the read model is, and waiting until it is further."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

MIN_SEQ_TIMEOUT_SECONDS = 5.0
"""How long a query waits for its `min_seq`."""
POLL_SECONDS = 0.2
"""Between two reads of the log's end, while no query waits for a commit."""
AWAITED_POLL_SECONDS = 0.005
"""While one does: the broker has the commit already, or is about to."""


class Progress:
    """`applied` is the sequence applied last; `obstacle` is why the read model goes no further, None while it does.

    `foreign` counts the messages up to there that are no commits and were stepped over.
    """

    def __init__(self) -> None:
        self.applied = 0
        self.foreign = 0
        self.obstacle: str | None = None
        self._waiting: list[tuple[int, asyncio.Future[bool]]] = []
        self._is_awaited = asyncio.Event()

    def advance(self, applied: int) -> None:
        """Record that everything up to `applied` can be queried; an advance clears the obstacle."""
        if applied > self.applied:
            self.obstacle = None
        self.applied = applied
        if self._waiting:
            self._settle(lambda seq: seq <= applied, True)

    def give_up_waiting(self, obstacle: str) -> None:
        """Record an obstacle: nothing more will be applied for now, so waiting queries end."""
        self.obstacle = obstacle
        self._settle(lambda _: True, False)

    async def pause(self) -> None:
        """Wait until the next read of the log's end is due: soon, while a query waits for a commit."""
        if self._waiting:
            await asyncio.sleep(AWAITED_POLL_SECONDS)
            return
        self._is_awaited.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                await self._is_awaited.wait()

    async def reach(self, seq: int, seconds: float) -> bool:
        """Whether `seq` is applied, now or within so many seconds."""
        if seq <= self.applied or self.obstacle is not None:
            return seq <= self.applied
        reached: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((seq, reached))
        self._is_awaited.set()
        try:
            return await asyncio.wait_for(reached, seconds)
        except TimeoutError:
            return False
        finally:
            self._waiting = [entry for entry in self._waiting if entry[1] is not reached]

    def _settle(self, concerned: Callable[[int], bool], outcome: bool) -> None:
        for seq, reached in self._waiting:
            if concerned(seq) and not reached.done():
                reached.set_result(outcome)
