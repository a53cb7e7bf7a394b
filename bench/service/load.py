"""A closed loop of workers, each of which sends its next request when the last one is answered."""

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from time import perf_counter

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from bench.machine import busy_seconds, cpu_seconds

Worker = Callable[[], Awaitable[None]]
"""Sends one request and receives its answer. Raises `Failed`, and then is not called again."""

FULL = 64
"""Requests in flight at full load."""
WARM_UP_SECONDS = 0.5
REPLY_TIMEOUT_SECONDS = 10


class Failed(Exception):
    """The answer was wrong. Failures are counted by this text."""


class Load(msgspec.Struct):
    """Answers per second, their times in ms, the CPU in µs per answer by process, and failures by reason.

    `others` is the number of cores that other processes kept busy meanwhile.
    """

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: dict[str, float]
    others: float
    errors: dict[str, int]


class Record:
    """The answers so far, as `(when, how long)` in seconds, and the failures."""

    def __init__(self) -> None:
        self.answers: list[tuple[float, float]] = []
        self.errors: Counter[str] = Counter()


@contextlib.asynccontextmanager
async def busy(workers: Sequence[Worker]) -> AsyncIterator[Record]:
    """Keep every worker busy during the block, and then let each finish its request."""
    record, working = Record(), True

    async def work(worker: Worker) -> None:
        while working:
            started = perf_counter()
            try:
                await worker()
            except Failed as failure:
                record.errors[str(failure)] += 1
                return
            done = perf_counter()
            record.answers.append((done, done - started))

    tasks = [asyncio.create_task(work(worker)) for worker in workers]
    try:
        yield record
    finally:
        working = False
        _, silent = await asyncio.wait(tasks, timeout=REPLY_TIMEOUT_SECONDS)
        record.errors.update({"no answer": len(silent)} if silent else {})
        for task in silent:
            task.cancel()
        for task in tasks:
            if task not in silent:
                task.result()


async def closed_loop(workers: Sequence[Worker], seconds: float, processes: dict[str, list[int]]) -> Load:
    """Measure for `seconds`, after a warm-up, with the CPU of the `processes` (name → ids)."""
    async with busy(workers) as record:
        await asyncio.sleep(WARM_UP_SECONDS)
        before, busy_before, started = _used(processes), busy_seconds(), perf_counter()
        await asyncio.sleep(seconds)
        after, busy_after, ended = _used(processes), busy_seconds(), perf_counter()
    times = sorted(took for when, took in record.answers if started <= when <= ended)
    count = len(times)
    used = {name: after[name] - before[name] for name in processes}
    return Load(
        per_second=count / (ended - started),
        p50_ms=percentile(times, 0.50) * 1000,
        p99_ms=percentile(times, 0.99) * 1000,
        cpu_us={name: seconds / max(count, 1) * 1e6 for name, seconds in used.items()},
        others=max(busy_after - busy_before - sum(used.values()), 0.0) / (ended - started),
        errors=dict(record.errors),
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which that share of the ordered values is; NaN without any."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else float("nan")


def _used(processes: dict[str, list[int]]) -> dict[str, float]:
    return {name: cpu_seconds(pids) for name, pids in processes.items()}


class Caller:
    """Sends requests at half the cost of the client library's: one subscription, and no timers.

    Every request has the same `headers`.
    """

    def __init__(self, connection: Client, headers: dict[str, str] | None = None) -> None:
        self._connection = connection
        self._headers = headers
        self._inbox = connection.new_inbox()
        self._numbers = itertools.count()
        self._waiting: dict[str, asyncio.Future[bytes]] = {}

    async def start(self) -> None:
        """Subscribe to replies."""
        await self._connection.subscribe(f"{self._inbox}.*", cb=self._answered)

    async def request(self, subject: str, body: bytes) -> bytes:
        """Send a request and return the reply's body, without a timeout."""
        number = str(next(self._numbers))
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        await self._connection.publish(subject, body, reply=f"{self._inbox}.{number}", headers=self._headers)
        return await answer

    async def _answered(self, message: Msg) -> None:
        answer = self._waiting.pop(message.subject.rsplit(".", 1)[-1])
        if not answer.done():
            answer.set_result(message.data)
