"""The size of a snapshot after unpacking, read from its frames: the broker would write until the disk is full.

A snapshot is an S2 stream (the framing format of Snappy): frames of a type, a length of three bytes, and content. A
frame of data begins with a checksum of four bytes; compressed content then gives its unpacked size, as a varint.
"""

from collections.abc import Iterable

COMPRESSED, PLAIN = 0x00, 0x01
CHECKSUM_BYTES = 4
HEADER_BYTES = 4
VARINT_BYTES = 5


def unpacked_size(pieces: Iterable[bytes]) -> int:
    """Bytes. Keeps only the beginning of a frame in memory; a truncated frame counts as far as it goes."""
    total, head, skip = 0, b"", 0
    for piece in pieces:
        start = 0
        while start < len(piece):
            if skip:
                step = min(skip, len(piece) - start)
                start, skip = start + step, skip - step
                continue
            wanted = _head_bytes(head) - len(head)
            head += piece[start : start + wanted]
            start += wanted
            if len(head) == _head_bytes(head):
                total += _size(head)
                skip = _length(head) - (len(head) - HEADER_BYTES)
                head = b""
    return total


def _head_bytes(head: bytes) -> int:
    """How much of a frame must be read to know its size."""
    if len(head) < HEADER_BYTES or head[0] != COMPRESSED:
        return HEADER_BYTES
    return HEADER_BYTES + min(_length(head), CHECKSUM_BYTES + VARINT_BYTES)


def _length(head: bytes) -> int:
    return int.from_bytes(head[1:HEADER_BYTES], "little")


def _size(head: bytes) -> int:
    if head[0] == PLAIN:
        return max(_length(head) - CHECKSUM_BYTES, 0)
    return _varint(head[HEADER_BYTES + CHECKSUM_BYTES :]) if head[0] == COMPRESSED else 0


def _varint(encoded: bytes) -> int:
    value = 0
    for place, byte in enumerate(encoded):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            break
    return value
