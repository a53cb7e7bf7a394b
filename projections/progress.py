"""How far the read model is, and waiting for it."""

import asyncio
from collections.abc import Callable

PATIENCE_SECONDS = 5.0
"""How long a question waits for the sequence it is asked with (`min_seq`)."""


class Progress:
    """`applied` is the sequence applied last; `obstacle` says why it goes no further, if something is in the way.

    `foreign` counts the messages up to there that are no commits and were stepped over.
    """

    def __init__(self) -> None:
        self.applied = 0
        self.foreign = 0
        self.obstacle: str | None = None
        self._waiting: list[tuple[int, asyncio.Future[bool]]] = []

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

    async def reach(self, seq: int, seconds: float) -> bool:
        """Whether `seq` is applied, now or within that time."""
        if seq <= self.applied or self.obstacle is not None:
            return seq <= self.applied
        reached: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((seq, reached))
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
