"""Base62 (0-9 A-Z a-z) of fixed width: as many characters for every value of the same size."""

import math
from functools import cache

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PAIRS = [a + b for a in ALPHABET for b in ALPHABET]
_VALUES = {character: value for value, character in enumerate(ALPHABET)}


@cache
def length(size: int) -> int:
    """The number of characters for `size` bytes."""
    return math.ceil(size * 8 / math.log2(62))


def encode(data: bytes) -> str:
    """Encode `data` as a big-endian number in `length(len(data))` characters."""
    return encode_int(int.from_bytes(data), length(len(data)))


def encode_int(number: int, width: int) -> str:
    """Encode `number` in `width` characters, which must suffice."""
    text = ""
    for _ in range(width // 2):
        number, pair = divmod(number, 3844)
        text = _PAIRS[pair] + text
    return ALPHABET[number] + text if width % 2 else text


def decode_int(text: str) -> int | None:
    """Decode a text of `encode_int`; None if it has a character that is none of base62."""
    number = 0
    for character in text:
        value = _VALUES.get(character)
        if value is None:
            return None
        number = number * 62 + value
    return number
