"""A process's report to `heirloom up`: its counts, and its obstacles to being ready.

The request is a line with a number on the child's standard input; the answer is a line of JSON with that number on its
standard output, where the child also writes the line `ready`. So no port is opened, it works without the broker, and a
child that does not answer has a stuck event loop.
"""

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Iterable
from typing import Literal

import msgspec

from events.histogram import Histogram
from events.task_set import TaskSet


class Sample(msgspec.Struct, frozen=True, omit_defaults=True):
    """A value with its labels; a histogram has the cumulative count at each upper bound, and its sum as `value`."""

    labels: dict[str, str]
    value: float
    buckets: tuple[tuple[str, int], ...] = ()


class Metric(msgspec.Struct, frozen=True):
    """A metric as Prometheus wants it, in base units; `_total` is added to a counter's name."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    samples: tuple[Sample, ...]


class ProcessReport(msgspec.Struct, frozen=True):
    """An answer. A process without `obstacles` (in words) is ready, whatever it has `warnings` of (in words, too)."""

    metrics: tuple[Metric, ...]
    obstacles: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    question: int = 0


Gather = Callable[[], Awaitable[ProcessReport]]


def counter(name: str, help: str, *samples: Sample) -> Metric:
    """A metric that only grows."""
    return Metric(f"heirloom_{name}", "counter", help, samples)


def gauge(name: str, help: str, *samples: Sample) -> Metric:
    """A metric that goes up and down."""
    return Metric(f"heirloom_{name}", "gauge", help, samples)


def histogram(name: str, help: str, by_labels: Iterable[tuple[dict[str, str], Histogram]]) -> Metric:
    """A distribution, with samples for the labels that have any."""
    samples = tuple(_distribution(labels, counted) for labels, counted in by_labels if counted.count)
    return Metric(f"heirloom_{name}", "histogram", help, samples)


def only(value: float) -> Sample:
    """The only sample of a metric without labels."""
    return Sample({}, value)


def _distribution(labels: dict[str, str], counted: Histogram) -> Sample:
    so_far, buckets = 0, []
    for bound, count in zip((*map(str, counted.bounds), "+Inf"), counted.counts, strict=True):
        so_far += count
        buckets.append((bound, so_far))
    return Sample(labels, counted.sum, tuple(buckets))


class Reporter:
    """The child's side. Until `gather` is replaced, it reports that the process is starting."""

    def __init__(self) -> None:
        self.gather: Gather = _starting
        self._tasks = TaskSet()

    def receive(self, requests: bytes) -> None:
        """Answer whole lines of the parent, each a number."""
        for line in requests.split():
            self._tasks.start(self._answer(int(line)))

    async def _answer(self, question: int) -> None:
        report = await self.gather()
        line = msgspec.json.encode(msgspec.structs.replace(report, question=question)) + b"\n"
        sys.stdout.flush()
        os.write(sys.stdout.fileno(), line)


class Reports:
    """The parent's side: the only reader of the child's output, which passes each line to whoever waits for it."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._requests, self._output = process.stdin, process.stdout
        self._question = 0
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[bool] = loop.create_future()
        self._answer: asyncio.Future[ProcessReport | None] = loop.create_future()
        self._answer.set_result(None)
        self.reading = loop.create_task(self._read(), name="reading a process's output")

    async def ready(self) -> bool:
        """Wait until the process writes `ready`; False where it ends first."""
        return await asyncio.shield(self._ready)

    async def request(self) -> ProcessReport | None:
        """The process's report; None where it ends first. Concurrent callers share one answer."""
        if self.reading.done():
            return None
        if self._answer.done():
            self._question += 1
            self._answer = asyncio.get_running_loop().create_future()
            self._requests.write(b"%d\n" % self._question)
        return await asyncio.shield(self._answer)

    async def _read(self) -> None:
        try:
            while not self._output.at_eof():
                with contextlib.suppress(ValueError):  # too long, or no report: it answers no request
                    self._take(await self._output.readline())
        finally:
            if not self._ready.done():
                self._ready.set_result(False)
            if not self._answer.done():
                self._answer.set_result(None)

    def _take(self, line: bytes) -> None:
        if line.strip() == b"ready":
            if not self._ready.done():
                self._ready.set_result(True)
        elif (
            report := msgspec.json.decode(line, type=ProcessReport)
        ).question == self._question and not self._answer.done():
            self._answer.set_result(report)


async def _starting() -> ProcessReport:
    return ProcessReport((), ("it is starting",))
