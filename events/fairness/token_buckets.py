"""Rate limits by token buckets in memory, so that no requester fills the log or a processor core alone.

A bucket holds one second's worth of requests: after a pause so many may come at once, and then at the rate.
"""

from collections.abc import Hashable

from events.bounded_map import BoundedMap

MAX_BUCKETS = 20_000
"""More requesters than a replica answers in a second."""


class Bucket:
    """The bucket of one requester. `at` is when it held `left`, on a monotonic clock in seconds."""

    __slots__ = ("at", "left")

    def __init__(self) -> None:
        self.left = 0.0
        self.at = float("-inf")

    def try_take(self, rate: int, now: float) -> bool:
        """Count one more request; False if it is not within `rate` a second."""
        left = self.left + (now - self.at) * rate
        if left > rate:
            left = rate
        if left < 1:
            return False
        self.left, self.at = left - 1, now
        return True

    def owe(self) -> None:
        """Count one more request that is done in any case: the next ones wait for it."""
        self.left -= 1


class Buckets:
    """Keeps the `size` buckets that were used last.

    A requester whose bucket was removed begins again with a full one. Since a replica cannot use so many buckets in a
    second, a removed bucket had not been used for a second, and was full.
    """

    def __init__(self, size: int = MAX_BUCKETS) -> None:
        self._buckets: BoundedMap[Hashable, Bucket] = BoundedMap(size)

    def of(self, requester: Hashable) -> Bucket:
        """Return the bucket of that requester."""
        bucket = self._buckets.get(requester)
        if bucket is not None:
            self._buckets.move_to_end(requester)
            return bucket
        bucket = self._buckets[requester] = Bucket()
        return bucket
