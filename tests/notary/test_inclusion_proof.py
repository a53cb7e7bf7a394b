"""Inclusion proofs: valid for each message of a log, and for nothing else."""

import hashlib
from typing import Any

import pytest
from msgspec.structs import replace

from notary.checkpoint import Checkpoint, sign
from notary.inclusion_proof import Proof, Prover, Unproven, check
from notary.merkle_tree import Tree, leaf_hash
from notary.signed_note import MalformedNote, Signer
from tests.notary.proofs import prove_inclusion

SIGNER, OTHER = Signer.fresh("heirloom/1"), Signer.fresh("heirloom/1")
BODIES = [str(number).encode() for number in range(7)]
LEAVES = [leaf_hash(body) for body in BODIES]


def checkpoint_of(size: int) -> Checkpoint:
    """A checkpoint over the first `size` messages."""
    return sign(SIGNER, Tree().add(*LEAVES[:size]))


def proof_of(seq: int, size: int) -> Proof:
    """The proof of message `seq` in the tree of that size, made by reading the log."""
    prover = Prover(seq, checkpoint_of(size))
    for body in BODIES[:size]:
        prover.read(body)
    return prover.proof()


@pytest.mark.parametrize("size", range(1, 8))
def test_each_message_is_proven(size: int) -> None:
    """The proof holds its place, digest and body; the body may also be passed separately."""
    checkpoint = checkpoint_of(size)
    for seq in range(1, size + 1):
        proof, body = proof_of(seq, size), BODIES[seq - 1]
        digest, hashes = hashlib.sha256(body).hexdigest(), tuple(prove_inclusion(LEAVES[:size], seq - 1, size))
        assert proof == Proof(
            seq=seq,
            leaf_index=seq - 1,
            tree_size=size,
            body_sha256=digest,
            leaf_hash=LEAVES[seq - 1],
            hashes=hashes,
            checkpoint=checkpoint.signed,
            v=1,
            body=body,
        )
        for keys in (None, [SIGNER.key], [OTHER.key, SIGNER.key]):
            assert check(proof, keys) == check(proof, keys, body) == checkpoint
            assert check(replace(proof, body=None), keys, body) == checkpoint


@pytest.mark.parametrize("seq", [-1, 0, 4])
def test_an_uncovered_sequence_is_not_proven(seq: int) -> None:
    """The error says how far the newest checkpoint goes."""
    told = f"^the newest checkpoint covers the log up to 3, not sequence {seq}$"
    with pytest.raises(Unproven, match=told):
        Prover(seq, checkpoint_of(3))


def test_a_log_other_than_the_signed_one_proves_nothing() -> None:
    """Whichever message is different or missing."""
    for bodies in ([*BODIES[:2], b"another"], [b"another", *BODIES[1:3]], BODIES[:2], []):
        prover = Prover(1, checkpoint_of(3))
        for body in bodies:
            prover.read(body)
        with pytest.raises(Unproven, match=r"^its hashes do not lead to the signed root$"):
            prover.proof()


GOOD = proof_of(2, 5)
APART = "its sequence, leaf index and tree size do not belong together"
NOT_LED = "its hashes do not lead to the signed root"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seq": 3}, APART),
        ({"leaf_index": 2}, APART),
        ({"tree_size": 6}, APART),
        ({"v": 2}, APART),
        ({"seq": 3, "leaf_index": 2}, NOT_LED),
        ({"hashes": GOOD.hashes[:-1]}, NOT_LED),
        ({"hashes": (*GOOD.hashes[:-1], LEAVES[0])}, NOT_LED),
        ({"body": b"another"}, "it is about another body"),
        ({"leaf_hash": LEAVES[2]}, "it is about another body"),
        ({"body_sha256": "0" * 64}, "it is about another body"),
        ({"body": None}, "it does not hold the message that it is about"),
        ({"checkpoint": checkpoint_of(4).signed}, APART),
        ({"checkpoint": sign(SIGNER, Tree().add(*LEAVES[1:6])).signed}, NOT_LED),
        ({"checkpoint": sign(OTHER, Tree().add(*LEAVES[:5])).signed}, "its checkpoint is signed by none"),
    ],
)
def test_an_altered_proof_is_refused(changes: dict[str, Any], told: str) -> None:
    """The error says what is wrong."""
    with pytest.raises(Unproven, match=f"^{told}"):
        check(replace(GOOD, **changes), [SIGNER.key])


def test_the_body_passed_separately_must_be_the_same() -> None:
    """Both bodies are checked."""
    for proof, body in ((GOOD, b"another"), (replace(GOOD, body=b"another"), BODIES[1])):
        with pytest.raises(Unproven, match="another body"):
            check(proof, None, body)


def test_a_proof_without_a_checkpoint_is_malformed() -> None:
    """Also where no keys are given."""
    with pytest.raises(MalformedNote):
        check(replace(GOOD, checkpoint="x"), None)
