"""Base62 (0-9 A-Z a-z) of a fixed number of bytes, always as many characters."""

import math
from functools import cache

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PAIRS = [a + b for a in ALPHABET for b in ALPHABET]
_VALUES = {pair: value for value, pair in enumerate(_PAIRS)} | {one: value for value, one in enumerate(ALPHABET)}


@cache
def length(size: int) -> int:
    """How many characters `size` bytes take."""
    return math.ceil(size * 8 / math.log2(62))


def encode(data: bytes) -> str:
    """Big-endian, padded with zeros to `length(len(data))`."""
    return encode_int(int.from_bytes(data), length(len(data)))


def encode_int(number: int, width: int) -> str:
    """`number` in `width` characters; the number must fit."""
    pairs = []
    for _ in range((width + 1) // 2):
        number, pair = divmod(number, 3844)
        pairs.append(_PAIRS[pair])
    pairs.reverse()
    return "".join(pairs)[-width:]


def decode(text: str, size: int) -> bytes | None:
    """The `size` bytes that `encode` made `text` of; None for anything it would not have made."""
    width = length(size)
    if len(text) != width:
        return None
    try:
        odd = width % 2
        number = _VALUES[text[0]] if odd else 0
        for start in range(odd, width, 2):
            number = number * 3844 + _VALUES[text[start : start + 2]]
    except KeyError:
        return None
    return number.to_bytes(size) if number >> (size * 8) == 0 else None
