"""How far the read model is, and waiting for it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

PATIENCE_SECONDS = 5.0
"""How long a question waits for the sequence it is asked with (`min_seq`)."""
LOOK_SECONDS = 0.2
"""Between two looks at the end of the log, where nobody waits for what is there."""
AWAITED_SECONDS = 0.005
"""Where somebody does: the broker has it already, or will at once."""


class Progress:
    """`applied` is the sequence applied last; `obstacle` says why it goes no further, if something is in the way.

    `foreign` counts the messages up to there that are no commits and were stepped over.
    """

    def __init__(self) -> None:
        self.applied = 0
        self.foreign = 0
        self.obstacle: str | None = None
        self._waiting: list[tuple[int, asyncio.Future[bool]]] = []
        self._is_awaited = asyncio.Event()

    def advance(self, applied: int) -> None:
        """Everything up to `applied` can be queried now; what was in the way is not, if it goes on."""
        if applied > self.applied:
            self.obstacle = None
        self.applied = applied
        if self._waiting:
            self._settle(lambda seq: seq <= applied, True)

    def give_up_waiting(self, obstacle: str) -> None:
        """Nothing more will be applied, for now at least."""
        self.obstacle = obstacle
        self._settle(lambda _: True, False)

    async def pause(self) -> None:
        """Until it is time to look again whether the log goes on: soon, as long as somebody waits for that."""
        if self._waiting:
            await asyncio.sleep(AWAITED_SECONDS)
            return
        self._is_awaited.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await self._is_awaited.wait()

    async def reach(self, seq: int, seconds: float) -> bool:
        """Whether `seq` is applied, now or within that time."""
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
