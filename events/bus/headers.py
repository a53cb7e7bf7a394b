"""Limits on the headers of strangers' messages, checked before anything is parsed (CONTRACT §2)."""

MAX_BYTES, MAX_HEADERS = 8 << 10, 64
"""Without limits, twenty messages with 1 MB of headers each kept a replica busy for seconds."""


class UnreadableHeaders(Exception):
    """A message's headers are too long, too many, or malformed. The error's text is meant for the sender."""


class Unread(dict[str, str]):
    """Stands for the headers of a message whose own headers cannot be read."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


def unreadable(lines: bytes) -> str | None:
    """Say why a raw header block must not be parsed; None if it may be."""
    if len(lines) > MAX_BYTES:
        return f"a message's headers may be of {MAX_BYTES >> 10} KiB"
    if lines.count(b"\n") > MAX_HEADERS + 2:  # the first and the last line are not headers
        return f"a message may have {MAX_HEADERS} headers"
    return None


def legible(headers: dict[str, str] | None) -> dict[str, str]:
    """Return the headers of a nats-py message. Raises `UnreadableHeaders` if they could not be read."""
    if isinstance(headers, Unread):
        raise UnreadableHeaders(headers.reason)
    return headers or {}
