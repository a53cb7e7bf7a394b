"""Counting how large or how long something was, for a fraction of a microsecond each time."""

from bisect import bisect_left


class Histogram:
    """`counts[i]` values were at most `bounds[i]` and above the bound before; the last count is of what is larger."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.counts)
