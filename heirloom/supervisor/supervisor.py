"""`heirloom up`: the service on this machine, with a broker of its own or on yours (contract §7)."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from urllib.parse import urlsplit

import msgspec

from events import files
from events.task_cancellation import end
from heirloom.broker import credentials, nats_server
from heirloom.broker.batch_staging import staged_in_memory
from heirloom.broker.cluster import BrokerOptions, brokers
from heirloom.broker.copy_repair import CopyKeeper
from heirloom.broker.credentials import Credentials
from heirloom.broker.disk_space import keep_room
from heirloom.broker.own_connection import connect_as, obstacle
from heirloom.broker.run_file import Running, address, host_of
from heirloom.data_directory import DataDirectory, node_names
from heirloom.process.child_process import Child, ChildFailed
from heirloom.supervisor.options import ServiceOptions
from heirloom.supervisor.preparation import CannotStart, locked, prepare
from heirloom.supervisor.service_processes import processes
from service.keys import keyring

log = logging.getLogger("heirloom.up")

DRAIN_SECONDS = 15
"""How long a replica, the projector or the notary may take to end."""
OBSTACLE_SECONDS = 10.0
"""How long a process may take to start before its obstacles are logged, and how long it may take to report them."""
REACHED_BY = {"0.0.0.0": nats_server.HOST, "::": "::1"}  # noqa: S104  # a person's choice
"""Maps an address that means every interface to the one by which this machine reaches the broker."""


@contextlib.asynccontextmanager
async def running(options: ServiceOptions, progress: Callable[[str], None] = lambda _: None) -> AsyncIterator[Running]:
    """Run the whole service; it is ready inside the block, and stopped in order after it. Raises `CannotStart`."""
    data = DataDirectory(options.data.resolve())
    prepare(data)
    with locked(data):
        try:
            where, children = await (_on_own_broker(data, options) if options.nats is None else _on(data, options))
        except keyring.KeyringError as error:
            raise CannotStart(str(error)) from error
        started: list[Child] = []
        own_brokers = [child for child in children if child.kind == "broker"]
        others = [child for child in children if child.kind != "broker"]
        async with _staged(own_brokers, data), _metrics_served(options.metrics, started) as metrics:
            try:
                await _start_brokers(own_brokers, started, progress)
                async with _brokers_kept(own_brokers, data, where.url):
                    progress("starting " + ", ".join(child.name for child in others))
                    started += others
                    for together in _in_order(others, options):
                        await _start(together)
                    where = msgspec.structs.replace(where, metrics=metrics)
                    files.replace(data.run_file, msgspec.json.encode(where))
                    yield where
            except ChildFailed as error:
                raise CannotStart(str(error)) from error
            finally:
                data.run_file.unlink(missing_ok=True)
                await _stop(started)


async def _start_brokers(own_brokers: list[Child], started: list[Child], progress: Callable[[str], None]) -> None:
    progress("starting " + (own_brokers[0].name if len(own_brokers) == 1 else f"{len(own_brokers)} brokers"))
    started += own_brokers
    await asyncio.gather(*(broker.start() for broker in own_brokers))  # a cluster is ready when most of it is


@contextlib.asynccontextmanager
async def _brokers_kept(own_brokers: list[Child], data: DataDirectory, url: str) -> AsyncIterator[None]:
    """While the block runs, keep room on the brokers' disks, and in a cluster repair damaged copies of the log."""
    broker_lock = asyncio.Lock()
    async with contextlib.AsyncExitStack() as leaving:
        keeping = [asyncio.create_task(keep_room(own_brokers, broker_lock), name="keeping room on the disks")]
        if len(own_brokers) > 1:
            connection = await connect_as("keeper", "up", url, credentials.load(data.path))
            leaving.push_async_callback(connection.close)
            by_name = dict(zip(node_names(len(own_brokers)), own_brokers, strict=True))
            stores = {name: data.node(name).store for name in by_name}
            keeper = CopyKeeper(connection, by_name, stores, broker_lock)
            await keeper.look()  # before anybody is served from a damaged copy
            keeping.append(asyncio.create_task(keeper.for_ever(), name="keeping the copies whole"))
        for task in keeping:
            task.add_done_callback(_log_failure)
        try:
            yield
        finally:
            await end(keeping)


def _staged(own_brokers: list[Child], data: DataDirectory) -> contextlib.AbstractAsyncContextManager[None]:
    """Stage batches in memory on a broker that is alone. A cluster does so by itself; a foreign broker is not ours."""
    return staged_in_memory(data.broker.store) if len(own_brokers) == 1 else contextlib.nullcontext()


def _log_failure(task: asyncio.Task[None]) -> None:
    """Log that a task which should run for ever has failed; the service runs on without it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%s has ended; start heirloom up again to have it back", task.get_name(), exc_info=error)


@contextlib.asynccontextmanager
async def _metrics_served(address: tuple[str, int] | None, children: list[Child]) -> AsyncIterator[str | None]:
    """Serve metrics and health there, also during the start; yields the address. Raises `CannotStart`."""
    if address is None:
        yield None
        return
    from heirloom.metrics.http import CannotListen, observed

    try:
        async with observed(*address, children) as listening:
            yield listening
    except CannotListen as error:
        raise CannotStart(str(error)) from error


async def _on_own_broker(data: DataDirectory, options: ServiceOptions) -> tuple[Running, list[Child]]:
    known = credentials.ensure(data.path)
    ports = await _ports(data, options.port, options.cluster)
    if options.tls is not None:
        options.tls.pin()
    reached = REACHED_BY.get(options.host, options.host)
    owner = nats_server.owner() if options.tls is None else None
    hosts = ",".join(address(reached, port) for port in ports)
    where = Running(hosts, os.getpid(), ours=True, tls=options.tls, owner=owner)
    where.pin_broker()
    broker_options = BrokerOptions(options.sync, options.host, options.tls, options.logs, options.broker_memory)
    children = brokers(data, ports, known, broker_options)
    return where, [*children, *processes(data, where.url, options, ours=True)]


async def _on(data: DataDirectory, options: ServiceOptions) -> tuple[Running, list[Child]]:
    """On a broker that somebody else runs, with the credentials in its URL, or else with those of `broker-config`."""
    url = options.nats or ""
    ours = urlsplit(url).username is None and data.credentials.exists()
    await _check_reachable(url, credentials.ensure(data.path) if ours else None)
    where = Running(host_of(url), os.getpid(), ours)
    return where, processes(data, url, options, ours=ours)


def _in_order(children: list[Child], options: ServiceOptions) -> Iterator[list[Child]]:
    """The processes in groups; the processes of a group start together.

    The notary signs no log before a replica has checked the keyring against it, and the publisher publishes none; and
    nothing answers on a foreign broker before a replica has tested what strangers may do there.
    """
    replicas = [child for child in children if child.kind == "replica"]
    followers = [child for child in children if child.kind in ("publisher", "notary")]
    rest = [child for child in children if child not in (*replicas, *followers)]
    yield from ([replicas, rest] if options.nats is not None else [replicas + rest])
    yield followers


async def _start(children: list[Child]) -> None:
    """Start them all at once: each waits for what it needs of the others. Raises `ChildFailed` at the first failure."""
    starting = [asyncio.create_task(child.start()) for child in children]
    logging_obstacles = [asyncio.create_task(_log_obstacles(child)) for child in children if child.reports]
    try:
        await asyncio.gather(*starting)
    finally:
        await end([*starting, *logging_obstacles])


async def _log_obstacles(child: Child) -> None:
    """Log why a process is not ready, once its start takes long, and again whenever the reasons change."""
    logged: tuple[str, ...] = ()
    while True:
        await asyncio.sleep(OBSTACLE_SECONDS)
        with contextlib.suppress(TimeoutError):
            report = await child.request_report(OBSTACLE_SECONDS)
            if report is not None and report.obstacles != logged:
                logged = report.obstacles
                log.warning("%s is not ready yet: %s", child.name, "; ".join(logged))


async def _stop(started: list[Child]) -> None:
    """Stop the processes that answer requests first, all at once, and the brokers last."""
    own_brokers = [child for child in started if child.kind == "broker"]
    others = [child for child in started if child.kind != "broker"]
    for children, seconds in ((others, DRAIN_SECONDS), (own_brokers, nats_server.STOP_SECONDS)):
        await asyncio.gather(*(child.stop(seconds) for child in children))


async def _ports(data: DataDirectory, wanted: int, count: int) -> list[int]:
    nodes = [data.node(name) for name in node_names(count)]
    if count > 1 and data.broker.store.exists():
        raise CannotStart(f"{data.path} holds the log of one broker: start without --cluster, or choose another --data")
    if count == 1 and nodes[0].path.exists():
        raise CannotStart(f"{data.path} holds the log of a cluster: start with --cluster 3, or choose another --data")
    if not all(await asyncio.gather(*(nats_server.end_orphan(directory) for directory in (data.broker, *nodes)))):
        raise CannotStart(f"a broker of an earlier start still runs on {data.path} and does not end; end it first")
    if wanted == 0:
        return nats_server.free_ports(count)
    ports = [wanted + number for number in range(count)]
    for port in ports:
        if not await nats_server.wait_until_free(port, 3):
            raise CannotStart(f"port {port} is in use; choose another with --port, or 0 for any")
    return ports


async def _check_reachable(url: str, known: Credentials | None) -> None:
    """Raises `CannotStart` where the broker does not let us in."""
    try:
        connection = await connect_as("keeper", "up", url, known, patient=False)
    except Exception as error:
        raise CannotStart(obstacle(error, host_of(url), "the service")) from error
    await connection.close()
