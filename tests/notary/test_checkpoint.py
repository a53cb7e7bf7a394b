"""The checkpoint format, to the letter."""

import base64

import pytest

from notary.checkpoint import MAX_BYTES, read_checkpoint, sign
from notary.merkle_tree import Tree, leaf_hash
from notary.signed_note import MalformedNote, Signer, parse

SIGNER = Signer.fresh("a")
ROOT = base64.b64encode(bytes(32)).decode()


def test_a_checkpoint() -> None:
    """Origin, size and root are read back, and only the origin's key has signed."""
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


def test_one_of_several_keys_is_enough() -> None:
    """Only keys of the checkpoint's origin count."""
    checkpoint, other = sign(SIGNER, Tree()), Signer.fresh("a")
    assert checkpoint.is_signed_by([other.key, SIGNER.key]) and checkpoint.is_signed_by([SIGNER.key, other.key])
    assert not checkpoint.is_signed_by([])
    assert not checkpoint._replace(origin="b").is_signed_by([SIGNER.key])


@pytest.mark.parametrize("size", ["0", "1", "10", "9" * 19])
@pytest.mark.parametrize("more", ["", "an extension\n", "one\ntwo\n"])
def test_a_checkpoint_of_any_size_is_read(size: str, more: str) -> None:
    """Extension lines are accepted and ignored."""
    signed = SIGNER.sign(f"a\n{size}\n{ROOT}\n{more}")
    assert read_checkpoint(signed.encode()) == ("a", int(size), bytes(32), signed)


THREE = "a checkpoint has three lines: origin, size and root"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a\n1\n", THREE),
        (f"a\n\n1\n{ROOT}\n", THREE),
        (f"a\n1\n{ROOT}\n\n", THREE),
        (f"\n1\n{ROOT}\n", THREE),
        *[
            (f"a\n{size}\n{ROOT}\n", "the second line is no tree size")
            for size in ("01", "-1", "\u0661", "x", "9" * 20)
        ],
        ("a\n1\nAA==\n", "the third line is no SHA-256 hash"),
        (f"a\n1\n{base64.b64encode(bytes(33)).decode()}\n", "the third line is no SHA-256 hash"),
        ("a\n1\nAA=\n", "not base64"),
    ],
)
def test_a_malformed_checkpoint_is_refused(text: str, told: str) -> None:
    """Also with a valid signature."""
    with pytest.raises(MalformedNote, match=f"^{told}"):
        read_checkpoint(SIGNER.sign(text).encode())


def test_a_checkpoint_is_utf_8() -> None:
    with pytest.raises(MalformedNote, match=r"^not UTF-8$"):
        read_checkpoint(b"\xff")


def test_a_checkpoint_that_is_too_long_is_refused() -> None:
    """Everybody who may write to the log could publish a huge one."""
    bare = len(SIGNER.sign(f"a\n1\n{ROOT}\n\n"))
    for more, is_read in ((0, True), (1, False)):
        body = SIGNER.sign(f"a\n1\n{ROOT}\n" + "x" * (MAX_BYTES - bare - 2 + more) + "\n").encode()
        assert len(body) == MAX_BYTES + more
        if is_read:
            assert read_checkpoint(body).size == 1
        else:
            with pytest.raises(MalformedNote, match=f"^longer than {MAX_BYTES} bytes$"):
                read_checkpoint(body)
