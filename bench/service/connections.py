"""Measures new connections per second, each authenticated by the service (auth callout)."""

import asyncio
import itertools
import json
import os
import time
from statistics import median

import nats

from bench.machine import Figure, cpu_seconds
from bench.service.edge import secret_of
from bench.service.service import CLIENT, TENANT, Service

CONCURRENT_CONNECTS = 8
PEOPLE = 1_000
"""A person's grant may have few connections, and one that was just closed counts until the next count."""


class Connections(Figure, tag="connections"):
    """Connections by the client's kind of `proof`; `service_us` is the service's CPU for each."""

    proof: str
    per_second: float
    p50_ms: float
    service_us: float
    client_us: float


async def measure(service: Service, seconds: float) -> list[Connections]:
    """Connect with the password of `heirloom url`, the client's secret, and people's access tokens, a few at a time."""
    user = f"{TENANT}.{CLIENT}"
    url = service.known.client_url(TENANT, CLIENT, service.host)
    password = url.removeprefix(f"nats://{user}:").partition("@")[0]
    proofs = {
        "password": [password],
        "secret": [await secret_of(service)],
        "access token": await _access_tokens(service),
    }
    return [await _measure(service, user, name, shown, seconds) for name, shown in proofs.items()]


async def _access_tokens(service: Service) -> list[str]:
    connection = await service.as_client()
    try:
        return [
            json.loads(issued.data)["access_token"]
            for number in range(PEOPLE)
            if (issued := await connection.request(f"oauth.{TENANT}.client.{CLIENT}.issue", _issue(number)))
        ]
    finally:
        await connection.close()


def _issue(number: int) -> bytes:
    return json.dumps({"sub": f"user{number}", "scope": "read"}).encode()


async def _measure(service: Service, user: str, name: str, proofs: list[str], seconds: float) -> Connections:
    shown = itertools.cycle(proofs)

    async def open_and_close() -> float:
        begun = time.perf_counter()
        proof = next(shown)
        connection = await nats.connect(f"nats://{service.host}", user=user, password=proof, allow_reconnect=False)
        took = time.perf_counter() - begun
        await connection.close()
        return took

    await open_and_close()
    took: list[float] = []

    async def work() -> None:
        while time.perf_counter() < end:
            took.append(await open_and_close())

    processes, own = service.processes["service"], [os.getpid()]
    before, own_before, started = cpu_seconds(processes), cpu_seconds(own), time.perf_counter()
    end = started + seconds
    await asyncio.gather(*(work() for _ in range(CONCURRENT_CONNECTS)))
    elapsed, count = time.perf_counter() - started, len(took)
    used, own_used = cpu_seconds(processes) - before, cpu_seconds(own) - own_before
    return Connections(
        proof=name,
        per_second=count / elapsed,
        p50_ms=median(took) * 1000,
        service_us=used / count * 1e6,
        client_us=own_used / count * 1e6,
    )
