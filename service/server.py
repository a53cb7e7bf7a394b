"""The OAuth endpoints on the bus: a NATS micro service in a queue group (CONTRACT §2)."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from nats.micro import add_service
from nats.micro.request import Request as MicroRequest
from nats.micro.service import EndpointStats, Service

from events.bus.connection import as_text
from events.bus.headers import UnreadableHeaders, legible
from events.fairness.fair_queue import Asker, FairQueue, Limits
from events.log.log import Unavailable
from events.strict_json import MAX_PAYLOAD
from events.task_set import TaskSet
from service.accounts import Answering, endpoints
from service.answer_times import Figures
from service.clients.authentication import ClientAuthentication
from service.context import Context
from service.errors import OAuthError
from service.json_log import JsonLog
from service.received_request import Endpoint, Received
from service.request import Request

log = logging.getLogger("heirloom.server")

Turns: TypeAlias = FairQueue[Callable[[Asker], None]]
"""What waits begins when it is called, with its asker."""
Around = Callable[[str, Endpoint], Endpoint]
"""What is put around each endpoint, by its name."""

QUEUE = "heirloom"
LATE_SECONDS, LOOKS = 0.2, 10
"""How long after it was told to stop the broker's last requests may still arrive, and in how many parts that is waited:
each begins with an answer of the broker's, so that it takes longer where the broker or this replica is slow."""
FOREIGN_REPLY = "foreign_reply"
"""What came of a request whose reply subject is not below its asker's own inbox."""
LARGEST_REPLY = MAX_PAYLOAD - 1024
"""Bytes of a body: the broker would end the connection for more than `MAX_PAYLOAD`, with the headers."""
READING = frozenset({"introspect", "edge-introspect", "person-introspect", "jwks", "metadata"})
"""What appends nothing."""
READS = Limits(
    at_once=32, of_tenant=24, of_client=6, waiting=2_000, waiting_of_tenant=1_800, waiting_of_client=1_600, alone=64
)
"""Being worked on, and waiting for that. A few fill a processor core, and more would only wait in it, unfairly; but
sixty-four share what it costs to send and to receive, and are answered twice as fast where nobody else asks."""
WRITES = Limits(
    at_once=256, of_tenant=192, of_client=64, waiting=2_000, waiting_of_tenant=1_800, waiting_of_client=1_600
)
"""Of these most wait for the disk, and those that do so together share it."""


def as_it_is(_name: str, endpoint: Endpoint) -> Endpoint:
    """Nothing around it."""
    return endpoint


class Server:
    """Answers every request it receives, also while it drains: inside each account that asks."""

    def __init__(
        self,
        answering: Sequence[Answering],
        context: Context,
        authentication: ClientAuthentication,
        journal: JsonLog,
        version: str,
        around: Around | None = None,
    ) -> None:
        self._answering = answering
        self._context = context
        self._authentication = authentication
        self._journal = journal
        self._version = version
        self._around = around or as_it_is
        reads, writes = Turns(READS, context.door.alone), Turns(WRITES)
        self._turns = {name: reads if name in READING else writes for name in endpoints()}
        self._tasks = TaskSet()
        self._refusals = TaskSet()
        self.figures = {name: Figures() for name in endpoints()}
        self._services: list[tuple[Answering, Service]] = []

    async def start(self) -> None:
        """Listen. Returns when the broker knows of every endpoint."""
        asked = {name: (subject, self._around(name, endpoint)) for name, (subject, endpoint) in endpoints().items()}
        for answering in self._answering:
            service = await add_service(
                answering.connection,
                name="heirloom",
                version=self._version,
                description="OAuth 2.0 tokens; every decision is an event in the log",
                queue_group=QUEUE,
                stats_handler=self._stats,
            )
            self._services.append((answering, service))
            for name in answering.askers.asks:
                await self._listen(answering, service, name, *asked[name])
            await answering.connection.flush()

    @property
    def in_flight(self) -> int:
        """Requests being worked on now."""
        return sum(turns.under_way for turns in set(self._turns.values()))

    @property
    def waiting(self) -> int:
        """Requests that wait for others to be through."""
        return sum(turns.waiting for turns in set(self._turns.values()))

    async def settled(self) -> None:
        """Return when the requests that are under way now are answered."""
        await self._tasks.settled()

    async def drain(self) -> None:
        """Take no new request, and answer every one already received."""
        # the service's own stop() drops what the broker has already handed to us, and a request that was being handed
        # over just then arrives a moment after the broker has confirmed: so listening ends a little later than asking
        subscriptions = []
        for answering, service in self._open():
            listening = [endpoint._subscription for endpoint in service._endpoints]  # noqa: SLF001
            for subscription in listening:
                await answering.connection._send_unsubscribe(subscription._id)  # noqa: SLF001
            subscriptions += listening
        for _ in range(LOOKS):
            await self._flush()
            await asyncio.sleep(LATE_SECONDS / LOOKS)
        await asyncio.gather(*(subscription.drain() for subscription in subscriptions))
        await self._flush()
        while self._tasks or self._refusals:
            await self._tasks.settled()
            await self._refusals.settled()
            await self._flush()  # the answers are sent; what has arrived before that is under way now

    async def _flush(self) -> None:
        """The broker has answered on every connection."""
        await asyncio.gather(*(answering.connection.flush() for answering, _ in self._open()))

    def _open(self) -> list[tuple[Answering, Service]]:
        """One that the broker has ended for good keeps nobody from answering on the others."""
        return [each for each in self._services if not each[0].connection.is_closed]

    async def _listen(
        self, answering: Answering, service: Service, name: str, subject: str, endpoint: Endpoint
    ) -> None:
        """The micro service tells what there is; requests come past its queue and its task."""

        def take(subject: bytes, reply: bytes, body: bytes, headers: bytes | None) -> None:
            came = Received(name, endpoint, as_text(subject), as_text(reply), body, headers)
            self._receive(answering, came)

        async def early(request: MicroRequest) -> None:  # it came before its subscription was handed over
            message = request._msg  # noqa: SLF001
            came = Received(name, endpoint, message.subject, message.reply, message.data, message.headers)
            self._receive(answering, came)

        await service.add_endpoint(name=name, subject=subject, handler=early)
        answering.connection.set_raw_handler(service._endpoints[-1]._subscription, take)  # noqa: SLF001

    def _receive(self, answering: Answering, received: Received) -> None:
        """It is worked on now, or waits for its turn; or it is refused, and nothing of it was read but its subject.

        Whose answer would go to others gets none, anywhere.
        """
        received.connection = answering.connection
        if not answering.askers.own_inbox(received.subject, received.reply):
            self.figures[received.name].record(0.0, FOREIGN_REPLY)
            return
        try:
            received.check()
            asker, turns = self._asker(received), self._turns[received.name]
            if turns.begins(asker):
                self._begin(received, asker)
            elif not turns.waits(asker, partial(self._begin, received)):
                raise busy()
        except OAuthError as refusal:
            self._refusals.start(self._refuse(received, refusal))

    def _asker(self, received: Received) -> Asker:
        """Whom it counts for. Raises `slow_down`."""
        match received.proved_by:
            case "client":
                return self._context.door.client(received.tenant, received.client_id)
            case "person":
                return self._context.door.person(received.tenant, received.client_id)
            case "edge":
                return self._context.door.edge(received.tenant)
            case _:
                return self._context.door.public(received.tenant)

    def _headers(self, received: Received) -> dict[str, str]:
        """Raises `UnreadableHeaders`, and `invalid_request`."""
        try:
            if isinstance(received.headers, bytes):
                return received.connection.headers_of(received.headers)
            return legible(received.headers)
        except (ValueError, IndexError) as error:
            raise OAuthError("invalid_request", "the headers cannot be read") from error

    def _begin(self, received: Received, asker: Asker) -> None:
        self._tasks.start(self._answer(received, asker))

    async def _refuse(self, received: Received, refusal: OAuthError) -> None:
        """It is counted; no line is written about it, which would be the most that it costs."""
        await self._respond(received, refusal.body(), refusal.headers())
        self.figures[received.name].record(0.0, refusal.code)

    async def _answer(self, received: Received, asker: Asker) -> None:
        outcome, turns = "ok", self._turns[received.name]
        body: bytes
        headers: dict[str, str] | None = None
        tenant, client_id = received.tenant, received.client_id
        try:
            received.check_wait()
            self._context.skew.require()
            by_person = received.proved_by == "person"
            asked = Request(tenant, client_id, received.body, self._headers(received), by_person)
            if received.proved_by == "edge":
                asked = await self._authentication.authenticate(asked, received.name.removeprefix("edge-"))
                client_id = asked.client_id
                asker = await _in_its_own_name(turns, asker, self._context.door.client(tenant, client_id))
                received.check_wait()
            body = await received.endpoint(self._context, asked)
            received.check_time()
        except Exception as error:
            refusal = refusal_of(error)
            outcome, body, headers = refusal.code, refusal.body(), refusal.headers()
        finally:
            _end(turns, asker)
        if (instead := await self._respond(received, body, headers)) is not None:
            outcome = instead.code
        took = time.perf_counter() - received.at
        self.figures[received.name].record(took, outcome)
        if outcome != "slow_down":  # who is told that asks a lot, and a line for each would be a lot of disk
            self._journal.decision(received.name, tenant, client_id, outcome, took)

    async def _respond(self, received: Received, body: bytes, headers: dict[str, str] | None) -> OAuthError | None:
        """The reply is sent, or the refusal that is returned, where the broker takes no message of that size."""
        try:
            if len(body) > LARGEST_REPLY:
                raise MaxPayloadError
            await received.connection.publish(received.reply, body, headers=headers)
        except MaxPayloadError:
            log.error("a reply of %d bytes is larger than the broker's messages may be", len(body))
            refusal = OAuthError("server_error", "the answer is too large for one message")
            await self._respond(received, refusal.body(), refusal.headers())
            return refusal
        except NatsError as error:  # the connection is gone
            log.info("a reply could not be sent: %s", type(error).__name__)
        return None

    def _stats(self, endpoint: EndpointStats) -> Any:
        """What `nats micro stats` tells: the times until the reply, and what came of the requests."""
        return self.figures[endpoint.name].tell(endpoint)


async def _in_its_own_name(turns: Turns, edge: Asker, client: Asker) -> Asker:
    """Who came as nobody has proved which client it is: from now on it counts for that, and waits for its turn.

    Raises `temporarily_unavailable` when too much waits; then it counts as before.
    """
    if not turns.begins(client):
        turn: asyncio.Future[Asker] = asyncio.get_running_loop().create_future()
        if not turns.waits(client, turn.set_result):
            raise busy()
        _end(turns, edge)
        return await turn
    _end(turns, edge)
    return client


def _end(turns: Turns, asker: Asker) -> None:
    turns.ended(asker)
    while (following := turns.following()) is not None:
        next_asker, begin = following
        begin(next_asker)


def busy() -> OAuthError:
    """There is no room to wait in."""
    return OAuthError("temporarily_unavailable", "too many requests are under way; try again")


def refusal_of(error: Exception) -> OAuthError:
    """What the caller is told. What nobody foresaw is logged whole here and told as `server_error`."""
    match error:
        case OAuthError():
            return error
        case UnreadableHeaders():
            return OAuthError("invalid_request", str(error))
        case Unavailable():
            return OAuthError("temporarily_unavailable", "the log does not answer now; try again")
        case _:
            log.error("a request failed", exc_info=error)
            return OAuthError("server_error", "something went wrong; the operator's log has the details")
