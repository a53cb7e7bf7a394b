"""What a batch of commits writes: statement → its parameters, in the order of the log."""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any


class Rows(dict[str, list[Sequence[Any]]]):
    """`counts` are rows of the batch that later commits still add to, one for each thing that is counted."""

    def __init__(self, statements: Iterable[str]) -> None:
        super().__init__((statement, []) for statement in statements)
        self.counts: dict[Hashable, list[int]] = {}
