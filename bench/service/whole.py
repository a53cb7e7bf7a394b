"""Reads the whole log in its own process, so that its memory can be measured: `python -m bench.service.whole …`."""

import asyncio
import os
import sys
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import msgspec
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from bench.machine import Figure, busy_seconds, children, cpu_seconds, resident_bytes
from events.aggregates.aggregate_names import EVERYTHING, STREAM
from events.bus.connect import connect
from events.log.stream import last_sequence
from heirloom.cli.audit.verify import verify_log
from heirloom.process.event_loop import run
from projections.projector.feed import Extent, feed

LOOK_SECONDS = 0.05
EVERY = 1000


class Whole(Figure, tag="whole-log"):
    """Commits/s and CPU µs per commit of `what`: `reading` by nats-py alone, `rebuild`, or `verify`.

    `first_tenth` and `last_tenth` are the rates in these parts of the log. `peak_mib` is the peak memory of the process
    and its children; pages that they share count for each. The broker is not counted. `others` is the number of cores
    that other processes kept busy meanwhile.
    """

    what: str
    commits: int
    per_second: float
    cpu_us: float
    first_tenth: float
    last_tenth: float
    peak_mib: float
    others: float


class _Course(msgspec.Struct):
    """The progress: `marks` are pairs of commits and seconds."""

    marks: list[tuple[int, float]]
    seconds: float
    cpu_seconds: float


async def measure(what: str, url: str, file: Path, broker: int) -> Whole:
    """Read the log once; `broker` is the id of its process. Raises `RuntimeError` if that fails."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.service.whole", what, url, str(file), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    reading = asyncio.create_task(process.stdout.read())
    peak, started, busy = 0, perf_counter(), busy_seconds() - cpu_seconds([broker])
    while not reading.done():
        peak = max(peak, resident_bytes([process.pid, *children(process.pid)]))
        await asyncio.wait([reading], timeout=LOOK_SECONDS)
    if await process.wait() != 0:
        raise RuntimeError(f"{what} of the whole log failed")
    took, busy = perf_counter() - started, busy_seconds() - cpu_seconds([broker]) - busy
    course = msgspec.json.decode(reading.result(), type=_Course)
    commits = course.marks[-1][0]
    first, last = _rate(course.marks, 0, commits // 10), _rate(course.marks, commits * 9 // 10, commits)
    return Whole(
        what=what,
        commits=commits,
        per_second=commits / course.seconds,
        cpu_us=course.cpu_seconds / commits * 1e6,
        first_tenth=first,
        last_tenth=last,
        peak_mib=peak / 2**20,
        others=max(busy - course.cpu_seconds, 0.0) / took,
    )


def _rate(marks: list[tuple[int, float]], begin: int, end: int) -> float:
    """The commits/s between the marks next to these."""
    first, last = (min(bisect_left(marks, (seq, 0.0)), len(marks) - 1) for seq in (begin, end))
    return (marks[last][0] - marks[first][0]) / (marks[last][1] - marks[first][1])


async def _main(what: str, url: str, file: Path) -> None:
    connection = await connect(url, "heirloom bench", patient=False)
    end = await last_sequence(connection)
    started, marks = perf_counter(), list[tuple[int, float]]()

    def advance(done: int) -> None:
        marks.append((done, perf_counter() - started))

    match what:
        case "reading":
            await _read_alone(await nats.connect(url), end, advance)  # our own connection skips the headers
        case "rebuild":
            if (outcome := await feed(connection, file, Extent(until=end), advance)) is not None:
                sys.exit(f"the read model ended at {outcome.applied} of {end}: {outcome}")
        case "verify":
            if (fault := (await verify_log(connection, end, advance)).fault) is not None:
                sys.exit(f"the log is bad: {fault}")
    seconds, used = perf_counter() - started, os.times()
    await connection.close()
    cpu = used.user + used.system + used.children_user + used.children_system
    sys.stdout.buffer.write(msgspec.json.encode(_Course(marks, seconds, cpu)))


async def _read_alone(connection: Client, end: int, advance: Callable[[int], None]) -> None:
    finished, count = asyncio.Event(), 0

    async def nothing(_: Msg) -> None:
        nonlocal count
        count += 1
        if count % EVERY == 0 or count == end:
            advance(count)
        if count == end:
            finished.set()

    await connection.jetstream().subscribe(EVERYTHING, stream=STREAM, ordered_consumer=True, cb=nothing)
    await finished.wait()


if __name__ == "__main__":
    run(_main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
