"""What a batch of commits writes: statement → its parameters, in the order of the log."""

from typing import Any, TypeAlias

Rows: TypeAlias = dict[str, list[tuple[Any, ...]]]
