"""The figures of each kind of process, collected on request only.

A replica's figures are in `replica_metrics`, which imports what other processes do not need.
"""

import asyncio
import resource
from collections.abc import Awaitable, Callable, Iterable

from events.aggregates.aggregate_names import CHECKPOINTS, STREAM
from events.bus.connection import Connection
from events.fairness.request_gate import Gate
from events.log.jetstream_api import JetStreamMissing
from heirloom.process.process_report import Metric, ProcessReport, Sample, counter, gauge, only
from projections.progress import Progress

BEHIND = 1000
"""How many commits the read model may lag behind the log and still be ready: a fraction of a second's work."""
LOG_TIMEOUT_SECONDS = 1.0
"""For the log's answer: less than `LIVE_SECONDS`, so that a process which waits for the broker does not look stuck."""
STALE_SECONDS = 5.0
"""After so long without a heartbeat, verifiers accept nothing by default."""
NO_LEADER = "the log's leader does not answer"


async def of_projector(
    progress: Progress, gate: Gate, last_sequence: Callable[[], Awaitable[int]], connections: Iterable[Connection]
) -> ProcessReport:
    """How far the read model is behind the log."""
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


def of_notary(checkpoint_age: float, foreign: int, connections: Iterable[Connection]) -> ProcessReport:
    """How long ago the whole log was last covered by a checkpoint. Nothing waits for the notary: it is always ready."""
    age = gauge("checkpoint_age_seconds", "Since all of the log was vouched for.", only(checkpoint_age))
    return ProcessReport((age, foreign_messages(CHECKPOINTS, foreign), *of_process(connections)))


def of_publisher(entries: int, processed: int, behind: float, connections: Iterable[Connection]) -> ProcessReport:
    """How far the revocation feed is. Clients do not wait for it, so the publisher is ready even when it is behind."""
    processed = max(processed, 0)
    figures = (
        counter("revocation_entries", "Entries that were appended to the revocation feed.", only(entries)),
        gauge("revocation_processed_sequence", "The commit up to which the log is in the feed.", only(processed)),
        gauge("revocation_feed_age_seconds", "Since all of the log was in the revocation feed.", only(behind)),
    )
    late = f"the revocation feed is {behind:.0f} s behind the log, so verifiers take it for stale"
    warnings = (late,) if behind > STALE_SECONDS else ()
    return ProcessReport((*figures, *of_process(connections)), warnings=warnings)


def foreign_messages(stream: str, count: int) -> Metric:
    """Messages in a stream that are not ours."""
    what = "Messages of a stream that are no commits, or checkpoints no known key signed; they were stepped over."
    return counter("foreign_messages", what, Sample({"stream": stream}, count))


def foreign_replies(gate: Gate) -> Metric:
    """Requests whose reply would have gone to somebody else's inbox."""
    what = "Orders and audit queries that were dropped: their answer would have gone to others than their asker."
    return counter("foreign_replies", what, only(gate.foreign_replies))


def of_process(connections: Iterable[Connection]) -> list[Metric]:
    """Figures that every process has."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    reconnects = sum(connection.stats["reconnects"] for connection in connections)
    return [
        counter("broker_reconnects", "Connections to the broker that were lost and made again.", only(reconnects)),
        counter("cpu_seconds", "Processor time of the process.", only(used.ru_utime + used.ru_stime)),
    ]
