"""Chooses between single appends and batches: whichever gets more commits acknowledged here and now.

A batch costs the broker about the same whatever its size. How much depends on its disk, copies and settings, which
are unknown here. The acknowledgement of a single append does not show its cost either, because it waits for this
process more often than this process waits for it. So both ways are tried in turn, and the faster one is kept a while.
"""

from collections.abc import Callable

WINDOW_SECONDS = 0.04
PHASES = (False, False, True, True) * 3
"""The windows of a trial: whether to batch in each. They alternate, so that a growing or shrinking load favours neither
way. Of two equal windows only the second counts: the first still has acknowledgements of the other way."""
COUNTED = range(1, len(PHASES), 2)
TRUST_SECONDS = 8
"""How long the result of a trial is kept."""
MIN_CONCURRENCY = 8
"""With fewer appends at once, a batch was slower on every broker that was measured."""
MARGIN = 1.05
"""The factor by which batches must be faster to be chosen: a single append waits for no other."""


class BatchChoice:
    """Decides by the acknowledgements whether waiting appends should go `together`. `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.together = False
        self._clock = clock
        self._began, self._commits, self._crowd = clock(), 0, 0
        self._rates = {False: 0.0, True: 0.0}
        self._step = -1
        self._trusted_until = 0.0

    def acknowledged(self, commits: int, under_way: int) -> None:
        """Count `commits` acknowledged at once, while `under_way` appends had been waiting."""
        self._commits += commits
        self._crowd = max(self._crowd, under_way)
        now = self._clock()
        if now - self._began >= WINDOW_SECONDS:
            self._conclude(now)
            self._began, self._commits, self._crowd = now, 0, 0

    def _conclude(self, now: float) -> None:
        """End a window. It counts only if enough appends were under way, and if it did not last much too long."""
        seconds = now - self._began
        if self._crowd < MIN_CONCURRENCY or seconds > 3 * WINDOW_SECONDS:
            self._try(-1)
        elif self._step < len(PHASES):
            if self._step in COUNTED:
                self._rates[self.together] += self._commits / seconds
            self._try(self._step + 1)
            self._trusted_until = now + TRUST_SECONDS
        elif now >= self._trusted_until:
            self._try(0)

    def _try(self, step: int) -> None:
        """Go to a step of the trial: -1 waits for enough appends at once, the last one keeps the faster way."""
        self._step = step
        if step < 0:
            self.together = False
        elif step < len(PHASES):
            self._rates = self._rates if step else {False: 0.0, True: 0.0}
            self.together = PHASES[step]
        else:
            self.together = self._rates[True] > self._rates[False] * MARGIN
