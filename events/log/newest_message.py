"""Reads the newest message under a filter from any copy of the stream, by one direct get.

The raw answer is parsed here. nats-py would take the headers with which a message was stored for the broker's own: it
would read `Status: 503` as no answer at all, and headers too long to be parsed would hide the message's sequence.
"""

import asyncio
import itertools

import msgspec
from nats.errors import Error as NatsError

from events.bus.connection import Connection
from events.log.direct_response import NOTHING, place_of, status_of
from events.log.jetstream_api import Unavailable
from events.log.stored_message import StoredMessage

READ_SECONDS = 1.0


class NewestMessages:
    """Reads from any stream through one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._inbox = connection.new_inbox()
        self._ids = itertools.count(1)
        self._unanswered: dict[bytes, asyncio.Future[tuple[bytes, bytes]]] = {}

    async def start(self) -> None:
        """Subscribe to the answers, once before the first request."""
        await self._connection.listen(f"{self._inbox}.*", self._received)

    async def under(self, filter: str, stream: str) -> StoredMessage | None:
        """The newest message of that stream whose subject matches; None if there is none. Raises `Unavailable`."""
        inbox = f"{self._inbox}.{next(self._ids)}"
        answer = self._unanswered[inbox.encode()] = asyncio.get_running_loop().create_future()
        subject = f"{self._connection.jetstream_api}.DIRECT.GET.{stream}"
        try:
            async with asyncio.timeout(READ_SECONDS):
                await self._connection.publish(subject, msgspec.json.encode({"last_by_subj": filter}), inbox)
                headers, body = await answer
        except (NatsError, TimeoutError) as error:
            raise Unavailable("the log cannot be read now") from error
        finally:
            del self._unanswered[inbox.encode()]
        if (place := place_of(headers)) is not None:
            seq, subject, stored_at = place
            return StoredMessage(seq, subject, body, stored_at)
        if (status := status_of(headers)) == NOTHING:
            return None
        raise Unavailable(f"the log answered status {status.decode(errors='replace')}")

    def _received(self, subject: bytes, _reply: bytes, body: bytes, headers: bytes | None) -> None:
        answer = self._unanswered.get(subject)
        if answer is not None and not answer.done():
            answer.set_result((headers or b"", body))
