"""The OAuth endpoints on the bus: a NATS micro service in a queue group (CONTRACT §2)."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from nats.micro import add_service
from nats.micro.request import Request as MicroRequest
from nats.micro.service import EndpointStats, Service

from events.bus import Connection, as_text
from events.headers import UnreadableHeaders, legible
from events.histogram import Histogram
from events.log import Unavailable
from events.subjects import ILLEGIBLE, is_legible
from service.client_authentication import ClientAuthentication
from service.context import Context
from service.endpoints import authorize, device_authorization, introspect, issue, public, revoke, token
from service.errors import OAuthError
from service.journal import Journal
from service.replicas import REQUEST_SECONDS
from service.request import Request

log = logging.getLogger("heirloom.server")

Endpoint = Callable[[Context, Request], Awaitable[bytes]]
Around = Callable[[str, Endpoint], Endpoint]
"""What is put around each endpoint, by its name."""

ENDPOINTS: dict[str, tuple[str, Endpoint]] = {
    "token": ("oauth.*.client.*.token", token.handle),
    "issue": ("oauth.*.client.*.issue", issue.handle),
    "authorize": ("oauth.*.client.*.authorize", authorize.handle),
    "device_authorization": ("oauth.*.client.*.device_authorization", device_authorization.handle),
    "revoke": ("oauth.*.client.*.revoke", revoke.handle),
    "introspect": ("oauth.*.client.*.introspect", introspect.handle),
    "jwks": ("oauth.*.public.jwks", public.jwks),
    "metadata": ("oauth.*.public.metadata", public.metadata),
}
PROVED_BY_SUBJECT = "oauth.*.client.*."
PROVED_BY_REQUEST = "oauth.*.edge."
QUEUE = "heirloom"
LATE_SECONDS = 0.2
"""How long after it was told to stop the broker's last requests may still arrive."""
IN_FLIGHT = 2_000
"""Requests being worked on at once; one more is refused at once instead of waiting in a queue nobody sees."""
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""The bounds of the latency histograms."""


def endpoints() -> dict[str, tuple[str, Endpoint]]:
    """What is listened to: the table, and every endpoint of a client's once more for those whom no subject proves."""
    edge = {
        f"edge-{name}": (PROVED_BY_REQUEST + subject.removeprefix(PROVED_BY_SUBJECT), endpoint)
        for name, (subject, endpoint) in ENDPOINTS.items()
        if subject.startswith(PROVED_BY_SUBJECT)
    }
    return ENDPOINTS | edge


def as_it_is(_name: str, endpoint: Endpoint) -> Endpoint:
    """Nothing around it."""
    return endpoint


class Server:
    """Answers every request it receives, also while it drains."""

    def __init__(
        self,
        connection: Connection,
        context: Context,
        authentication: ClientAuthentication,
        journal: Journal,
        version: str,
        around: Around | None = None,
    ) -> None:
        self._connection = connection
        self._context = context
        self._authentication = authentication
        self._journal = journal
        self._version = version
        self._around = around or as_it_is
        self._tasks: set[asyncio.Task[None]] = set()
        self._refusals: set[asyncio.Task[None]] = set()
        self.figures = {name: Figures() for name in endpoints()}
        self._service: Service | None = None

    async def start(self) -> None:
        """Listen. Returns when the broker knows of every endpoint."""
        self._service = await add_service(
            self._connection,
            name="heirloom",
            version=self._version,
            description="OAuth 2.0 tokens; every decision is an event in the log",
            queue_group=QUEUE,
            stats_handler=self._stats,
        )
        for name, (subject, endpoint) in endpoints().items():
            await self._listen(self._service, subject, name, self._around(name, endpoint))
        await self._connection.flush()

    @property
    def in_flight(self) -> int:
        """Requests being worked on now."""
        return len(self._tasks)

    async def settled(self) -> None:
        """Return when the requests that are under way now are answered."""
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    async def drain(self) -> None:
        """Take no new request, and answer every one already received."""
        if self._service is None:
            return
        # the service's own stop() drops what the broker has already handed to us, and a request that was being handed
        # over just then arrives a moment after the broker has confirmed: so listening ends a little later than asking
        subscriptions = [endpoint._subscription for endpoint in self._service._endpoints]  # noqa: SLF001
        for subscription in subscriptions:
            await self._connection._send_unsubscribe(subscription._id)  # noqa: SLF001
        await self._connection.flush()
        await asyncio.sleep(LATE_SECONDS)
        await asyncio.gather(*(subscription.drain() for subscription in subscriptions))
        while under_way := self._tasks | self._refusals:
            await asyncio.wait(under_way)
        await self._connection.flush()

    async def _listen(self, service: Service, subject: str, name: str, endpoint: Endpoint) -> None:
        """The micro service tells what there is; requests come past its queue and its task."""

        def received(subject: str, reply: str, body: bytes, headers: Callable[[], dict[str, str]]) -> None:
            try:
                asked = _asked(subject, body, headers())
            except (OAuthError, UnreadableHeaders) as error:
                self._begin(self._refuse(name, reply, refusal_of(error)), self._refusals)
            else:
                self._accept(name, endpoint, asked, reply)

        def take(subject: bytes, reply: bytes, body: bytes, headers: bytes | None) -> None:
            received(as_text(subject), as_text(reply), body, partial(self._connection.headers_of, headers))

        async def early(request: MicroRequest) -> None:  # it came before its subscription was handed over
            message = request._msg  # noqa: SLF001
            received(message.subject, message.reply, message.data, partial(legible, message.headers))

        await service.add_endpoint(name=name, subject=subject, handler=early)
        self._connection.hand_over(service._endpoints[-1]._subscription, take)  # noqa: SLF001

    def _accept(self, name: str, endpoint: Endpoint, asked: Request, reply: str) -> None:
        if len(self._tasks) < IN_FLIGHT:
            self._begin(self._answer(name, endpoint, asked, reply), self._tasks)
        else:
            busy = OAuthError("temporarily_unavailable", "too many requests are under way; try again")
            self._begin(self._refuse(name, reply, busy), self._refusals)

    def _begin(self, answering: Coroutine[Any, Any, None], under_way: set[asyncio.Task[None]]) -> None:
        task = asyncio.create_task(answering)
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    async def _refuse(self, name: str, reply: str, refusal: OAuthError) -> None:
        await self._respond(reply, refusal.body(), refusal.headers())
        self.figures[name].took(0.0, refusal.code)

    async def _answer(self, name: str, endpoint: Endpoint, asked: Request, reply: str) -> None:
        started = time.perf_counter()
        outcome = "ok"
        body: bytes
        headers: dict[str, str] | None = None
        try:
            self._context.skew.require()
            if name.startswith("edge-"):
                asked = await self._authentication.authenticate(asked, name.removeprefix("edge-"))
            body = await endpoint(self._context, asked)
            if time.perf_counter() - started > REQUEST_SECONDS:
                raise OAuthError("temporarily_unavailable", "this took too long to be told; try again")
        except Exception as error:
            refusal = refusal_of(error)
            outcome, body, headers = refusal.code, refusal.body(), refusal.headers()
        if (instead := await self._respond(reply, body, headers)) is not None:
            outcome = instead.code
        took = time.perf_counter() - started
        self.figures[name].took(took, outcome)
        self._journal.decision(name, asked.tenant, asked.client_id, outcome, took)

    async def _respond(self, reply: str, body: bytes, headers: dict[str, str] | None) -> OAuthError | None:
        """The reply is sent, or the refusal that is returned, where the broker takes no message of that size."""
        if not reply:
            return None  # nobody asked for one
        try:
            await self._connection.publish(reply, body, headers=headers)
        except MaxPayloadError:
            log.error("a reply of %d bytes is larger than the broker's messages may be", len(body))
            refusal = OAuthError("server_error", "the answer is too large for one message")
            await self._respond(reply, refusal.body(), refusal.headers())
            return refusal
        except NatsError as error:  # the connection is gone
            log.info("a reply could not be sent: %s", type(error).__name__)
        return None

    def _stats(self, endpoint: EndpointStats) -> Any:
        """What `nats micro stats` tells: the times until the reply, and what came of the requests."""
        return self.figures[endpoint.name].tell(endpoint)


def _asked(subject: str, body: bytes, headers: dict[str, str]) -> Request:
    """Who asks is what the subject says; it says so of clients alone. Raises `invalid_request`."""
    if not is_legible(subject):
        raise OAuthError("invalid_request", ILLEGIBLE)
    fields = subject.split(".")
    client_id = fields[3] if fields[2] == "client" else ""
    return Request(fields[1], client_id, body, headers)


class Figures:
    """One endpoint's: how long its answers took, by what came of them."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Histogram] = {"ok": Histogram(SECONDS)}

    def took(self, seconds: float, outcome: str) -> None:
        """A request was answered."""
        times = self.outcomes.get(outcome)
        if times is None:
            times = self.outcomes[outcome] = Histogram(SECONDS)
        times.observe(seconds)

    def tell(self, stats: EndpointStats) -> dict[str, float]:
        """For `nats micro stats`: what every service tells there, and the same in words of ours."""
        answered = sum(times.count for times in self.outcomes.values())
        seconds = sum(times.sum for times in self.outcomes.values())
        mean = seconds / answered if answered else 0.0
        refused = answered - self.outcomes["ok"].count
        stats.num_requests, stats.num_errors = answered, refused
        stats.processing_time, stats.average_processing_time = round(seconds * 1e9), round(mean * 1e9)
        return {"answered": answered, "refused": refused, "mean_ms": round(mean * 1000, 3)}


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
