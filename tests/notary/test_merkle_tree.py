"""Trees and proofs against the published vectors and against another implementation."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree, verify_inclusion
from pymerkle.proof import ConsistencyProof, InclusionProof

from notary.merkle_tree import EMPTY_ROOT, Tree, includes, inclusion_path, leaf_hash, node_hash
from tests.notary.proofs import consistency_path, continues, prove_consistency, prove_inclusion

BODIES = [
    bytes.fromhex(body)
    for body in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
"""The roots of the Certificate Transparency project's own tests, by size."""

LEAVES = [leaf_hash(str(number).encode()) for number in range(300)]
TREES = list(accumulate(LEAVES, Tree.add, initial=Tree()))
THEIRS = InmemoryTree(algorithm="sha256")
for number in range(300):
    THEIRS.append_entry(str(number).encode())

sizes = st.integers(1, 300)


def test_the_published_vectors() -> None:
    """Every size from zero to eight."""
    trees = list(accumulate(map(leaf_hash, BODIES), Tree.add, initial=Tree()))
    assert [tree.root().hex() for tree in trees[1:]] == ROOTS
    assert trees[0].root() == EMPTY_ROOT
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@given(sizes)
def test_a_tree_equals_theirs(size: int) -> None:
    """The same root; the edge has one hash for each one-bit of the size."""
    tree = TREES[size]
    assert tree.root() == THEIRS.get_root(size)
    assert len(tree.edge) == size.bit_count()


@given(sizes.flatmap(lambda size: st.tuples(st.integers(0, size - 1), st.just(size))), st.data())
def test_inclusion(place: tuple[int, int], data: st.DataObject) -> None:
    """Our proof verifies there, their proof verifies here, an altered proof verifies nowhere."""
    index, size = place
    root, leaf = THEIRS.get_root(size), LEAVES[index]
    proof = prove_inclusion(LEAVES[:size], index, size)
    theirs = THEIRS.prove_inclusion(index + 1, size)
    ours = InclusionProof("sha256", True, size, index + 1, theirs.rule, [leaf, *proof])
    verify_inclusion(leaf, root, ours, index=index + 1, size=size, algorithm="sha256")
    assert includes(root, size, index, leaf, theirs.path[1:])
    assert not includes(root, size, index, LEAVES[index - 1] if size > 1 else EMPTY_ROOT, proof)
    assert not includes(root, size, index, leaf, [*proof, EMPTY_ROOT])
    if proof:
        n = data.draw(st.integers(0, len(proof) - 1))
        assert not includes(root, size, index, leaf, [*proof[:n], EMPTY_ROOT, *proof[n + 1 :]])
        assert not includes(root, size, index, leaf, proof[:-1])


@given(sizes.flatmap(lambda size: st.tuples(st.integers(1, size), st.just(size))), st.data())
def test_consistency(pair: tuple[int, int], data: st.DataObject) -> None:
    """Their hashing leads from our proof to both roots; an altered proof does not verify."""
    old, size = pair
    old_root, root = THEIRS.get_root(old), THEIRS.get_root(size)
    proof = prove_consistency(LEAVES[:size], old, size)
    path = consistency_path(old, size)
    begins = bool(path) and path[0][0] > 0 and path[0][1] == old
    hashes = proof if begins else [old_root, *proof]
    sides = [int(start < old) for start, _ in (path[1:] if begins else path)]
    theirs = ConsistencyProof("sha256", True, size, old, [0, *sides], [1, *sides], hashes)
    # theirs folds from the right, so its rule resolves the whole path
    assert theirs.retrieve_prior_state() == old_root
    assert ConsistencyProof("sha256", True, size, old, [*sides, 0], [], hashes).compute_root() == root
    assert continues(old_root, old, root, size, proof)
    assert not continues(root if old < size else EMPTY_ROOT, old, root, size, proof)
    if proof:
        n = data.draw(st.integers(0, len(proof) - 1))
        assert not continues(old_root, old, root, size, [*proof[:n], EMPTY_ROOT, *proof[n + 1 :]])
        assert not continues(old_root, old, root, size, proof[:-1])


@pytest.mark.parametrize(("old", "size"), [(0, 3), (4, 3), (-1, 3)])
def test_sizes_that_cannot_be_proven(old: int, size: int) -> None:
    """They are refused, both to prove and to check."""
    assert not continues(EMPTY_ROOT, old, TREES[3].root(), size, [])
    with pytest.raises(ValueError, match="beginning"):
        prove_consistency(LEAVES[:3], old, size)
    assert not includes(TREES[3].root(), 3, 3, LEAVES[3], [])


def largest_power_below(size: int) -> int:
    """RFC 6962 §2.1: k < n <= 2k."""
    return max(1 << n for n in range(10) if 1 << n < size)


def mth(leaves: list[bytes]) -> bytes:
    """RFC 6962 §2.1, word for word."""
    if len(leaves) == 1:
        return leaves[0]
    k = largest_power_below(len(leaves))
    return node_hash(mth(leaves[:k]), mth(leaves[k:]))


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 6962 §2.1.1, word for word."""
    if len(leaves) == 1:
        return []
    k = largest_power_below(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: list[bytes], complete: bool = True) -> list[bytes]:
    """RFC 6962 §2.1.2, word for word."""
    if m == len(leaves):
        return [] if complete else [mth(leaves)]
    k = largest_power_below(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], complete), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


@pytest.mark.parametrize("size", range(1, 18))
def test_every_proof_of_a_small_tree_is_as_in_the_rfc(size: int) -> None:
    """For each leaf and each earlier size; a proof does not verify for anything else."""
    leaves = LEAVES[:size]
    root = mth(leaves)
    assert Tree().add(*leaves) == TREES[size] and TREES[size].root() == root
    for known in range(size):
        assert TREES[known].add(*leaves[known:]) == TREES[size], "the number of leaves added at once does not matter"
    for index, leaf in enumerate(leaves):
        proof = prove_inclusion(leaves, index, size)
        assert proof == path(index, leaves) and includes(root, size, index, leaf, tuple(proof))
        assert [index == other for other in range(-1, size + 1)] == [
            includes(root, size, other, leaf, proof) for other in range(-1, size + 1)
        ]
        assert not includes(EMPTY_ROOT, size, index, leaf, proof)
    for old in range(1, size + 1):
        proof, old_root = prove_consistency(leaves, old, size), mth(leaves[:old])
        assert proof == subproof(old, leaves) and continues(old_root, old, root, size, tuple(proof))
        assert not continues(old_root, old, EMPTY_ROOT, size, proof)
        assert not continues(EMPTY_ROOT, old, root, size, proof)
        assert not continues(old_root, old, root, size, [*proof, EMPTY_ROOT])


@pytest.mark.parametrize("index", [-1, 3, 4])
def test_a_leaf_that_does_not_exist(index: int) -> None:
    """The error names it, and how many leaves there are."""
    with pytest.raises(ValueError, match=f"^there is no leaf {index} in a tree of 3$"):
        inclusion_path(index, 3)
    with pytest.raises(ValueError, match=r"^a tree of 3 has no beginning of 4$"):
        consistency_path(4, 3)


def test_leaves_after_the_tree_change_no_proof() -> None:
    """A reader may pass leaves beyond the tree's size."""
    for size in range(1, 9):
        for index in range(size):
            assert prove_inclusion(LEAVES[:20], index, size) == path(index, LEAVES[:size])
