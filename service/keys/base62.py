"""Base62 (0-9 A-Z a-z) of a fixed number of bytes, always as many characters."""

import math
from functools import cache

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PAIRS = [a + b for a in ALPHABET for b in ALPHABET]
_VALUES = {character: value for value, character in enumerate(ALPHABET)}


@cache
def length(size: int) -> int:
    """How many characters `size` bytes take."""
    return math.ceil(size * 8 / math.log2(62))


def encode(data: bytes) -> str:
    """Big-endian, padded with zeros to `length(len(data))`."""
    return encode_int(int.from_bytes(data), length(len(data)))


def encode_int(number: int, width: int) -> str:
    """`number` in `width` characters; the number must fit."""
    text = ""
    for _ in range(width // 2):
        number, pair = divmod(number, 3844)
        text = _PAIRS[pair] + text
    return ALPHABET[number] + text if width % 2 else text


def decode_int(text: str) -> int | None:
    """The number that `encode_int` made `text` of; None for anything it would not have made."""
    number = 0
    for character in text:
        value = _VALUES.get(character)
        if value is None:
            return None
        number = number * 62 + value
    return number
