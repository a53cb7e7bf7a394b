"""`heirloom up`: the service on this machine, with a broker of its own or on yours (CONTRACT §7)."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from events.task_cancellation import end
from heirloom.broker import credentials, nats_server
from heirloom.broker.batch_staging import staged_in_memory
from heirloom.broker.cluster import brokers, node_names
from heirloom.broker.copy_repair import CopyKeeper
from heirloom.broker.credentials import Credentials
from heirloom.broker.disk_space import keep_room
from heirloom.broker.own_connection import connect_as, obstacle
from heirloom.broker.run_file import RUNNING, Running, address, host_of
from heirloom.broker.tls import Tls
from heirloom.process.child_process import Child, ChildFailed
from heirloom.process.log_file import DEFAULT_LIMITS, Limits
from heirloom.supervisor.data_directory import CannotStart, locked, prepare
from heirloom.supervisor.service_processes import processes
from service.keys import keyring
from service.replicas.broker_clock import TOLERATED_SECONDS

log = logging.getLogger("heirloom.up")

DRAIN_SECONDS = 15
PATIENCE_SECONDS = 10.0
"""With a process that starts, before a person is told what it waits for."""
EVERYWHERE = {"0.0.0.0": nats_server.HOST, "::": "::1"}  # noqa: S104  # a person's choice
"""By what a broker that listens on every address is reached from here."""


class Options(NamedTuple):
    """`port` 0 takes any free one. `nats` is the URL of a broker of your own, with the service's credentials.

    `cluster` is how many brokers hold the log, on ports from `port` on; with `nats`, how many of yours must.
    `metrics` is where metrics and health are told, host and port. `host` is where the embedded brokers listen.
    `insecure`: nobody tries what strangers may do on a broker of your own. `max_clock_skew` is how many
    seconds a replica's clock may be from the broker's.
    """

    data: Path
    port: int = 4222
    nats: str | None = None
    replicas: int = 1
    sync: str = "always"
    notary: bool = True
    metrics: tuple[str, int] | None = None
    cluster: int = 1
    host: str = nats_server.HOST
    tls: Tls | None = None
    insecure: bool = False
    max_clock_skew: int = TOLERATED_SECONDS
    logs: Limits = DEFAULT_LIMITS


@contextlib.asynccontextmanager
async def running(options: Options, progress: Callable[[str], None] = lambda _: None) -> AsyncIterator[Running]:
    """The whole service, ready; ended in order when the block ends. Raises `CannotStart`."""
    data = options.data.resolve()
    prepare(data)
    with locked(data):
        try:
            where, children = await (_on_own_broker(data, options) if options.nats is None else _on(data, options))
        except keyring.KeyringError as error:
            raise CannotStart(str(error)) from error
        started: list[Child] = []
        ours = [child for child in children if _is_broker(child)]
        async with _staged(ours, data), _observed(options.metrics, started) as metrics:
            try:
                progress("starting " + (ours[0].name if len(ours) == 1 else f"{len(ours)} brokers"))
                started += ours
                await asyncio.gather(*(broker.start() for broker in ours))  # a cluster is ready when most of it is
                async with _looked_after(ours, data, where.url):
                    others = children[len(ours) :]
                    progress("starting " + ", ".join(child.name for child in others))
                    started += others
                    for together in _in_order(others, options):
                        await _start(together)
                    where = msgspec.structs.replace(where, metrics=metrics)
                    (data / RUNNING).write_bytes(msgspec.json.encode(where))
                    yield where
            except ChildFailed as error:
                raise CannotStart(str(error)) from error
            finally:
                (data / RUNNING).unlink(missing_ok=True)
                await _stop(started)


@contextlib.asynccontextmanager
async def _looked_after(ours: list[Child], data: Path, url: str) -> AsyncIterator[None]:
    """The brokers that are ours, if any: there is room on their disks, and in a cluster every copy is whole."""
    hands = asyncio.Lock()
    async with contextlib.AsyncExitStack() as leaving:
        keeping = [asyncio.create_task(keep_room(ours, hands), name="keeping room on the disks")]
        if len(ours) > 1:
            connection = await connect_as("keeper", "up", url, credentials.load(data))
            leaving.push_async_callback(connection.close)
            keeper = CopyKeeper(connection, dict(zip(node_names(len(ours)), ours, strict=True)), hands)
            await keeper.look()  # before anybody is served from a copy that lacks something
            keeping.append(asyncio.create_task(keeper.for_ever(), name="keeping the copies whole"))
        for task in keeping:
            task.add_done_callback(_told)
        try:
            yield
        finally:
            await end(keeping)


def _staged(ours: list[Child], data: Path) -> contextlib.AbstractAsyncContextManager[None]:
    """A cluster's servers do so by themselves, and a broker that is somebody else's is his."""
    return staged_in_memory(data / "jetstream") if len(ours) == 1 else contextlib.nullcontext()


def _told(task: asyncio.Task[None]) -> None:
    """What should go on for ever has ended in a way that nobody thought of: the service goes on without it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%s has ended; start heirloom up again to have it back", task.get_name(), exc_info=error)


@contextlib.asynccontextmanager
async def _observed(address: tuple[str, int] | None, children: list[Child]) -> AsyncIterator[str | None]:
    """Tell metrics and health there, from the start on; gives the address. Raises `CannotStart`."""
    if address is None:
        yield None
        return
    from heirloom.metrics.http import CannotListen, observed

    try:
        async with observed(*address, children) as listening:
            yield listening
    except CannotListen as error:
        raise CannotStart(str(error)) from error


async def _on_own_broker(data: Path, options: Options) -> tuple[Running, list[Child]]:
    known = credentials.ensure(data)
    ports = await _ports(data, options.port, options.cluster)
    if options.tls is not None:
        options.tls.be_trusted()
    near = EVERYWHERE.get(options.host, options.host)
    owner = nats_server.owner() if options.tls is None else None
    where = Running(
        ",".join(address(near, port) for port in ports), os.getpid(), ours=True, tls=options.tls, owner=owner
    )
    where.know_the_broker()
    children = brokers(data, ports, known, options.sync, options.host, options.tls, options.logs)
    return where, [*children, *_processes(data, where.url, where, options)]


async def _on(data: Path, options: Options) -> tuple[Running, list[Child]]:
    """On a broker somebody else runs: with the credentials in its URL, or else with those of `broker-config`."""
    url = options.nats or ""
    ours = urlsplit(url).username is None and (data / credentials.FILE).exists()
    await _reachable(url, credentials.ensure(data) if ours else None)
    where = Running(host_of(url), os.getpid(), ours)
    return where, _processes(data, url, where, options)


def _processes(data: Path, url: str, where: Running, options: Options) -> list[Child]:
    return processes(
        data,
        url,
        replicas=options.replicas,
        copies=options.cluster,
        notary=options.notary,
        ours=where.ours,
        doors=options.nats is not None and not options.insecure,
        max_clock_skew=options.max_clock_skew,
        logs=options.logs,
    )


def _in_order(others: list[Child], options: Options) -> Iterator[list[Child]]:
    """Those of each start together.

    Nobody vouches for a log before a replica has held the keyring against it, nor answers on a broker of somebody
    else's before a replica has tried its doors.
    """
    replicas, notaries = (list(filter(those, others)) for those in (_is_replica, _is_notary))
    rest = [child for child in others if child not in replicas and child not in notaries]
    yield from ([replicas, rest] if options.nats is not None else [replicas + rest])
    yield notaries


async def _start(children: list[Child]) -> None:
    """All at once: each waits for what it needs of the others. Raises `ChildFailed` as soon as one fails."""
    starting = [asyncio.create_task(child.start()) for child in children]
    telling = [asyncio.create_task(_tell_obstacles(child)) for child in children if child.reports]
    try:
        await asyncio.gather(*starting)
    finally:
        await end([*starting, *telling])


async def _tell_obstacles(child: Child) -> None:
    """Say what keeps it from being ready, where that takes long and whenever it is something else."""
    told: tuple[str, ...] = ()
    while True:
        await asyncio.sleep(PATIENCE_SECONDS)
        with contextlib.suppress(TimeoutError):
            report = await child.ask(PATIENCE_SECONDS)
            if report is not None and report.obstacles != told:
                told = report.obstacles
                log.warning("%s is not ready yet: %s", child.name, "; ".join(told))


async def _stop(started: list[Child]) -> None:
    """Those who answer end first, all at once; the brokers, if they are ours, last."""
    for children in ([child for child in started if not _is_broker(child)], filter(_is_broker, started)):
        await asyncio.gather(*(child.stop(DRAIN_SECONDS) for child in children))


def _is_replica(child: Child) -> bool:
    return "replica" in child.name


def _is_notary(child: Child) -> bool:
    return "notary" in child.name


def _is_broker(child: Child) -> bool:
    return "broker" in child.name


async def _ports(data: Path, wanted: int, count: int) -> list[int]:
    alone, clustered = data / "jetstream", data / node_names(count)[0]
    if count > 1 and alone.exists():
        raise CannotStart(f"{data} holds the log of one broker: start without --cluster, or choose another --data")
    if count == 1 and clustered.exists():
        raise CannotStart(f"{data} holds the log of a cluster: start with --cluster 3, or choose another --data")
    for directory in (data, *(data / name for name in node_names(count))):
        nats_server.end_orphan(directory / "nats.pid")
    if wanted == 0:
        return nats_server.free_ports(count)
    ports = [wanted + number for number in range(count)]
    for port in ports:
        if not await nats_server.wait_until_free(port, 3):
            raise CannotStart(f"port {port} is in use; choose another with --port, or 0 for any")
    return ports


async def _reachable(url: str, known: Credentials | None) -> None:
    try:
        connection = await connect_as("keeper", "up", url, known, patient=False)
    except Exception as error:
        raise CannotStart(obstacle(error, host_of(url), "the service")) from error
    await connection.close()
