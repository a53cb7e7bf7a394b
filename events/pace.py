"""Appending alone or together: whichever gets more commits acknowledged here and now.

A batch costs the broker about the same whatever its size, and how much that is depends on its disk, its replicas and
its settings, none of which it tells. What a single append costs it cannot be told from its acknowledgement either,
which waits for us more often than we for it. So both ways are tried in turn, and the faster one is kept for a while.
"""

from collections.abc import Callable

WINDOW_SECONDS = 0.1
"""One measurement, and how long the slower way is suffered at a time."""
TRUST_SECONDS = 4
"""How long the faster way is kept before the other one is tried again."""
CROWD = 8
"""With fewer appends at once, a batch was slower on every broker that was measured."""
MARGIN = 1.05
"""Together must be faster by this to be chosen: alone, nobody waits for others."""


class Pace:
    """Told of every acknowledgement, it says whether what waits should go `together`. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.together = False
        self._clock = clock
        self._rates = {False: 0.0, True: 0.0}
        self._try_other_at = 0.0
        self._began, self._commits, self._crowd = clock(), 0, 0

    def acknowledged(self, commits: int, under_way: int) -> None:
        """So many commits were acknowledged, and so many appends had been waiting for that."""
        self._commits += commits
        self._crowd = max(self._crowd, under_way)
        now = self._clock()
        if now - self._began >= WINDOW_SECONDS:
            self._conclude(now)
            self._began, self._commits, self._crowd = now, 0, 0

    def _conclude(self, now: float) -> None:
        if self._crowd < CROWD or now - self._began > 2 * WINDOW_SECONDS:
            self.together = False
            self._rates = {False: 0.0, True: 0.0}
            self._try_other_at = 0.0
            return
        rate, known = self._commits / (now - self._began), self._rates[self.together]
        self._rates[self.together] = (known + rate) / 2 if known else rate
        if now >= self._try_other_at:
            self._try_other_at = now + TRUST_SECONDS
            self.together = not self.together
        else:
            self.together = self._rates[True] > self._rates[False] * MARGIN
