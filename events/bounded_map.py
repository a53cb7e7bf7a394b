"""A map of bounded size, for entries whose number strangers could raise."""

from collections import OrderedDict
from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class BoundedMap(OrderedDict[Key, Value]):
    """Keeps the `size` entries that were set last, or moved to the end last (`move_to_end`), and forgets the others.

    Reading moves nothing: a caller that wants the least recently *used* entry to go first moves what it reads.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def __setitem__(self, key: Key, value: Value) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > self._size:
            self.popitem(last=False)
