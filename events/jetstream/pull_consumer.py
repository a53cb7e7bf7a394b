"""Pulls messages one at a time from a durable consumer that several processes share; each acknowledges its own.

Messages and the broker's status replies are told apart by the reply subject. nats-py's `fetch` goes by the header
`Status`: a message stored with such a header would never be returned nor acknowledged, and be delivered for ever.
"""

import asyncio
from contextlib import suppress

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from events.bus.connection import Connection, as_text
from events.log.direct_response import status_of

WAIT_SECONDS = 5
"""How long the broker waits for a message to deliver."""
LATE_SECONDS = 1
_HEARTBEAT, _NONE_CAME = b"100", b"408"


class DeliveryFailed(NatsError):
    """The consumer is gone, or does not answer."""


class PullConsumer:
    """One process's access to the consumer."""

    def __init__(self, connection: Connection, stream: str, consumer: str) -> None:
        self._connection = connection
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._inbox = connection.new_inbox()
        self._arrived: asyncio.Queue[Msg | bytes] = asyncio.Queue()
        """Messages, and status codes where there is none."""

    async def start(self) -> None:
        """Subscribe, once before the first message."""
        self._subscription = await self._connection.listen(self._inbox, self._received)

    async def next(self) -> Msg | None:
        """The next message, None if none came in time. Raises `DeliveryFailed`, and what `publish` raises."""
        if self._arrived.empty():  # a message that was too late for the last request answers this one
            asked = {"batch": 1, "expires": WAIT_SECONDS * 1_000_000_000}
            await self._connection.publish(self._subject, msgspec.json.encode(asked), self._inbox)
        try:
            async with asyncio.timeout(WAIT_SECONDS + LATE_SECONDS):
                arrived = await self._arrived.get()
        except TimeoutError as error:
            raise DeliveryFailed("the consumer does not answer") from error
        if isinstance(arrived, Msg):
            return arrived
        if arrived != _NONE_CAME:
            raise DeliveryFailed(f"the consumer answers status {arrived.decode(errors='replace')}")
        return None

    async def close(self) -> None:
        """Return messages that have arrived and were not taken, so that others get them."""
        with suppress(NatsError):  # if the connection is gone, the broker redelivers them
            await self._connection.stop_listening(self._subscription)
            while not self._arrived.empty():
                arrived = self._arrived.get_nowait()
                if isinstance(arrived, Msg):
                    await arrived.nak()

    def _received(self, subject: bytes, reply: bytes, body: bytes, headers: bytes | None) -> None:
        if reply.startswith(b"$JS.ACK."):
            self._arrived.put_nowait(Msg(self._connection, as_text(subject), as_text(reply), body))
        elif (status := status_of(headers or b"")) != _HEARTBEAT:
            self._arrived.put_nowait(status)
