"""The signed note format, to the letter."""

import base64

import pytest

from notary.signed_note import MalformedNote, Note, Signature, Signer, parse, parse_key, parse_signer

PRIVATE = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PUBLIC = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
SIGNED = TEXT + (
    "\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
"""The example of the format's first implementation (the Go project)."""


def test_the_published_example() -> None:
    """Our signature equals theirs, to the byte, and so do the keys."""
    signer = parse_signer(PRIVATE)
    assert signer.sign(TEXT) == SIGNED
    assert str(signer.key) == PUBLIC
    assert signer.export() == PRIVATE
    assert parse_key(PUBLIC).has_signed(parse(SIGNED))


def test_a_key_verifies_its_own_signatures_only() -> None:
    """Not another key's, not over another text, not a key's of the same name."""
    key, other = parse_key(PUBLIC), Signer.fresh("PeterNeumann")
    assert not key.has_signed(parse(other.sign(TEXT)))
    assert not other.key.has_signed(parse(SIGNED))
    assert not key.has_signed(parse(SIGNED.replace("problem is", "problem was")))
    cosigned = SIGNED + other.sign(TEXT).rpartition("\n\n")[2]
    assert key.has_signed(parse(cosigned))
    assert other.key.has_signed(parse(cosigned))


LINE = SIGNED.rpartition("\n\n")[2]


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ("", "not a signed note"),
        (TEXT, "not a signed note"),
        (SIGNED[:-1], "not a signed note"),
        (SIGNED.replace("\n\n", "\n"), "not a signed note"),
        (SIGNED.replace("you", "\tyou"), "not a signed note"),
        (SIGNED.replace("you", "\x1fyou"), "not a signed note"),
        (SIGNED.replace("— ", "- "), "not a signature line"),
        (SIGNED.replace("— PeterNeumann", "— Peter+Neumann"), "not a signature line"),
        (SIGNED.replace("— PeterNeumann", "— Peter\u2003Neumann"), "not a signature line"),
        (SIGNED.replace("— PeterNeumann", "— "), "not a signature line"),
        (SIGNED.replace("PeterNeumann ", "PeterNeumann"), "not a signature line"),
        (SIGNED + "\n", "not a sign"),
        (SIGNED + "more\n", "not a signature line"),
        (SIGNED.replace("x08go", "x 8go"), "not base64"),
        (SIGNED.replace("x08go", "xé8go"), "not base64"),
        (SIGNED.replace("AM=\n", "AN=\n"), "not base64 in its canonical form"),
        (TEXT + "\n— PeterNeumann x08gow==\n", "a signature that is too short"),
        (SIGNED + LINE, "one key signs it twice"),
        (SIGNED + "— PeterNeumann x08go/ZJ\n", "one key signs it twice"),
    ],
)
def test_a_malformed_note_is_refused(bad: str, told: str) -> None:
    """As a whole, with the reason."""
    with pytest.raises(MalformedNote, match=f"^{told}"):
        parse(bad)


def test_a_note_is_parsed_completely() -> None:
    """Blank lines in the text, a signature of one byte, two keys of one name, two names with one key hash."""
    lines = ["— Ann AAAAAAE=", "— Ann AAAAAQE=", "— Bob AAAAAAE="]
    note = parse("one\n\ntwo\n\n" + "".join(line + "\n" for line in lines))
    assert note == Note(
        "one\n\ntwo\n",
        (
            Signature("Ann", bytes(4), b"\x01"),
            Signature("Ann", bytes(3) + b"\x01", b"\x01"),
            Signature("Bob", bytes(4), b"\x01"),
        ),
    )


def key_of(material: bytes, name: str = "PeterNeumann", sign: str = "+") -> str:
    """A key of this material in writing, with another key's hash."""
    return f"{name}{sign}c74f20a3{sign}{base64.b64encode(material).decode()}"


NO_KEY = "not a key: NAME"
OTHER_HASH = "the key's hash is not that of the key"


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ("", NO_KEY),
        ("a+b", NO_KEY),
        (PUBLIC.replace("Peter", "P "), NO_KEY),
        (PUBLIC.replace("Peter", ""), OTHER_HASH),
        (PUBLIC.replace("PeterNeumann", ""), NO_KEY),
        (PUBLIC.replace("Peter", "\x7f"), NO_KEY),
        (PUBLIC[:-4], "not an Ed25519 key"),
        (PUBLIC[:-1], "not base64"),
        (key_of(b"\x01" + bytes(33)), "not an Ed25519 key"),
        (key_of(b"\x02" + bytes(32)), "not an Ed25519 key"),
        (key_of(b"\x01" + bytes(32), sign="-"), NO_KEY),
        (PUBLIC.replace("c74f", "c74e"), OTHER_HASH),
    ],
)
def test_a_malformed_key_is_refused(bad: str, told: str) -> None:
    """Private and public ones alike; the error does not repeat the key."""
    with pytest.raises(MalformedNote, match=f"^{told}"):
        parse_key(bad)
    with pytest.raises(MalformedNote, match=f"^{told}"):
        parse_signer("PRIVATE+KEY+" + bad)


def test_a_public_key_signs_nothing() -> None:
    with pytest.raises(MalformedNote, match=r"^not a private key$"):
        parse_signer(PUBLIC)


def test_every_fresh_key_is_different() -> None:
    """It has the given name and 32 random bytes."""
    one, other = Signer.fresh("heirloom/1"), Signer.fresh("heirloom/1")
    assert one.key.name == other.key.name == "heirloom/1" and one.key.public != other.key.public
    assert parse_signer(one.export()).key == one.key and parse_key(str(one.key)) == one.key
