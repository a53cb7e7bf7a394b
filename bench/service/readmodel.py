"""Measures how fast the read model is rebuilt, and how far it is behind under full load."""

import asyncio
import os
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from bench.machine import Figure
from bench.service.load import Worker, busy, percentile
from bench.service.refresh import families
from bench.service.service import ANYTHING, TENANT, Service
from events.aggregates.aggregate_names import EVERYTHING, STREAM
from events.bus.connect import connect
from events.bus.connection import Connection
from events.log.stream import last_sequence
from heirloom.broker.own_connection import connect_as
from projections.projector.feed import Extent, feed

ROUNDS = 3
SAMPLE_SECONDS = 0.1


class Rebuild(Figure, tag="rebuild"):
    """Commits/s and CPU µs per commit of a projection of the whole log into a fresh file, with reading.

    `reading_…` are those of nats-py alone: an ordered push consumer with a callback that does nothing. The figures are
    medians of some rounds, in which both take turns, without the broker's CPU.
    """

    commits: int
    per_second: float
    cpu_us: float
    reading_per_second: float
    reading_cpu_us: float


class Lag(Figure, tag="lag"):
    """The lag of the read model behind the log, sampled while `in_flight` families refresh at `per_second`.

    In commits, from `audit.<tenant>.position`; and in ms until a position with the log's end as `min_seq` is answered.
    That includes the request for the end, so it is an upper bound.
    """

    in_flight: int
    per_second: float
    samples: int
    p50_ms: float
    max_ms: float
    p50_commits: int
    max_commits: int
    errors: dict[str, int]


class _Position(msgspec.Struct):
    lag: int | None = None
    error: str | None = None


async def rebuild(service: Service) -> Rebuild:
    """Rebuild it from the log as it is now; the service is idle meanwhile."""
    connection = await connect_as("projector", "heirloom bench", f"nats://{service.host}", service.known)
    plain = await service.as_service()  # our own connection skips the headers
    try:
        end = await last_sequence(connection)
        rounds = [(*await _read_alone(plain, end), *await _project(connection, end)) for _ in range(ROUNDS)]
    finally:
        await connection.close()
        await plain.close()
    reading, reading_cpu, building, building_cpu = (median(values) for values in zip(*rounds, strict=True))
    return Rebuild(end, end / building, building_cpu / end * 1e6, end / reading, reading_cpu / end * 1e6)


async def _read_alone(connection: Client, end: int) -> tuple[float, float]:
    """Return seconds and CPU seconds."""
    finished, count = asyncio.Event(), 0

    async def nothing(_: Msg) -> None:
        nonlocal count
        count += 1
        if count == end:
            finished.set()

    started, cpu = perf_counter(), _cpu_seconds()
    subscription = await connection.jetstream().subscribe(EVERYTHING, stream=STREAM, ordered_consumer=True, cb=nothing)
    await finished.wait()
    took = perf_counter() - started, _cpu_seconds() - cpu
    await subscription.unsubscribe()
    return took


async def _project(connection: Connection, end: int) -> tuple[float, float]:
    """Return seconds and CPU seconds, with the writer process. Raises `RuntimeError` if the end is not reached."""
    applied = [0]
    with tempfile.TemporaryDirectory(prefix="heirloom-bench-") as directory:
        started, cpu = perf_counter(), _cpu_seconds()
        outcome = await feed(connection, Path(directory) / "read-model.db", Extent(until=end), applied.append)
        took = perf_counter() - started, _cpu_seconds() - cpu
    if applied[-1] != end:
        raise RuntimeError(f"the read model ended at {applied[-1]} of {end}: {outcome}")
    return took


def _cpu_seconds() -> float:
    """The CPU time of this process and of its children that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


async def lag(service: Service, in_flight: int, seconds: float) -> Lag:
    """Measure the lag under full load."""
    auditor = await service.as_auditor()
    log = await connect(service.known.url(ANYTHING, service.host), "heirloom bench")
    try:
        async with families(service, in_flight) as opened:
            workers: list[Worker] = [family.refresh for family in opened]
            async with busy(workers) as record:
                started = perf_counter()
                commits, delays = await _sample(auditor, log, started + seconds)
                took, count = perf_counter() - started, len(record.answers)
    finally:
        await auditor.close()
        await log.close()
    return Lag(
        in_flight=in_flight,
        per_second=count / took,
        samples=len(delays),
        p50_ms=percentile(delays, 0.5) * 1000,
        max_ms=delays[-1] * 1000,
        p50_commits=int(percentile(commits, 0.5)),
        max_commits=commits[-1],
        errors=dict(record.errors),
    )


async def _sample(auditor: Client, log: Connection, until: float) -> tuple[list[int], list[float]]:
    """Return the lags in commits and in seconds, each in ascending order."""
    commits: list[int] = []
    delays: list[float] = []
    while perf_counter() < until:
        commits.append(await _position(auditor, {}))
        started = perf_counter()
        await _position(auditor, {"min_seq": await last_sequence(log)})
        delays.append(perf_counter() - started)
        await asyncio.sleep(SAMPLE_SECONDS)
    return sorted(commits), sorted(delays)


async def _position(auditor: Client, request: dict[str, int]) -> int:
    """Query the lag in commits. Raises `RuntimeError` for an error."""
    reply = await auditor.request(f"audit.{TENANT}.position", msgspec.json.encode(request), timeout=30)
    position = msgspec.json.decode(reply.data, type=_Position)
    if position.lag is None:
        raise RuntimeError(f"the read model does not answer: {position.error}")
    return position.lag
