"""The composition root of a replica: the one place where its parts are constructed."""

import asyncio
import base64
import contextlib
import logging
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from nats.errors import Error as NatsError

from events import bus, stream
from events.broker import Broker
from events.ending import end
from heirloom import __version__, tracing
from heirloom.credentials import Credentials
from heirloom.replica_figures import of_replica
from heirloom.report import Reporter
from service import keyring
from service.admin.serve import serve_admin
from service.callout import Callout
from service.client_assertion import UsedAssertions
from service.client_authentication import ClientAuthentication
from service.client_secret import Secrets
from service.completed import Completed
from service.connecting import Connecting
from service.context import Context
from service.disconnecting import Connections
from service.holding import Holdings
from service.journal import Journal
from service.news import News
from service.polling import Polling
from service.reactor import Reactor
from service.read_model import ReadModel
from service.registry import Registry
from service.replicas import Replicas
from service.server import Server

log = logging.getLogger("heirloom.replica")


class Settings(NamedTuple):
    """Where a replica finds what it needs. Without `credentials` the broker is not ours and asks us nothing."""

    url: str
    keyring: Path
    required: stream.Required
    credentials: Credentials | None


class Disconnected(Exception):
    """A connection was ended for good: nothing reaches this replica any more, and only another one can take over."""


async def run_replica(
    settings: Settings, journal: Journal, reporter: Reporter, stop: asyncio.Event, ready: asyncio.Event
) -> None:
    """Serve until `stop`; sets `ready` once every endpoint answers. Drains before it returns.

    Raises what keeps it from serving: `KeyringError`, `WeakStream`, `JetStreamMissing`, `KeyMismatch`,
    `UnreadableCommit`, `TracingMissing`, `Disconnected`.
    """
    keys, parts = keyring.load(settings.keyring), tracing.parts()
    failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    changed = partial(_closed_is_failed, failure)
    log_bus = await bus.connect(settings.url, "heirloom log", on_change=changed)
    api_bus = await bus.connect(settings.url, "heirloom api", echo=False, on_change=changed)
    admin_bus = await bus.connect(settings.url, "heirloom admin", on_change=changed)
    await stream.ensure(log_bus, settings.required)
    the_log = parts.log(log_bus)
    await the_log.start()
    registry = Registry(the_log, keys)
    polling = Polling(log_bus)
    await polling.start()
    families, replicas = parts.families(the_log, registry.subjects), Replicas(log_bus, the_log, registry)
    news = News(api_bus, families.recent, replicas.is_alone)
    await news.start()
    families.spread = news.spread
    completed = Completed(log_bus, the_log)
    await completed.start()
    context = Context(the_log, registry, families, keys, polling, replicas, ReadModel(log_bus), completed)
    used = UsedAssertions(log_bus)
    await used.start(settings.required.replicas)
    authentication = ClientAuthentication(context, Secrets(), used)
    connections = Connections(log_bus, registry)
    holdings = Holdings(families, registry, connections)
    if settings.credentials is not None:
        await connections.start()
        registry.when_disabled = partial(_end_client, connections, holdings)
    following = asyncio.create_task(registry.follow(log_bus, partial(_fail, failure)))
    await _first(registry.ready.wait(), failure)
    callout: Callout | None = None
    if settings.credentials is not None:
        connecting = Connecting(context, authentication, base64.b64decode(settings.credentials.client_key))
        callout = Callout(connecting, holdings, settings.credentials.issuer_seed)
        await callout.start(api_bus)
        await holdings.start(log_bus)
    server = Server(api_bus, context, authentication, journal, __version__, parts.around)
    await replicas.start(server.settled, settings.required.replicas)
    reacting = asyncio.create_task(Reactor(log_bus, context).run())
    admin = Broker(admin_bus)
    serve_admin(admin, context)
    await admin.start()
    await server.start()
    reporter.gather = partial(of_replica, server, families, the_log, registry, (api_bus, admin_bus, log_bus))
    log.info("serving")
    ready.set()
    try:
        await _first(stop.wait(), failure)
    finally:
        failure.cancel()  # what is closed from here on is closed by us
        log.info("draining")
        reacts, follows = partial(end, (reacting,)), partial(end, (following,))
        drains = (server.drain,) if callout is None else (callout.drain, server.drain)
        ends = holdings.stop, connections.stop, replicas.stop
        for leave in (*drains, admin.stop, reacts, *ends, follows):
            with contextlib.suppress(NatsError):  # a connection that is gone keeps nobody from leaving the others
                await leave()
        for connection in (api_bus, admin_bus, log_bus):
            await connection.close()
        await asyncio.to_thread(parts.end)
        journal.flush()


def _end_client(connections: Connections, holdings: Holdings, tenant: str, client_id: str) -> None:
    connections.end_client(tenant, client_id)
    holdings.end_client(tenant, client_id)


async def _closed_is_failed(failure: "asyncio.Future[None]", what: str) -> None:
    if what == "closed":
        _fail(failure, Disconnected("the broker has ended a connection for good; its log says why"))


def _fail(failure: "asyncio.Future[None]", error: BaseException) -> None:
    """The first failure counts, and none once the replica leaves."""
    if not failure.done():
        failure.set_exception(error)


async def _first(work: Coroutine[Any, Any, object], failure: "asyncio.Future[None]") -> None:
    """Wait for the work, or raise what failed meanwhile."""
    task = asyncio.create_task(work)
    await asyncio.wait((task, failure), return_when=asyncio.FIRST_COMPLETED)
    task.cancel()
    if failure.done():
        failure.result()
