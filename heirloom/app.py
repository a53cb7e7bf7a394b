"""The composition root of a replica: the one place where its parts are constructed."""

import asyncio
import base64
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from nats.errors import Error as NatsError

from events.bus.connection import Connection
from events.bus.faststream_broker import Broker
from events.fairness.request_gate import Gate
from events.jetstream.other_streams import OtherStreams, refuse_other_streams
from events.log import stream
from events.log.books import Books, stream_of
from events.log.jetstream_api import Unavailable
from events.task_cancellation import end
from events.task_set import TaskSet
from heirloom import __version__
from heirloom.broker.credentials import Credentials
from heirloom.exposure.doors import try_doors
from heirloom.exposure.probes import some_names
from heirloom.metrics import log_size
from heirloom.metrics.replica_metrics import of_replica
from heirloom.process.process_report import Reporter
from heirloom.replica_connections import Buses, connect_all
from heirloom.tracing import setup
from heirloom.tracing.setup import TracedParts
from service.admin.operations import ORDERS_PER_SECOND, serve_admin
from service.clients.assertion import BUCKET, UsedAssertions
from service.clients.authentication import ClientAuthentication
from service.connections.admission import Admission
from service.connections.auth_callout import Callout
from service.connections.connection_counts import ConnectionCounts
from service.connections.disconnect import ServerConnections
from service.connections.token_connections import TokenConnections
from service.context import AdminContext, Context, Devices
from service.cut_offs.reactor import Reactor
from service.families.cache import DEFAULT_BYTES, FamilyCache
from service.json_log import JsonLog
from service.keys import keyring
from service.keys.keyring import Keyring
from service.keys.seal import Seal
from service.read_model_client import ReadModelClient
from service.registry.registry import Registry
from service.replicas.appended import AppendedCommits
from service.replicas.book_keeper import BookKeeper, BookLimits
from service.replicas.broker_clock import TOLERATED_SECONDS, Skew
from service.replicas.completed_cut_offs import CompletedCutOffs
from service.replicas.device_polls import DevicePolls
from service.replicas.leases import STREAM as LEASES
from service.replicas.leases import Replicas
from service.replicas.user_code_guesses import STREAM as GUESSES
from service.replicas.user_code_guesses import UserCodeGuesses
from service.replicas.waiting_devices import STREAM as DEVICES
from service.replicas.waiting_devices import WaitingDevices
from service.request_handler import RequestHandler
from service.request_rates import RequestRates
from service.revocations import stream as revocations
from service.revocations.pages import Pages
from service.server import Server

log = logging.getLogger("heirloom.replica")


class ReplicaSettings(NamedTuple):
    """How a replica reaches what it needs. Without `credentials`, the broker is not ours and makes no auth callouts.

    `try_doors`: test what strangers may do there. `max_clock_skew` is in seconds.
    `cache_bytes`: how many bytes of commits it may hold in memory (`service.families.cache`).
    """

    url: str
    keyring: Path
    required: stream.Required
    credentials: Credentials | None
    try_doors: bool = True
    max_clock_skew: int = TOLERATED_SECONDS
    cache_bytes: int = DEFAULT_BYTES
    book_limits: BookLimits = BookLimits()


class Disconnected(Exception):
    """A connection was closed for good: this replica receives nothing any more, and must be replaced."""


class _Ending(NamedTuple):
    """Ends connections to the broker: those of clients and roles, and those that tokens opened."""

    connections: ServerConnections
    tokens: TokenConnections

    def end_void(self, tenant: str, client_id: str) -> None:
        """End every connection to which this client or role has no right any more."""
        self.connections.end_void(tenant, client_id)
        self.tokens.end_client(tenant, client_id)


class _Replica(NamedTuple):
    """The parts that everything else of a replica works with. `answers` are the requests that are under way."""

    context: Context
    admin: AdminContext
    ending: _Ending
    news: AppendedCommits
    answers: TaskSet

    def entries_needed(self) -> int:
        """For how many seconds the revocation feed's entries are needed: until all tokens have expired."""
        lives = max((tenant.longest_ttl for tenant in self.context.registry.tenants()), default=0)
        tolerated = int(self.context.skew.tolerated.total_seconds())
        return max(lives, revocations.DEFAULT_LIFETIME) + revocations.tolerance(tolerated)

    async def start(self, connection: Connection, copies: int) -> None:
        """Subscribe to the other replicas, and create the streams that all share. Raises as `run_replica`."""
        context, devices = self.context, self.context.devices
        await context.log.start()
        await devices.polling.start()
        await self.admin.completed.start()
        with contextlib.suppress(Unavailable):  # nothing is answered before there is a measurement
            await context.skew.measure(connection)
        await devices.waiting.start(copies)
        await devices.guesses.start(copies)
        await self.news.start()


async def run_replica(
    settings: ReplicaSettings, json_log: JsonLog, reporter: Reporter, stop: asyncio.Event, ready: asyncio.Event
) -> None:
    """Serve until `stop`, and set `ready` once every endpoint answers. Drains before it returns.

    Raises what prevents it from serving: `KeyringError`, `WeakStream`, `OtherStreams`, `JetStreamMissing`,
    `KeyMismatch`, `UnreadableCommit`, `TracingMissing`, `Disconnected`, `BrokerTooOld`, `OpenDoors`, `Untried`.
    """
    keys, parts = keyring.load(settings.keyring), setup.parts()
    failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with contextlib.AsyncExitStack() as leaving:
        leaving.callback(json_log.flush)
        leaving.push_async_callback(asyncio.to_thread, parts.end)
        buses = await connect_all(settings.url, settings.credentials, partial(_closed_is_failed, failure), leaving)
        leaving.callback(failure.cancel)  # a connection that we close is no failure
        replica, authentication = await _prepared(settings, buses, keys, parts)
        context, ending = replica.context, replica.ending
        if settings.credentials is not None:
            await ending.connections.start()
            _leave_by(leaving, ending.connections.stop)
        following = asyncio.create_task(context.registry.follow(buses.log, partial(_fail, failure)))
        _leave_by(leaving, partial(end, (following,)))
        await _first(context.registry.ready.wait(), failure)  # before that, no lifetime of a token is known
        await revocations.ensure(buses.log, settings.required.copies, replica.entries_needed())
        handler = RequestHandler(context, authentication, json_log, replica.answers)
        server = Server(buses.answering, handler, __version__, parts.around)
        await replica.admin.replicas.start(settings.required.copies)
        _leave_by(leaving, replica.admin.replicas.stop)
        if settings.credentials is not None:
            await _answer_the_broker(settings.credentials, buses, context, authentication, ending, leaving)
        if settings.try_doors:  # now the broker can call out, all names are known, and nobody is served yet
            names = some_names({tenant.name: tenant.clients for tenant in context.registry.tenants()})
            await _first(try_doors(settings.url, settings.credentials, names), failure)
        watching = asyncio.create_task(log_size.watch(context.log.size))
        keeping = asyncio.create_task(revocations.keep(buses.log, settings.required.copies, replica.entries_needed))
        _leave_by(leaving, partial(end, (watching, keeping)))
        gate = await _administer(buses, replica.admin, leaving)
        await server.start()
        _leave_by(leaving, server.drain)
        reporter.gather = partial(of_replica, handler, gate, context, buses.all())
        log.info("serving")
        ready.set()
        leaving.callback(log.info, "draining")
        leaving.callback(failure.cancel)  # a later failure must not stop the draining
        await _first(stop.wait(), failure)


async def _prepared(
    settings: ReplicaSettings, buses: Buses, keys: Keyring, parts: TracedParts
) -> tuple[_Replica, ClientAuthentication]:
    """The replica's parts, subscribed to the other replicas, on streams that are there. Raises as `run_replica`."""
    if settings.try_doors and settings.credentials is None:  # before anything is created there
        await try_doors(settings.url, None)
    await stream.ensure(buses.log, settings.required)
    replica = _constructed(settings, buses, keys, parts)
    await replica.start(buses.log, settings.required.copies)
    used = UsedAssertions(buses.log)
    await used.start(settings.required.copies, settings.max_clock_skew)
    await _refuse_other_streams(buses.log, replica.context.log.books)
    return replica, ClientAuthentication(replica.context, used)


async def _refuse_other_streams(connection: Connection, books: Books) -> None:
    """Raise `OtherStreams` for a stream that is none of ours; a book that is made just now is looked for again."""
    while True:
        await books.look()
        newest = books.newest
        ours = (*stream.SUBJECTS, f"KV_{BUCKET}", LEASES, DEVICES, GUESSES, revocations.STREAM)
        try:
            await refuse_other_streams(connection, (*map(stream_of, range(1, newest.number + 1)), *ours))
        except OtherStreams:
            await books.look()
            if books.newest is newest:
                raise
        else:
            return


async def _administer(buses: Buses, context: AdminContext, leaving: contextlib.AsyncExitStack) -> Gate:
    """Carry out cut-offs, and receive operators' orders through the gate that this returns."""
    reactor = Reactor(buses.log, context)
    await reactor.start()
    reacting = asyncio.create_task(reactor.run())
    _leave_by(leaving, partial(end, (reacting,)))
    closing = asyncio.create_task(context.books.watch())
    _leave_by(leaving, partial(end, (closing,)))
    gate = Gate(ORDERS_PER_SECOND)
    admin = Broker(buses.admin.connection, gate, buses.admin.callers.own_inbox)
    serve_admin(admin, context)
    await admin.start()
    _leave_by(leaving, admin.stop)
    return gate


async def _answer_the_broker(
    credentials: Credentials,
    buses: Buses,
    context: Context,
    authentication: ClientAuthentication,
    ending: _Ending,
    leaving: contextlib.AsyncExitStack,
) -> None:
    """Answer the broker's auth callouts, under the present lease. Pending ones are answered before their parts stop."""
    admission = Admission(context, authentication, base64.b64decode(credentials.client_key))
    counts = ConnectionCounts(ending.connections, context.registry.max_connections, ending.tokens.listed)
    callout = Callout(admission, ending.tokens, counts, credentials.issuer_seed)
    await ending.tokens.start(buses.log)
    _leave_by(leaving, ending.tokens.stop)
    await counts.start()
    _leave_by(leaving, counts.stop)
    await callout.start(buses.callout)
    _leave_by(leaving, callout.drain)


def _constructed(settings: ReplicaSettings, buses: Buses, keys: Keyring, parts: TracedParts) -> _Replica:
    """Construct the replica's parts without starting them: they neither read nor receive anything yet."""

    def voided(tenant: str, client_id: str) -> None:
        if settings.credentials is not None:  # on a foreign broker no connection is closed
            ending.end_void(tenant, client_id)

    log_bus, seal = buses.log, Seal(keys)
    the_log = parts.log(log_bus)
    registry, skew = Registry(the_log, keys, voided), Skew(settings.max_clock_skew)
    cache = FamilyCache(settings.cache_bytes)
    answers = TaskSet()
    replicas = Replicas(log_bus, the_log, registry, skew, seal, answers.settled)
    news = AppendedCommits(log_bus, cache, replicas.is_alone, seal)
    families = parts.families(the_log, registry.blocked_subjects, cache, news.publish)
    devices = Devices(WaitingDevices(log_bus), DevicePolls(log_bus, seal), UserCodeGuesses(log_bus))
    connections = ServerConnections(log_bus, registry)
    ending = _Ending(connections, TokenConnections(families, registry, connections))
    context = Context(the_log, registry, families, keys, skew, RequestRates(registry), devices, Pages(log_bus))
    read_model, completed = ReadModelClient(buses.inquiry), CompletedCutOffs(log_bus, the_log, seal)
    books = BookKeeper(log_bus, the_log, replicas, settings.book_limits)
    admin = AdminContext(the_log, registry, families, keys, skew, replicas, read_model, completed, books)
    return _Replica(context, admin, ending, news, answers)


def _leave_by(leaving: contextlib.AsyncExitStack, leave: Callable[[], Awaitable[None]]) -> None:
    async def leave_if_there_is_a_broker() -> None:
        with contextlib.suppress(NatsError):  # a lost connection must not keep the others from closing
            await leave()

    leaving.push_async_callback(leave_if_there_is_a_broker)


async def _closed_is_failed(failure: "asyncio.Future[None]", what: str) -> None:
    if what == "closed":
        _fail(failure, Disconnected("the broker has ended a connection for good; its log says why"))


def _fail(failure: "asyncio.Future[None]", error: BaseException) -> None:
    """Record the first failure; none counts once the replica stops."""
    if not failure.done():
        failure.set_exception(error)


async def _first(work: Coroutine[Any, Any, object], failure: "asyncio.Future[None]") -> None:
    """Await the work; raises its exception, or a failure that was recorded meanwhile."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait((task, failure), return_when=asyncio.FIRST_COMPLETED)
        if failure.done():
            failure.result()
        await task
    finally:
        await end((task,))
