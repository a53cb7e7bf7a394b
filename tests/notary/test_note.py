"""Signed notes and checkpoints by the letter of their formats."""

import pytest

from notary.checkpoint import read_checkpoint, sign
from notary.merkle import Tree, leaf_hash
from notary.note import MalformedNote, Signer, parse, parse_key, parse_signer

PRIVATE = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PUBLIC = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
SIGNED = TEXT + (
    "\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
"""The example of the format's first implementation (the Go project's)."""


def test_the_published_example() -> None:
    """Our signature is theirs, to the byte, and so are the keys."""
    signer = parse_signer(PRIVATE)
    assert signer.sign(TEXT) == SIGNED
    assert str(signer.key) == PUBLIC
    assert signer.export() == PRIVATE
    assert parse_key(PUBLIC).has_signed(parse(SIGNED))


def test_a_key_answers_for_itself_alone() -> None:
    """Neither another key's signature nor one over another text is taken, nor a key of the same name."""
    key, other = parse_key(PUBLIC), Signer.fresh("PeterNeumann")
    assert not key.has_signed(parse(other.sign(TEXT)))
    assert not other.key.has_signed(parse(SIGNED))
    assert not key.has_signed(parse(SIGNED.replace("problem is", "problem was")))
    cosigned = SIGNED + other.sign(TEXT).rpartition("\n\n")[2]
    assert key.has_signed(parse(cosigned))
    assert other.key.has_signed(parse(cosigned))


@pytest.mark.parametrize(
    "bad",
    [
        "",
        TEXT,
        SIGNED[:-1],
        SIGNED.replace("\n\n", "\n"),
        SIGNED.replace("— ", "- "),
        SIGNED.replace("you", "\tyou"),
        SIGNED.replace("x08go", "x 8go"),
        SIGNED.replace("AM=\n", "AN=\n"),
        SIGNED.replace("— PeterNeumann", "— Peter+Neumann"),
        SIGNED + "\n",
        SIGNED + "more\n",
        TEXT + "\n— PeterNeumann x08gow==\n",
    ],
)
def test_a_malformed_note_is_no_note(bad: str) -> None:
    """Refused as a whole."""
    with pytest.raises(MalformedNote):
        parse(bad)


@pytest.mark.parametrize("bad", ["", "a+b", PUBLIC[:-4], PUBLIC.replace("c74f", "c74e"), PUBLIC.replace("Peter", "P ")])
def test_a_malformed_key_is_no_key(bad: str) -> None:
    """Refused."""
    with pytest.raises(MalformedNote):
        parse_key(bad)
    with pytest.raises(MalformedNote):
        parse_signer("PRIVATE+KEY+" + bad)


def test_a_checkpoint() -> None:
    """Origin, size and root come back, and the signature is the origin's."""
    signer = Signer.fresh("heirloom/1")
    tree = Tree().add(leaf_hash(b"one"))
    checkpoint = sign(signer, tree)
    again = read_checkpoint(checkpoint.signed.encode())
    assert again == checkpoint == ("heirloom/1", 1, tree.root(), checkpoint.signed)
    assert again.is_signed_by([signer.key])
    assert not again.is_signed_by([Signer.fresh("heirloom/1").key])
    assert sign(signer, tree) == checkpoint
    foreign = read_checkpoint(Signer.fresh("x").sign(parse(checkpoint.signed).text).encode())
    assert not foreign.is_signed_by([signer.key])


@pytest.mark.parametrize(
    "text", ["a\n1\n", "a\n01\nAA==\n", "a\n-1\nAA==\n", "a\n1\nAA==\n", "a\n\n1\nAA==\n", "a\n\u0661\nAA==\n"]
)
def test_a_malformed_checkpoint_is_none(text: str) -> None:
    """Even when it is signed."""
    with pytest.raises(MalformedNote):
        read_checkpoint(Signer.fresh("a").sign(text).encode())
    with pytest.raises(MalformedNote):
        read_checkpoint(b"\xff")
