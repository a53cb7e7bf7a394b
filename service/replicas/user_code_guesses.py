"""Wrong user codes, counted for all replicas together: nobody finds another's device by trying (RFC 8628 §5.1).

The count is the broker's: a stream in memory takes so many messages under one person's subject and forgets each in its
time. Every answer to a device is counted before its code is looked at, and a right one is taken back: so however many
are under way at once, on however many replicas, no more than the bound are looked at (ADR 0035).
"""

import contextlib
from typing import Any

import msgspec

from events.aggregates.subjects import subject_digest
from events.bus.connection import Connection
from events.jetstream.memory_stream import MemoryStream
from events.log.jetstream_api import ApiError
from events.log.log import Unavailable
from service.errors import OAuthError

STREAM = "GUESSES"
WINDOW_SECONDS = 600
OF_A_PERSON = 5
"""Within the window. Five of 20^8 codes are the 2^-32 that RFC 8628 §5.1 asks for."""
OF_A_CLIENT = 500
"""Of all people together for whom one client answers."""
MOST = 100_000
"""Of all clients together."""
FULL = 10077
"""The stream takes no more: under the subject, or in all."""


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
    "max_msgs": MOST,
    "max_msgs_per_subject": OF_A_PERSON,
    "max_age": WINDOW_SECONDS * 1_000_000_000,
}


class UserCodeGuesses:
    """What people have tried lately, of all replicas."""

    def __init__(self, connection: Connection) -> None:
        self._stream = MemoryStream(connection, CONFIGURATION)

    async def start(self, replicas: int) -> None:
        """Make the stream, or verify the one there is. Raises `WeakStream` and `JetStreamMissing`."""
        await self._stream.start(replicas)

    async def count(self, tenant: str, client_id: str, sub: str) -> int:
        """One more, through this client in this person's name: its number, by which it is taken back.

        Raises `slow_down` where either has had its share, and `Unavailable`: then no code may be looked at.
        """
        of_client = f"heirloom.guess.{tenant}.{client_id}"
        counted = _decoder.decode(await self._stream.publish(f"{of_client}.{subject_digest(sub)}"))
        if counted.error is not None and counted.error.err_code == FULL:
            raise _too_many()
        if not counted.seq:
            raise Unavailable("wrong user codes cannot be counted now")
        info = _decoder.decode(await self._stream.ask("INFO", subjects_filter=f"{of_client}.*"))
        if info.state is None:
            raise Unavailable("wrong user codes cannot be counted now")
        if sum((info.state.subjects or {}).values()) > OF_A_CLIENT:
            await self.take_back(counted.seq)
            raise _too_many()
        return counted.seq

    async def take_back(self, number: int) -> None:
        """It was no guess. What stays for want of a broker counts until it expires."""
        with contextlib.suppress(Unavailable):
            await self._stream.ask("MSG.DELETE", seq=number)


def _too_many() -> OAuthError:
    return OAuthError("slow_down", "too many wrong user codes; try again in ten minutes", "429")
