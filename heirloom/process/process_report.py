"""What a process of `heirloom up` tells its parent when asked: what it has counted, and what keeps it from being ready.

The question is a line on the child's standard input, the answer a line of JSON on its standard output, with the
question's number in it; there it also says, in a line of its own, that it is `ready`. So nobody listens anywhere, it
works while the broker is away, and a child that does not answer is one whose event loop is stuck.
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
    """A figure under its labels; for a histogram the cumulative count at each upper bound, and `value` is the sum."""

    labels: dict[str, str]
    value: float
    buckets: tuple[tuple[str, int], ...] = ()


class Metric(msgspec.Struct, frozen=True):
    """A family of figures, named and described as Prometheus wants it: in base units; a counter gets its `_total`."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    samples: tuple[Sample, ...]


class ProcessReport(msgspec.Struct, frozen=True):
    """An answer. `obstacles` are in words; without any the process is ready."""

    metrics: tuple[Metric, ...]
    obstacles: tuple[str, ...] = ()
    question: int = 0


Gather = Callable[[], Awaitable[ProcessReport]]


def counter(name: str, help: str, *samples: Sample) -> Metric:
    """Something that only grows."""
    return Metric(f"heirloom_{name}", "counter", help, samples)


def gauge(name: str, help: str, *samples: Sample) -> Metric:
    """Something as it is now."""
    return Metric(f"heirloom_{name}", "gauge", help, samples)


def histogram(name: str, help: str, by_labels: Iterable[tuple[dict[str, str], Histogram]]) -> Metric:
    """How large or long something was, where there was anything."""
    samples = tuple(_distribution(labels, counted) for labels, counted in by_labels if counted.count)
    return Metric(f"heirloom_{name}", "histogram", help, samples)


def only(value: float) -> Sample:
    """The one figure of a metric without labels."""
    return Sample({}, value)


def _distribution(labels: dict[str, str], counted: Histogram) -> Sample:
    so_far, buckets = 0, []
    for bound, count in zip((*map(str, counted.bounds), "+Inf"), counted.counts, strict=True):
        so_far += count
        buckets.append((bound, so_far))
    return Sample(labels, counted.sum, tuple(buckets))


class Reporter:
    """The child's side. Until it is told how to `gather`, the process says that it is starting."""

    def __init__(self) -> None:
        self.gather: Gather = _starting
        self._tasks = TaskSet()

    def asked(self, questions: bytes) -> None:
        """Whole lines of the parent's, each a number."""
        for line in questions.split():
            self._tasks.start(self._answer(int(line)))

    async def _answer(self, question: int) -> None:
        report = await self.gather()
        line = msgspec.json.encode(msgspec.structs.replace(report, question=question)) + b"\n"
        sys.stdout.flush()
        os.write(sys.stdout.fileno(), line)


class Reports:
    """The parent's side: the one reader of what a process says, who hands out each line to whom it is for."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._questions, self._said = process.stdin, process.stdout
        self._question = 0
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[bool] = loop.create_future()
        self._answer: asyncio.Future[ProcessReport | None] = loop.create_future()
        self._answer.set_result(None)
        self.reading = loop.create_task(self._read(), name="what a process says")

    async def ready(self) -> bool:
        """Wait until it says so; False where it ends first."""
        return await asyncio.shield(self._ready)

    async def ask(self) -> ProcessReport | None:
        """What it reports; None where it ends first. Who asks while it has not answered gets the same answer."""
        if self.reading.done():
            return None
        if self._answer.done():
            self._question += 1
            self._answer = asyncio.get_running_loop().create_future()
            self._questions.write(b"%d\n" % self._question)
        return await asyncio.shield(self._answer)

    async def _read(self) -> None:
        try:
            while not self._said.at_eof():
                with contextlib.suppress(ValueError):  # too long, or no report: it answers nobody
                    self._take(await self._said.readline())
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
