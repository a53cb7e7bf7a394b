"""The figures of each kind of process, gathered when somebody asks; nobody counts for Prometheus on the way."""

import asyncio
import resource
from collections.abc import Awaitable, Callable, Iterable

from events.bus import Connection
from events.log import Log, Unavailable
from events.stream import JetStreamMissing
from heirloom.report import Metric, Report, Sample, counter, gauge, histogram, only
from projections.progress import Progress
from service.families import Families
from service.registry import Registry
from service.server import Server
from service.tally import Tally

BEHIND = 1000
"""Commits the read model may be behind the log and still count as caught up: a fraction of a second's work."""
ANSWER_SECONDS = 1.0
"""Less than a process may take to answer its parent: what waits for the broker is not stuck."""
NO_LEADER = "the log's leader does not answer"


async def of_replica(
    server: Server, families: Families, the_log: Log, registry: Registry, connections: Iterable[Connection]
) -> Report:
    """What a replica has done, and whether it may decide."""
    obstacles = []
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await the_log.last_sequence()
    except (Unavailable, TimeoutError):
        obstacles.append(NO_LEADER)
    if not registry.is_current():
        obstacles.append("its lease is not renewed, so it asks the log about every client")
    counted = *_of_requests(server), *_of_tally(families.tally), *_of_log(the_log), *_of_process(connections)
    return Report(counted, tuple(obstacles))


async def of_projector(
    progress: Progress, last_sequence: Callable[[], Awaitable[int]], connections: Iterable[Connection]
) -> Report:
    """How far the read model is behind the log. Without the log nobody can say."""
    figures = [
        gauge("projection_applied_sequence", "The commit applied last to the read model.", only(progress.applied))
    ]
    obstacles = [] if progress.obstacle is None else [f"the read model goes no further: {progress.obstacle}"]
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            lag = max(await last_sequence() - progress.applied, 0)
    except (JetStreamMissing, TimeoutError):
        obstacles.append(NO_LEADER)
    else:
        figures.append(gauge("projection_lag_commits", "Commits of the log that the read model lacks.", only(lag)))
        if lag > BEHIND:
            obstacles.append(f"the read model is {lag:,} commits behind the log")
    return Report((*figures, *_of_process(connections)), tuple(obstacles))


def of_notary(vouched_seconds_ago: float, connections: Iterable[Connection]) -> Report:
    """How long ago the whole log was last vouched for; nobody waits for it, so it is always ready."""
    age = gauge("checkpoint_age_seconds", "Since all of the log was vouched for.", only(vouched_seconds_ago))
    return Report((age, *_of_process(connections)))


def _of_requests(server: Server) -> list[Metric]:
    times = (
        ({"endpoint": endpoint, "outcome": outcome}, counted)
        for endpoint, figures in server.figures.items()
        for outcome, counted in figures.outcomes.items()
    )
    return [
        histogram("request_duration_seconds", "From receiving a request to its reply.", times),
        gauge("requests_in_flight", "Requests being worked on.", only(server.in_flight)),
    ]


def _of_tally(tally: Tally) -> list[Metric]:
    def by(label: str, counted: dict[str, int]) -> list[Sample]:
        return [Sample({label: which}, count) for which, count in counted.items()]

    return [
        counter("tokens_issued", "Tokens issued, by kind.", *by("kind", tally.issued)),
        counter("tokens_redeemed", "Credentials redeemed, by kind.", *by("credential", tally.redeemed)),
        counter("tokens_rotated", "Refresh tokens that got a successor.", only(tally.rotated)),
        counter("reuse_detected", "Old tokens presented again: one is stolen.", only(tally.reused)),
        counter("forgeries_detected", "Authentic tokens never issued: a key has leaked.", only(tally.forged)),
        counter("families_revoked", "Token families ended, by reason.", *by("reason", tally.revoked)),
        counter("conflicts", "Commits that another commit of the family was faster than.", only(tally.conflicts)),
    ]


def _of_log(the_log: Log) -> list[Metric]:
    appender = the_log.appender
    return [
        histogram("append_batch_commits", "Commits appended together, sharing an fsync.", [({}, appender.sizes)]),
        counter(
            "append_retries", "Appends tried again: no answer, or another write in flight.", only(appender.retries)
        ),
    ]


def _of_process(connections: Iterable[Connection]) -> list[Metric]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    reconnects = sum(connection.stats["reconnects"] for connection in connections)
    return [
        counter("broker_reconnects", "Connections to the broker that were lost and made again.", only(reconnects)),
        counter("cpu_seconds", "Processor time of the process.", only(used.ru_utime + used.ru_stime)),
    ]
