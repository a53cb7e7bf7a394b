"""FastStream on a connection of ours: for what is asked rarely (administration, audit)."""

import logging
from collections.abc import Awaitable, Callable

from faststream import AckPolicy
from faststream.nats import NatsBroker, NatsMessage, NatsResponse
from nats.aio.client import Client

from events.bus import Connection

Handle = Callable[[str, bytes], Awaitable[tuple[bytes, dict[str, str]]]]
"""`(subject, body)` → the reply's body and headers. Answers every request; raises nothing."""


class Broker(NatsBroker):
    """A FastStream broker that does not open a connection of its own, so malformed messages cannot end it."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(logger=logging.getLogger("heirloom.faststream"), log_level=logging.DEBUG)
        self._given = connection

    async def _connect(self) -> Client:
        self.config.connect(self._given)
        return self._given


async def _raw(message: NatsMessage) -> bytes:
    return message.body


def serve(broker: Broker, subject: str, handle: Handle, *, queue: str, max_workers: int = 16) -> None:
    """Answer requests on `subject` with `handle`, at most `max_workers` at once."""

    @broker.subscriber(
        subject, queue=queue, decoder=_raw, max_workers=max_workers, ack_policy=AckPolicy.MANUAL, title=subject
    )
    async def answer(body: bytes, message: NatsMessage) -> NatsResponse:
        # FastStream's own decoding and path parameters are lax or slow; the subject and the raw body say all
        reply, headers = await handle(message.raw_message.subject, body)
        return NatsResponse(reply, headers=headers)
