"""Base64url without padding (RFC 7515 §2 and appendix C)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import base64url


def test_the_example_of_the_rfc() -> None:
    """RFC 7515, appendix C."""
    assert base64url.encode(bytes((3, 236, 255, 224, 193))) == b"A-z_4ME"


def test_only_padding_is_removed() -> None:
    """RFC 7515 §2: all trailing `=` are omitted, and no other character."""
    assert (base64url.encode(bytes([0, 0, 23])), base64url.encode(bytes(1)), base64url.encode(bytes(2))) == (
        b"AAAX",
        b"AA",
        b"AAA",
    )


@given(data=st.binary(max_size=64))
def test_every_byte_string_round_trips(data: bytes) -> None:
    """By both ways of decoding."""
    text = base64url.encode(data)
    assert b"=" not in text
    assert base64url.decode(text) == base64url.decode_exactly(text) == data


@pytest.mark.parametrize("text", [b"QU I", b"QUI\n", b"Q\nU\nI\n", b"QUI=", b"QUI====", b"QUJ"])
def test_other_characters_and_spare_bits_are_skipped(text: bytes) -> None:
    """Wherever they stand, and however many they are: only the base64url characters count for the length."""
    assert base64url.decode(text) == b"AB"


@pytest.mark.parametrize("text", [b"A", b"A\n\n\n", b"A-z_4"])
def test_a_single_character_at_the_end_is_refused(text: bytes) -> None:
    """It holds six bits, which are no byte."""
    with pytest.raises(ValueError, match="number of data characters"):
        base64url.decode(text)


@pytest.mark.parametrize("other", [b"A-z_4MF", b"A-z_4ME=", b"A+z/4ME", b"A-z_4ME\n", b"A-z_4M E", b"=A-z_4ME"])
def test_another_text_of_the_same_bytes_is_refused(other: bytes) -> None:
    """Spare bits, padding, the other alphabet, and white space."""
    with pytest.raises(ValueError, match=r"^not canonical base64url$"):
        base64url.decode_exactly(other)
