"""Measures how long after the service has acknowledged a revocation verifiers reject the token."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from time import perf_counter
from typing import Any

import msgspec
import nats
from nats.aio.client import Client as Nats
from nats.aio.msg import Msg

from bench.machine import Figure
from bench.service.load import Caller, Failed, percentile
from bench.service.refresh import Family, families
from bench.service.service import CLIENT, TENANT, Service
from heirloom_client import Client, InvalidToken, Verifier

VERIFIERS, REFRESHES_PER_SECOND, IN_TURN = 20, 500, 64
PAUSE_SECONDS = 0.05
LOOK_SECONDS = 0.0005
ISSUER = "https://acme.example"
ROUND = "bench.round"


class Revocation(Figure, tag="revocation"):
    """From an acknowledged revocation until all verifiers reject; and from a publish until all subscribers have it."""

    verifiers: int
    samples: int
    refreshes_per_second: float
    p50_ms: float
    p99_ms: float
    round_p50_ms: float
    round_p99_ms: float


async def measure(service: Service, seconds: float) -> Revocation:
    """Revoke tokens one after another beside refreshes, and publish a raw message to as many after each."""
    async with contextlib.AsyncExitStack() as stack:
        opened = await stack.enter_async_context(families(service, IN_TURN))
        verifiers = [await stack.enter_async_context(_verifier(service)) for _ in range(VERIFIERS)]
        subscribers = await stack.enter_async_context(_subscribers(service))
        connection = await service.as_client()
        stack.push_async_callback(connection.close)
        caller = Caller(connection)
        await caller.start()
        count = await stack.enter_async_context(_refreshing(opened))
        taken, rounds = list[float](), list[float]()
        began, before = perf_counter(), count[0]
        while perf_counter() - began < seconds:
            taken.append(await _revoked(caller, verifiers))
            rounds.append(await subscribers.round())
            await asyncio.sleep(PAUSE_SECONDS)
        rate = (count[0] - before) / (perf_counter() - began)
    times = [sorted(taken), sorted(rounds)]
    p50, p99, round_p50, round_p99 = (percentile(some, share) * 1000 for some in times for share in (0.5, 0.99))
    return Revocation(VERIFIERS, len(taken), rate, p50, p99, round_p50, round_p99)


async def _revoked(caller: Caller, verifiers: Sequence[Verifier]) -> float:
    """Seconds from the acknowledgement until the last verifier knows."""
    subject = f"oauth.{TENANT}.client.{CLIENT}"
    issued = await caller.request(f"{subject}.issue", b'{"sub":"alice","scope":"read offline_access"}')
    tokens: dict[str, Any] = msgspec.json.decode(issued)
    claims = verifiers[0].verify(tokens["access_token"])
    await caller.request(f"{subject}.revoke", msgspec.json.encode({"token": tokens["refresh_token"]}))
    acknowledged = perf_counter()
    while not all(verifier._feed.revoked.holds(claims) for verifier in verifiers):  # noqa: ASYNC110  # no hook to wait for
        await asyncio.sleep(LOOK_SECONDS)
    took = perf_counter() - acknowledged
    for verifier in verifiers:
        with contextlib.suppress(InvalidToken):
            verifier.verify(tokens["access_token"])
            raise Failed("a revoked token was accepted")
    return took


@contextlib.asynccontextmanager
async def _verifier(service: Service) -> AsyncIterator[Verifier]:
    resource = Client.connect(service.known.url("resource", service.host), tenant=TENANT)
    async with resource, await Verifier.follow(resource, audience=ISSUER, stale_after=30) as verifier:
        yield verifier


@contextlib.asynccontextmanager
async def _refreshing(opened: Sequence[Family]) -> AsyncIterator[list[int]]:
    """So many refreshes a second, by whichever family is idle; yields their count."""
    idle, count, tasks = deque(opened), [0], set[asyncio.Task[None]]()

    async def refresh(family: Family) -> None:
        await family.refresh()
        count[0] += 1
        idle.append(family)

    async def pace() -> None:
        began = perf_counter()
        for number in range(1 << 60):
            await asyncio.sleep(max(began + number / REFRESHES_PER_SECOND - perf_counter(), 0))
            if idle:
                task = asyncio.create_task(refresh(idle.popleft()))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

    pacing = asyncio.create_task(pace())
    try:
        yield count
    finally:
        pacing.cancel()
        await asyncio.gather(pacing, *tasks, return_exceptions=True)


class _Subscribers:
    """Plain connections in one account, and one that publishes to them."""

    def __init__(self, publisher: Nats) -> None:
        self._publisher = publisher
        self._left = 0
        self._all = asyncio.Event()

    async def receive(self, _message: Msg) -> None:
        self._left -= 1
        if self._left == 0:
            self._all.set()

    async def round(self) -> float:
        """Seconds from a publish until the last has received it."""
        self._left = VERIFIERS
        self._all.clear()
        began = perf_counter()
        await self._publisher.publish(ROUND, b"x" * 150)
        await self._publisher._flush_pending()
        await self._all.wait()
        return perf_counter() - began


@contextlib.asynccontextmanager
async def _subscribers(service: Service) -> AsyncIterator[_Subscribers]:
    url, connections = service.known.url("bench", service.host), list[Nats]()
    try:
        for _ in range(VERIFIERS + 1):
            connections.append(await nats.connect(url))
        subscribers = _Subscribers(connections[0])
        for connection in connections[1:]:
            await connection.subscribe(ROUND, cb=subscribers.receive)
            await connection.flush()
        yield subscribers
    finally:
        for connection in connections:
            await connection.close()
