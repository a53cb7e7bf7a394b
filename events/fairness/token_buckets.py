"""How much somebody may ask, so that nobody fills the log or a processor core alone: token buckets, in memory.

A bucket holds one second's worth: so much at once after a rest, and the rate from then on.
"""

from collections.abc import Hashable

from events.bounded_map import BoundedMap

MAX_BUCKETS = 20_000
"""More than a replica answers in a second."""


class Bucket:
    """One asker's. `at` is when it held `left`, on a clock of seconds that never goes back."""

    __slots__ = ("at", "left")

    def __init__(self) -> None:
        self.left = 0.0
        self.at = float("-inf")

    def takes(self, rate: int, now: float) -> bool:
        """Whether one more request is within `rate` a second; then it is counted."""
        left = self.left + (now - self.at) * rate
        if left > rate:
            left = rate
        if left < 1:
            return False
        self.left, self.at = left - 1, now
        return True


class Buckets:
    """The `size` buckets that were used last.

    An asker whose bucket was forgotten begins anew with a full one. Since more are kept than a replica can answer in a
    second, a forgotten bucket had not been used for a second, and was full.
    """

    def __init__(self, size: int = MAX_BUCKETS) -> None:
        self._buckets: BoundedMap[Hashable, Bucket] = BoundedMap(size)

    def of(self, asker: Hashable) -> Bucket:
        """That asker's bucket."""
        bucket = self._buckets.get(asker)
        if bucket is not None:
            self._buckets.move_to_end(asker)
            return bucket
        bucket = self._buckets[asker] = Bucket()
        return bucket
