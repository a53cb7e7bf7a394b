"""FastStream on a connection of ours: for what is asked rarely (administration, audit)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType

import msgspec
from faststream import AckPolicy
from faststream.nats import NatsBroker, NatsMessage, NatsResponse
from faststream.nats.subscriber.usecases.core_subscriber import ConcurrentCoreSubscriber
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from events.bus import Connection
from events.headers import UnreadableHeaders, legible
from events.subjects import ILLEGIBLE, is_legible

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

    async def stop(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> None:
        """Answer what has arrived, then end. FastStream alone drops the requests that wait for a worker."""
        subscribers = [
            subscriber for subscriber in self.subscribers if isinstance(subscriber, ConcurrentCoreSubscriber)
        ]
        for subscriber in subscribers:
            if isinstance(subscriber.subscription, Subscription) and self._given.is_connected:
                await subscriber.subscription.drain()  # type: ignore[no-untyped-call]  # nats-py has no types there
            subscriber.subscription = None  # drained, or gone with the connection
        quiet = 0
        while quiet < 2:  # a request between queue and worker is in neither: look twice
            quiet = 0 if any(_busy(subscriber) for subscriber in subscribers) else quiet + 1
            await asyncio.sleep(0.01)
        await super().stop(exc_type, exc_val, exc_tb)


def _busy(subscriber: ConcurrentCoreSubscriber) -> bool:
    waiting = subscriber.receive_stream.statistics().current_buffer_used
    return waiting > 0 or subscriber.limiter.value < subscriber.max_workers


async def _raw(message: NatsMessage) -> bytes:
    return message.body


WORKERS = 512
"""Requests on one subject that are taken at once; most of them wait for their turn."""


def serve(broker: Broker, subject: str, handle: Handle, *, queue: str, max_workers: int = WORKERS) -> None:
    """Answer requests on `subject` with `handle`, at most `max_workers` at once; whose turn it is `handle` decides."""

    @broker.subscriber(
        subject, queue=queue, decoder=_raw, max_workers=max_workers, ack_policy=AckPolicy.MANUAL, title=subject
    )
    async def answer(body: bytes, message: NatsMessage) -> NatsResponse:
        # FastStream's own decoding and path parameters are lax or slow; the subject and the raw body say all
        received = message.raw_message
        try:
            legible(received.headers)
        except UnreadableHeaders as unreadable:
            return _invalid(str(unreadable))
        if not is_legible(received.subject):
            return _invalid(ILLEGIBLE)
        reply, headers = await handle(received.subject, body)
        return NatsResponse(reply, headers=headers)


def _invalid(reason: str) -> NatsResponse:
    """What nobody needs to look at (CONTRACT §2)."""
    body = msgspec.json.encode({"error": "invalid_request", "error_description": reason})
    return NatsResponse(body, headers={"Nats-Service-Error": "invalid_request", "Nats-Service-Error-Code": "400"})
