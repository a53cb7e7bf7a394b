"""The headers of messages that strangers send: measured before anything of them is parsed (CONTRACT §2)."""

MAX_BYTES, MAX_HEADERS = 8 << 10, 64
"""Twenty messages with 1 MB of headers each once kept a replica busy for seconds."""


class UnreadableHeaders(Exception):
    """A message's headers are too long, too many, or no headers. The message is the reason, for the sender."""


class Unread(dict[str, str]):
    """In place of the headers of a message whose own ones cannot be read."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


def unreadable(lines: bytes) -> str | None:
    """Why headers, as they came, are not to be parsed; None where they may be."""
    if len(lines) > MAX_BYTES:
        return f"a message's headers may be of {MAX_BYTES >> 10} KiB"
    if lines.count(b"\n") > MAX_HEADERS + 2:  # the first line and the last are none
        return f"a message may have {MAX_HEADERS} headers"
    return None


def legible(headers: dict[str, str] | None) -> dict[str, str]:
    """The headers as nats-py hands them over. Raises `UnreadableHeaders` where they could not be read."""
    if isinstance(headers, Unread):
        raise UnreadableHeaders(headers.reason)
    return headers or {}
