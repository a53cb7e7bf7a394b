"""The rows that a batch of commits writes: maps a statement to its parameters, in the order of the log."""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any


class Rows(dict[str, list[Sequence[Any]]]):
    """Maps a statement to its rows. `counts` are rows that later commits of the batch add to, by what they count."""

    def __init__(self, statements: Iterable[str]) -> None:
        super().__init__((statement, []) for statement in statements)
        self.counts: dict[Hashable, list[int]] = {}
