"""From a request that has arrived to its reply: the rates, its turn, the endpoint, the answer (CONTRACT §2)."""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError

from events.bus.headers import legible
from events.fairness.fair_queue import FairQueue, Limits, Requester
from events.strict_json import MAX_PAYLOAD
from events.task_set import TaskSet
from service.accounts import AccountConnection
from service.answer_times import AnswerTimes
from service.clients.authentication import ClientAuthentication
from service.context import Context
from service.endpoints.endpoint_table import endpoints
from service.errors import OAuthError
from service.json_log import JsonLog
from service.received_request import Received
from service.refusal import busy, refusal_of
from service.request import Request

log = logging.getLogger("heirloom.server")

RequestQueue: TypeAlias = FairQueue[Callable[[Requester], None]]
"""A request that waits is a callable: called with its requester, it begins."""

FOREIGN_REPLY = "foreign_reply"
"""The outcome of a request whose reply subject is not below its requester's own inbox."""
MAX_REPLY_BYTES = MAX_PAYLOAD - 1024
"""Bytes of a body. The broker ends a connection that publishes more than `MAX_PAYLOAD`, headers included."""
READS = Limits(
    at_once=32, of_tenant=24, of_client=6, waiting=2_000, waiting_of_tenant=1_800, waiting_of_client=1_600, alone=64
)
"""Requests that append nothing: how many are under way, and how many wait. A few keep a processor core busy, and more
would only wait there, out of turn. But 64 share the cost of sending and receiving: a client without company is answered
twice as fast."""
WRITES = Limits(
    at_once=256, of_tenant=192, of_client=64, waiting=2_000, waiting_of_tenant=1_800, waiting_of_client=1_600
)
"""The other requests. Most of these wait for the disk, and those that wait together share one fsync."""


class RequestHandler:
    """Answers every request that it receives, of all accounts, each in its requester's turn.

    `answers` are the requests that are under way; `figures` has the answer times of each row of the table, by name.
    """

    def __init__(
        self, context: Context, authentication: ClientAuthentication, json_log: JsonLog, answers: TaskSet
    ) -> None:
        self._context = context
        self._authentication = authentication
        self._json_log = json_log
        reads, writes = RequestQueue(READS, context.rates.alone), RequestQueue(WRITES)
        self._queues = {name: reads if row.read_only else writes for name, row in endpoints().items()}
        self._answers = answers
        self._refusals = TaskSet()
        self.figures = {name: AnswerTimes() for name in endpoints()}

    @property
    def in_flight(self) -> int:
        """How many requests are under way."""
        return sum(queue.under_way for queue in set(self._queues.values()))

    @property
    def waiting(self) -> int:
        """How many requests wait for their turn."""
        return sum(queue.waiting for queue in set(self._queues.values()))

    @property
    def is_idle(self) -> bool:
        """Whether every request that was received has been answered, refused ones included."""
        return not self._answers and not self._refusals

    async def settled(self) -> None:
        """Return when the requests that are under way now are answered."""
        await self._answers.settled()

    async def refused(self) -> None:
        """Return when the refusals that are on their way now are published."""
        await self._refusals.settled()

    def receive(self, account: AccountConnection, received: Received) -> None:
        """Begin the request, queue it for its turn, or refuse it before more than its subject is read.

        A reply subject that is not the requester's own gets no reply at all (CONTRACT §2).
        """
        name = received.row.name
        if not account.callers.own_inbox(received.subject, received.reply):
            self.figures[name].record(0.0, FOREIGN_REPLY)
            return
        try:
            received.check()
            requester, queue = self._requester(received), self._queues[name]
            if queue.try_begin(requester):
                self._begin(received, requester)
            elif not queue.try_queue(requester, partial(self._begin, received)):
                raise busy()
        except OAuthError as refusal:
            self._refusals.start(self._refuse(received, refusal))

    def _requester(self, received: Received) -> Requester:
        """Whom the request counts for. Raises `slow_down`."""
        match received.row.proved_by:
            case "subject":
                return self._context.rates.client(received.tenant, received.client_id)
            case "person":
                return self._context.rates.person(received.tenant, received.client_id)
            case "request":
                return self._context.rates.edge(received.tenant)
            case "role":
                return self._context.rates.resource(received.tenant)
            case "nobody":
                return self._context.rates.public(received.tenant)

    def _begin(self, received: Received, requester: Requester) -> None:
        self._answers.start(self._answer(received, requester))

    async def _refuse(self, received: Received, refusal: OAuthError) -> None:
        """Publish the refusal and count it. A line in the request log would cost more than all the rest of it."""
        await self._respond(received, refusal.body(), refusal.headers())
        self.figures[received.row.name].record(0.0, refusal.code)

    async def _answer(self, received: Received, requester: Requester) -> None:
        row = received.row
        outcome, queue = "ok", self._queues[row.name]
        body: bytes
        headers: dict[str, str] | None = None
        tenant, client_id = received.tenant, received.client_id
        try:
            received.check_wait()
            self._context.skew.require()
            asked = Request(tenant, client_id, received.body, _headers_of(received), row.proved_by == "person")
            if row.authenticates_client:
                asked = await self._authentication.authenticate(asked, row.endpoint)
                client_id = asked.client_id
                requester = await _in_its_own_name(queue, requester, self._context.rates.client(tenant, client_id))
                received.check_wait()
            body = await row.handle(self._context, asked)
            received.check_time()
        except Exception as error:
            refusal = refusal_of(error)
            outcome, body, headers = refusal.code, refusal.body(), refusal.headers()
        finally:
            _end(queue, requester)
        if (instead := await self._respond(received, body, headers)) is not None:
            outcome = instead.code
        took = time.perf_counter() - received.at
        self.figures[row.name].record(took, outcome)
        if outcome != "slow_down":  # such a caller sends many requests, and a line for each would fill the disk
            self._json_log.decision(row.name, tenant, client_id, outcome, took)

    async def _respond(self, received: Received, body: bytes, headers: dict[str, str] | None) -> OAuthError | None:
        """Publish the reply. One that is too large for a message is replaced by a refusal, which is returned."""
        try:
            if len(body) > MAX_REPLY_BYTES:
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


def _headers_of(received: Received) -> dict[str, str]:
    """The request's headers. Raises `UnreadableHeaders`, and `invalid_request`."""
    try:
        if isinstance(received.headers, bytes):
            return received.connection.headers_of(received.headers)
        return legible(received.headers)
    except (ValueError, IndexError) as error:
        raise OAuthError("invalid_request", "the headers cannot be read") from error


async def _in_its_own_name(queue: RequestQueue, edge: Requester, client: Requester) -> Requester:
    """Count a request for the client that it has just proved, no longer for the edge, and wait for that one's turn.

    Raises `temporarily_unavailable` where the queue has no room for it; then it counts for the edge as before.
    """
    if not queue.try_begin(client):
        turn: asyncio.Future[Requester] = asyncio.get_running_loop().create_future()
        if not queue.try_queue(client, turn.set_result):
            raise busy()
        _end(queue, edge)
        return await turn
    _end(queue, edge)
    return client


def _end(queue: RequestQueue, requester: Requester) -> None:
    """End the requester's turn, and begin the requests whose turn it is now."""
    queue.ended(requester)
    while (taken := queue.take_next()) is not None:
        next_requester, begin = taken
        begin(next_requester)
