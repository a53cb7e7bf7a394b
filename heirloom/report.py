"""What a process of `heirloom up` tells its parent when asked: what it has counted, and what keeps it from being ready.

The question is a line on the child's standard input, the answer a line of JSON on its standard output, with the
question's number in it. So nobody listens anywhere, it works while the broker is away, and a child that does not
answer is one whose event loop is stuck.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Literal

import msgspec

from events.histogram import Histogram


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


class Report(msgspec.Struct, frozen=True):
    """An answer. `obstacles` are in words; without any the process is ready."""

    metrics: tuple[Metric, ...]
    obstacles: tuple[str, ...] = ()
    question: int = 0


Gather = Callable[[], Awaitable[Report]]


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
        self._tasks: set[asyncio.Task[None]] = set()

    def asked(self, questions: bytes) -> None:
        """Whole lines of the parent's, each a number."""
        for line in questions.split():
            task = asyncio.create_task(self._answer(int(line)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, question: int) -> None:
        report = await self.gather()
        line = msgspec.json.encode(msgspec.structs.replace(report, question=question)) + b"\n"
        sys.stdout.flush()
        os.write(sys.stdout.fileno(), line)


async def _starting() -> Report:
    return Report((), ("it is starting",))
