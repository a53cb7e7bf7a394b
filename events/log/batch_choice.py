"""Appending alone or together: whichever gets more commits acknowledged here and now.

A batch costs the broker about the same whatever its size, and how much that is depends on its disk, its replicas and
its settings, none of which it tells. What a single append costs it cannot be told from its acknowledgement either,
which waits for us more often than we for it. So both ways are tried in turn, and the faster one is kept for a while.
"""

from collections.abc import Callable

WINDOW_SECONDS = 0.04
PHASES = (False, False, True, True) * 3
"""Window by window, so that a load that grows or shrinks meanwhile favours neither way. Of two windows alike only the
second counts: in the first, what was sent the other way still comes home."""
COUNTED = range(1, len(PHASES), 2)
TRUST_SECONDS = 8
"""How long what a trial has shown is kept."""
MIN_CONCURRENCY = 8
"""With fewer appends at once, a batch was slower on every broker that was measured."""
MARGIN = 1.05
"""Together must be faster by this to be chosen: alone, nobody waits for others."""


class BatchChoice:
    """Told of every acknowledgement, it says whether what waits should go `together`. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.together = False
        self._clock = clock
        self._began, self._commits, self._crowd = clock(), 0, 0
        self._rates = {False: 0.0, True: 0.0}
        self._step = -1
        self._trusted_until = 0.0

    def acknowledged(self, commits: int, under_way: int) -> None:
        """So many commits were acknowledged, and so many appends had been waiting for that."""
        self._commits += commits
        self._crowd = max(self._crowd, under_way)
        now = self._clock()
        if now - self._began >= WINDOW_SECONDS:
            self._conclude(now)
            self._began, self._commits, self._crowd = now, 0, 0

    def _conclude(self, now: float) -> None:
        """A window is over. One that began before the crowd came says nothing, nor does one that nobody filled."""
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
        """Go on to a step of the trial: -1 waits for a crowd, the one after the last keeps what was faster."""
        self._step = step
        if step < 0:
            self.together = False
        elif step < len(PHASES):
            self._rates = self._rates if step else {False: 0.0, True: 0.0}
            self.together = PHASES[step]
        else:
            self.together = self._rates[True] > self._rates[False] * MARGIN
