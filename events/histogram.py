"""Counts sizes or durations in buckets, at a fraction of a microsecond each."""

from bisect import bisect_left


class Histogram:
    """`counts[i]` counts values up to `bounds[i]` and above the bound before; the last one counts all larger values."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many values were counted."""
        return sum(self.counts)
