"""A batched direct get of stored messages, and its answer as it arrives message by message (NATS ADR-31)."""

from datetime import datetime

import msgspec

from events.log.stored_message import StoredMessage

NOTHING = b"404"
"""The status if there is no such message."""
_END = b"204"
_SUBJECT, _SEQUENCE, _STORED_AT = b"\r\nNats-Subject: ", b"\r\nNats-Sequence: ", b"\r\nNats-Time-Stamp: "
_BEFORE, _LEFT = b"\r\nNats-Last-Sequence: ", b"\r\nNats-Num-Pending: "


class DirectGet:
    """A batched direct get under way, and the answer so far."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.messages: list[StoredMessage] = []
        self.status = b""
        """The status that ended the answer; empty before that."""
        self.left = 0
        """How many more messages the answering copy of the stream has."""
        self._last = 0
        self._is_torn = False

    def receive(self, headers: bytes, body: bytes) -> None:
        """Receive a message of the answer. Each names the sequence of the one before it, 0 for none."""
        if (place := place_of(headers)) is not None:
            seq, subject, stored_at = place
            if seq != self._last + 1 and _number(headers, _BEFORE) != self._last:
                self._is_torn = True
            self._last = seq
            self.messages.append(StoredMessage(seq, subject, body, stored_at))
            return
        self.status = status_of(headers)
        if self.status == _END:
            self.left = _number(headers, _LEFT)
            self._is_torn |= _number(headers, _BEFORE) != self._last

    @property
    def is_answered(self) -> bool:
        """Whether the answer is complete: it has ended well, and no message of it was lost."""
        return self.status in (_END, NOTHING) and not self._is_torn


def place_of(headers: bytes) -> tuple[int, str, datetime] | None:
    """Read a message's sequence, subject and time, which the broker appends to the headers it was stored with.

    None for an answer that is not a message. Nothing else can be relied on: a stranger may have chosen every byte of
    the stored headers, including the first line.
    """
    _, is_there, rest = headers.rpartition(_SUBJECT)
    if not is_there:
        return None
    subject, _, rest = rest.partition(_SEQUENCE)
    time = rest.partition(_STORED_AT)[2]
    stored_at = msgspec.convert(time[: time.index(b"\r")].decode(), datetime)
    return int(rest[: rest.index(b"\r")]), subject.decode(errors="replace"), stored_at


def status_of(headers: bytes) -> bytes:
    """The status of an answer that is not a message."""
    return headers[9:12]


def _number(headers: bytes, name: bytes) -> int:
    begin = headers.rindex(name) + len(name)
    return int(headers[begin : headers.index(b"\r", begin)])
