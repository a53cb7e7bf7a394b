"""Proofs of RFC 6962 §2.1, made from all leaf hashes. Those of consistency serve the tests alone."""

from collections.abc import Iterable, Sequence

from notary.merkle_tree import PathReader, Range, inclusion_path, node_hash


def consistency_path(old: int, size: int) -> list[Range]:
    """The subtrees whose roots prove that the tree of `size` begins with that of `old`: PROOF of RFC 6962 §2.1.2."""
    if not 0 < old <= size:
        raise ValueError(f"a tree of {size} has no beginning of {old}")
    path, start, stop = [], 0, size
    while old != stop:
        middle = start + _split(stop - start)
        if old <= middle:
            path.append((middle, stop))
            stop = middle
        else:
            path.append((start, middle))
            start = middle
    # the verifier knows the old tree's own root, but not that of a part
    return ([] if start == 0 else [(start, stop)]) + path[::-1]


def prove_inclusion(leaves: Iterable[bytes], index: int, size: int) -> list[bytes]:
    """Make the audit path of RFC 6962 §2.1.1 from all `size` leaf hashes."""
    return _prove(leaves, inclusion_path(index, size))


def prove_consistency(leaves: Iterable[bytes], old: int, size: int) -> list[bytes]:
    """Make the consistency proof of RFC 6962 §2.1.2 from all `size` leaf hashes."""
    return _prove(leaves, consistency_path(old, size))


def continues(old_root: bytes, old: int, root: bytes, size: int, hashes: Sequence[bytes]) -> bool:
    """Whether the proof shows that the tree of `size` leaves begins with that of `old` leaves (RFC 6962 §2.1.2)."""
    if not 0 < old <= size:
        return False
    path, given = consistency_path(old, size), list(hashes)
    if len(given) != len(path):
        return False
    if path and path[0][1] == old:
        before = after = given.pop(0)
        path.pop(0)
    else:
        before = after = old_root  # the old tree is a whole subtree of the new one
    for (start, _), hash in zip(path, given, strict=True):
        if start < old:
            before, after = node_hash(hash, before), node_hash(hash, after)
        else:
            after = node_hash(after, hash)
    return before == old_root and after == root


def _prove(leaves: Iterable[bytes], path: list[Range]) -> list[bytes]:
    reader = PathReader(path)
    for leaf in leaves:
        reader.add(leaf)
    return reader.hashes()


def _split(size: int) -> int:
    """The largest power of two below `size`: where RFC 6962 §2.1 divides a tree."""
    return 1 << (size - 1).bit_length() - 1
