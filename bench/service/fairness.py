"""Measures the effect of one client's flood on another client, which sends ten requests a second."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

import msgspec

from bench.machine import Figure
from bench.service import flood
from bench.service.load import Caller, percentile
from bench.service.service import CLIENT, QUIET, SCOPE, TENANT, Service

PER_SECOND = 10
FLOOD = 256
"""How many introspections the flooding client has in flight."""


class Fairness(Figure, tag="fairness"):
    """A client's introspection times in ms, at ten a second: while it is alone, and while another client floods."""

    idle_p50_ms: float
    idle_p99_ms: float
    flooded_p50_ms: float
    flooded_p99_ms: float
    flood_per_second: float


async def measure(service: Service, seconds: float) -> Fairness:
    """Measure both for so many seconds each."""
    connection = await service.as_client(QUIET)
    try:
        caller = Caller(connection)
        await caller.start()
        await _times(caller, 1)
        idle = await _times(caller, seconds)
        async with _flood(service) as stopped:
            flooded = await _times(caller, seconds)
        p50, p99 = ([percentile(times, share) * 1000 for times in (idle, flooded)] for share in (0.5, 0.99))
        return Fairness(p50[0], p99[0], p50[1], p99[1], await stopped)
    finally:
        await connection.close()


async def _times(caller: Caller, seconds: float) -> list[float]:
    """Return the times in seconds, in ascending order."""
    subject = f"oauth.{TENANT}.client.{QUIET}"
    issued = await caller.request(f"{subject}.issue", msgspec.json.encode({"sub": "quiet", "scope": SCOPE}))
    token = msgspec.json.encode({"token": msgspec.json.decode(issued)["refresh_token"]})
    times = []
    for _ in range(int(seconds * PER_SECOND)):
        started = perf_counter()
        answer = msgspec.json.decode(await caller.request(f"{subject}.introspect", token))
        times.append(perf_counter() - started)
        assert answer["active"], answer
        await asyncio.sleep(max(1 / PER_SECOND - times[-1], 0))
    return sorted(times)


@asynccontextmanager
async def _flood(service: Service) -> AsyncIterator["asyncio.Future[float]"]:
    """Run the flood during the block; after it, the future has the flood's answers per second."""
    url = service.known.client_url(TENANT, CLIENT, service.host)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", flood.MODULE, url, str(FLOOD), stdin=PIPE, stdout=PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    per_second: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    try:
        await process.stdout.readline()
        yield per_second
    finally:
        process.stdin.close()
        per_second.set_result(float(await process.stdout.readline() or "nan"))
        await process.wait()
