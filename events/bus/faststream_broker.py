"""FastStream on a connection of ours, for rare requests (administration, audit)."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from types import TracebackType

import msgspec
from faststream import AckPolicy
from faststream.nats import NatsBroker, NatsMessage, NatsResponse
from faststream.nats.subscriber.usecases.core_subscriber import CoreSubscriber
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from events.aggregates.aggregate_names import ILLEGIBLE, is_legible
from events.bus.connection import Connection, as_text
from events.bus.headers import UnreadableHeaders, legible
from events.bus.own_inbox import OwnInbox, of_anybody
from events.fairness.request_gate import Gate, GateKey
from events.strict_json import MAX_BODY
from events.task_set import TaskSet

log = logging.getLogger("heirloom.faststream")

Handle = Callable[[str, bytes, GateKey], Awaitable[tuple[bytes, dict[str, str]]]]
"""`(subject, body, key)` → the reply's body and headers. Answers every request and never raises."""


class Broker(NatsBroker):
    """A FastStream broker on a `Connection` of ours, which survives malformed messages.

    Requests bypass nats-py's queue and FastStream's workers, where a flood of them would delay everybody. Requests
    beyond what `gate` admits are answered `slow_down` from the read loop. A request whose reply subject is outside
    the requester's `own_inbox` is dropped before that; only `foreign_replies` counts it.
    """

    def __init__(self, connection: Connection, gate: Gate, own_inbox: OwnInbox = of_anybody) -> None:
        super().__init__(logger=log, log_level=logging.DEBUG)
        self._given = connection
        self._gate = gate
        self._own_inbox = own_inbox
        self._under_way = TaskSet()

    async def _connect(self) -> Client:
        self.config.connect(self._given)
        return self._given

    async def start(self) -> None:
        """Subscribe. Requests that arrive before their raw handler is set are answered one after the other."""
        await super().start()
        for subscriber, subscription in self._listening():
            self._given.set_raw_handler(subscription, partial(self._receive, subscriber))

    async def stop(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> None:
        """Answer the requests that have arrived, then end."""
        listening = self._listening()
        for subscriber, subscription in listening:
            if self._given.is_connected:
                await subscription.drain()  # type: ignore[no-untyped-call]  # nats-py has no types there
            subscriber.subscription = None  # drained, or gone with the connection
        while self._under_way:
            await self._under_way.settled()
        for _, subscription in listening:
            self._given.raw_handlers.pop(subscription._id, None)  # noqa: SLF001  # as `set_raw_handler` does
        await super().stop(exc_type, exc_val, exc_tb)

    def count_if_foreign(self, subject: str, reply: str) -> bool:
        """Count a request whose reply subject is not the requester's own; it gets no reply. Returns whether it is one.

        That includes a broker's reply to somebody who used this subject as reply subject: it has none of its own.
        """
        if self._own_inbox(subject, reply):
            return False
        self._gate.foreign_replies += 1
        return True

    def _listening(self) -> list[tuple[CoreSubscriber, Subscription]]:
        return [
            (subscriber, subscriber.subscription)
            for subscriber in self.subscribers
            if isinstance(subscriber, CoreSubscriber) and isinstance(subscriber.subscription, Subscription)
        ]

    def _receive(
        self, subscriber: CoreSubscriber, subject: bytes, reply: bytes, body: bytes, headers: bytes | None
    ) -> None:
        asked, answered = as_text(subject), as_text(reply)
        if self.count_if_foreign(asked, answered):
            return
        key = GateKey.of(asked, answered)
        if self._gate.try_admit(key):
            # one byte more than allowed, so that a body that is too large is recognised
            self._under_way.start(self._answer(subscriber, key, subject, reply, body[: MAX_BODY + 1], headers))
        else:
            self._under_way.start(self._refuse(answered))

    async def _answer(
        self,
        subscriber: CoreSubscriber,
        key: GateKey,
        subject: bytes,
        reply: bytes,
        body: bytes,
        headers: bytes | None,
    ) -> None:
        try:
            parsed = await self._given._process_headers(headers or b"")  # noqa: SLF001  # as nats-py calls it
            await subscriber.consume(self._given._build_message(0, subject, reply, body, parsed))  # noqa: SLF001
        finally:
            self._gate.ended(key)

    async def _refuse(self, reply: str) -> None:
        try:
            await self._given.publish(reply, SLOW_DOWN.body, headers=SLOW_DOWN.headers)
        except NatsError as error:  # the connection is gone
            log.info("a reply could not be sent: %s", type(error).__name__)


async def _raw(message: NatsMessage) -> bytes:
    return message.body


def serve(broker: Broker, subject: str, handle: Handle, *, queue: str) -> None:
    """Answer requests on `subject` with `handle`, which makes them take turns."""

    @broker.subscriber(subject, queue=queue, decoder=_raw, ack_policy=AckPolicy.MANUAL, title=subject)
    async def answer(body: bytes, message: NatsMessage) -> NatsResponse:
        # FastStream's own decoding and path parameters are lax or slow; `handle` parses the subject and the raw body
        received = message.raw_message
        if broker.count_if_foreign(received.subject, received.reply):  # it arrived before the raw handler was set
            message.reply_to = ""  # then FastStream sends no reply
            return NatsResponse(b"")
        try:
            legible(received.headers)
        except UnreadableHeaders as unreadable:
            return _invalid(str(unreadable))
        if not is_legible(received.subject):
            return _invalid(ILLEGIBLE)
        reply, headers = await handle(received.subject, body, GateKey.of(received.subject, received.reply))
        return NatsResponse(reply, headers=headers)


def _invalid(reason: str) -> NatsResponse:
    """The reply to a request with unreadable headers or subject (CONTRACT §2)."""
    return _refusal("invalid_request", reason, "400")


def _refusal(code: str, reason: str, status: str) -> NatsResponse:
    body = msgspec.json.encode({"error": code, "error_description": reason})
    return NatsResponse(body, headers={"Nats-Service-Error": code, "Nats-Service-Error-Code": status})


SLOW_DOWN = _refusal("slow_down", "too many requests about this tenant at once; wait a moment and try again", "429")
