"""The figures of each kind of process, gathered when somebody asks; nobody counts for Prometheus on the way.

A replica's are in `replica_figures`: who counts no requests need not import all that does.
"""

import asyncio
import resource
from collections.abc import Awaitable, Callable, Iterable

from events.aggregates.subjects import CHECKPOINTS, STREAM
from events.bus.connection import Connection
from events.fairness.request_gate import Gate
from events.log.jetstream_api import JetStreamMissing
from heirloom.process.process_report import Metric, ProcessReport, Sample, counter, gauge, only
from projections.progress import Progress

BEHIND = 1000
"""Commits the read model may be behind the log and still count as caught up: a fraction of a second's work."""
LOG_TIMEOUT_SECONDS = 1.0
"""Less than a process may take to answer its parent: what waits for the broker is not stuck."""
NO_LEADER = "the log's leader does not answer"


async def of_projector(
    progress: Progress, gate: Gate, last_sequence: Callable[[], Awaitable[int]], connections: Iterable[Connection]
) -> ProcessReport:
    """How far the read model is behind the log. Without the log nobody can say."""
    figures = [
        gauge("projection_applied_sequence", "The commit applied last to the read model.", only(progress.applied)),
        foreign_messages(STREAM, progress.foreign),
        foreign_replies(gate),
    ]
    obstacles = [] if progress.obstacle is None else [f"the read model goes no further: {progress.obstacle}"]
    try:
        async with asyncio.timeout(LOG_TIMEOUT_SECONDS):
            lag = max(await last_sequence() - progress.applied, 0)
    except (JetStreamMissing, TimeoutError):
        obstacles.append(NO_LEADER)
    else:
        figures.append(gauge("projection_lag_commits", "Commits of the log that the read model lacks.", only(lag)))
        if lag > BEHIND:
            obstacles.append(f"the read model is {lag:,} commits behind the log")
    return ProcessReport((*figures, *of_process(connections)), tuple(obstacles))


def of_notary(vouched_seconds_ago: float, foreign: int, connections: Iterable[Connection]) -> ProcessReport:
    """How long ago the whole log was last vouched for; nobody waits for it, so it is always ready."""
    age = gauge("checkpoint_age_seconds", "Since all of the log was vouched for.", only(vouched_seconds_ago))
    return ProcessReport((age, foreign_messages(CHECKPOINTS, foreign), *of_process(connections)))


def foreign_messages(stream: str, count: int) -> Metric:
    """What lies in a stream and is nothing of ours: somebody else has written there."""
    what = "Messages of a stream that are no commits, or checkpoints no known key signed; they were stepped over."
    return counter("foreign_messages", what, Sample({"stream": stream}, count))


def foreign_replies(gate: Gate) -> Metric:
    """Somebody tried to have an answer sent to another."""
    what = "Orders and audit queries that were dropped: their answer would have gone to others than their asker."
    return counter("foreign_replies", what, only(gate.foreign_replies))


def of_process(connections: Iterable[Connection]) -> list[Metric]:
    """What every process tells of itself."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    reconnects = sum(connection.stats["reconnects"] for connection in connections)
    return [
        counter("broker_reconnects", "Connections to the broker that were lost and made again.", only(reconnects)),
        counter("cpu_seconds", "Processor time of the process.", only(used.ru_utime + used.ru_stime)),
    ]
