"""Merkle trees as in RFC 6962 §2.1, built leaf by leaf, and proofs over them.

Hashes are SHA-256, 32 bytes. A tree is stored as its right edge alone: the roots of its perfect subtrees, largest
first. There are at most log2(size) + 1 of them, so a tree of any length fits in a kilobyte.
"""

import hashlib
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

EMPTY_ROOT = hashlib.sha256().digest()

Range = tuple[int, int]
"""The leaves from the first index up to, but not including, the second."""


def leaf_hash(body: bytes) -> bytes:
    """SHA-256(0x00 ‖ body)."""
    return hashlib.sha256(b"\x00" + body).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 ‖ left ‖ right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree(NamedTuple):
    """The tree over the first `size` leaves, as its right `edge`. A value: adding leaves returns another tree."""

    size: int = 0
    edge: tuple[bytes, ...] = ()

    def add(self, *leaves: bytes) -> "Tree":
        """Add leaf hashes level by level: two neighbours make one node of the next level.

        The left neighbour of the first may be on the edge. If their number is odd, the last one goes to the edge.
        """
        edge, size, level, grown = list(self.edge), self.size, list(leaves), []
        while level:
            if size & 1:
                level.insert(0, edge.pop())
            if len(level) & 1:
                grown.append(level.pop())
            level = [node_hash(left, right) for left, right in zip(level[::2], level[1::2], strict=True)]
            size >>= 1
        return Tree(self.size + len(leaves), (*edge, *reversed(grown)))

    def root(self) -> bytes:
        """The root hash: MTH of RFC 6962 §2.1."""
        if not self.edge:
            return EMPTY_ROOT
        return reduce(lambda right, left: node_hash(left, right), reversed(self.edge))


def inclusion_path(index: int, size: int) -> list[Range]:
    """The subtrees whose roots prove that leaf `index` is in the tree of `size`: PATH of RFC 6962 §2.1.1."""
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} in a tree of {size}")
    path, start, stop = [], 0, size
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            path.append((middle, stop))
            stop = middle
        else:
            path.append((start, middle))
            start = middle
    return path[::-1]


class PathReader:
    """Computes the roots of a path's subtrees from the leaf hashes in order, in one pass over the log."""

    def __init__(self, path: Sequence[Range]) -> None:
        self._path = path
        self._trees = {subtree: Tree() for subtree in path}
        self._later = sorted(path, reverse=True)
        self._next = 0

    def add(self, leaf: bytes) -> None:
        """Read the next leaf hash."""
        while self._later and self._later[-1][1] <= self._next:
            self._later.pop()
        if self._later and self._later[-1][0] <= self._next:
            self._trees[self._later[-1]] = self._trees[self._later[-1]].add(leaf)
        self._next += 1

    def hashes(self) -> list[bytes]:
        """Return the proof, in the path's order."""
        return [self._trees[subtree].root() for subtree in self._path]


def includes(root: bytes, size: int, index: int, leaf: bytes, hashes: Sequence[bytes]) -> bool:
    """Whether the proof leads from the leaf hash at `index` to the root of the tree of `size`."""
    if not 0 <= index < size:
        return False
    path, given = inclusion_path(index, size), list(hashes)
    if len(given) != len(path):
        return False
    for (start, _), hash in zip(path, given, strict=True):
        leaf = node_hash(hash, leaf) if start < index else node_hash(leaf, hash)
    return leaf == root


def _split(size: int) -> int:
    """The largest power of two below `size`: where RFC 6962 §2.1 divides a tree."""
    return 1 << (size - 1).bit_length() - 1
