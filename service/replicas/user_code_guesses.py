"""Wrong user codes, counted over all replicas, so that nobody finds another's device by trying (RFC 8628 §5.1).

The broker counts: a stream in memory accepts a bounded number of messages under a person's subject, and each expires.
Every try is counted before its code is read, and taken back if the code is right. So no more tries than the bound are
read, however many are under way at once on however many replicas (ADR 0035).
"""

import contextlib
from typing import Any

import msgspec

from events.aggregates.aggregate_names import subject_digest
from events.bus.connection import Connection
from events.jetstream.memory_stream import MemoryStream
from events.log.jetstream_api import ApiError, Unavailable
from service.errors import OAuthError

STREAM = "GUESSES"
WINDOW_SECONDS = 600
MAX_GUESSES_OF_PERSON = 5
"""Tries of a person within the window. Five of 20^8 codes are the 2^-32 that RFC 8628 §5.1 recommends."""
MAX_GUESSES_OF_CLIENT = 500
"""Tries of all people together for whom one client answers."""
MAX_GUESSES = 100_000
"""Tries through all clients together."""
STREAM_FULL = 10077
"""The broker's error code if the stream is full, under the subject or in all."""


class _State(msgspec.Struct):
    subjects: dict[str, int] | None = None


class _Answer(msgspec.Struct):
    seq: int = 0
    state: _State | None = None
    error: ApiError | None = None


_decoder = msgspec.json.Decoder(_Answer)


CONFIGURATION: dict[str, Any] = {
    "name": STREAM,
    "subjects": ["heirloom.guess.*.*.*"],
    "retention": "limits",
    "storage": "memory",
    "discard": "new",
    "discard_new_per_subject": True,
    "max_msgs": MAX_GUESSES,
    "max_msgs_per_subject": MAX_GUESSES_OF_PERSON,
    "max_age": WINDOW_SECONDS * 1_000_000_000,
}


class UserCodeGuesses:
    """The tries of the last ten minutes, over all replicas."""

    def __init__(self, connection: Connection) -> None:
        self._stream = MemoryStream(connection, CONFIGURATION)

    async def start(self, copies: int) -> None:
        """Create the stream, in so many `copies`, or verify it. Raises `WeakStream` and `JetStreamMissing`."""
        await self._stream.start(copies)

    async def count(self, tenant: str, client_id: str, sub: str) -> int:
        """Count a try through this client in this person's name, and return its number for `take_back`.

        Raises `slow_down` if the person or the client has had too many, and `Unavailable`; then the code must not be
        read.
        """
        of_client = f"heirloom.guess.{tenant}.{client_id}"
        counted = _decoder.decode(await self._stream.publish(f"{of_client}.{subject_digest(sub)}"))
        if counted.error is not None and counted.error.err_code == STREAM_FULL:
            raise _too_many()
        if not counted.seq:
            raise Unavailable("wrong user codes cannot be counted now")
        info = _decoder.decode(await self._stream.request("INFO", subjects_filter=f"{of_client}.*"))
        if info.state is None:
            raise Unavailable("wrong user codes cannot be counted now")
        if sum((info.state.subjects or {}).values()) > MAX_GUESSES_OF_CLIENT:
            await self.take_back(counted.seq)
            raise _too_many()
        return counted.seq

    async def take_back(self, number: int) -> None:
        """Take back a try whose code was right. If the broker is unavailable, it counts until it expires."""
        with contextlib.suppress(Unavailable):
            await self._stream.request("MSG.DELETE", seq=number)


def _too_many() -> OAuthError:
    return OAuthError("slow_down", "too many wrong user codes; try again in ten minutes", "429")
