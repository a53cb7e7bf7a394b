"""The figures of a replica, collected on request only (`heirloom.metrics.process_metrics`)."""

import asyncio
from collections.abc import Iterable

from events.bus.connection import Connection
from events.fairness.request_gate import Gate
from events.log.jetstream_api import Unavailable
from events.log.log import Log
from heirloom.metrics.log_size import of_log_size, warning
from heirloom.metrics.process_metrics import LOG_TIMEOUT_SECONDS, NO_LEADER, foreign_replies, of_process
from heirloom.process.process_report import Metric, ProcessReport, Sample, counter, gauge, histogram, only
from service.context import Context
from service.families.cache import FamilyCache
from service.families.counters import FamilyCounters
from service.replicas.broker_clock import Skew
from service.request_handler import RequestHandler


async def of_replica(
    handler: RequestHandler, gate: Gate, context: Context, connections: Iterable[Connection]
) -> ProcessReport:
    """What the replica has done, and whether it may decide."""
    obstacles, warnings, log_size = [], [], []
    the_log = context.log
    try:
        async with asyncio.timeout(LOG_TIMEOUT_SECONDS):
            size = await the_log.size()
        log_size = of_log_size(size)
        warnings = [text for text in [warning(size)] if text is not None]
    except (Unavailable, TimeoutError):
        obstacles.append(NO_LEADER)
    if (wrong := context.skew.obstacle()) is not None:
        obstacles.append(wrong)
    if not context.registry.is_current():
        obstacles.append("its lease is not renewed, so it asks the log about every client")
    families, skew = context.families, context.skew
    counted = *_of_requests(handler), *_of_families(families.counters), *_of_log(the_log), *_of_clock(skew)
    others = *_of_cache(families.cache), foreign_replies(gate), *of_process(connections)
    return ProcessReport((*log_size, *counted, *others), tuple(obstacles), tuple(warnings))


def _of_requests(handler: RequestHandler) -> list[Metric]:
    times = (
        ({"endpoint": endpoint, "outcome": outcome}, counted)
        for endpoint, figures in handler.figures.items()
        for outcome, counted in figures.outcomes.items()
    )
    return [
        histogram("request_duration_seconds", "From receiving a request to its reply.", times),
        gauge("requests_in_flight", "Requests being worked on.", only(handler.in_flight)),
        gauge("requests_waiting", "Requests that wait for their turn.", only(handler.waiting)),
    ]


def _of_families(counters: FamilyCounters) -> list[Metric]:
    def by(label: str, counted: dict[str, int]) -> list[Sample]:
        return [Sample({label: which}, count) for which, count in counted.items()]

    return [
        counter("tokens_issued", "Tokens issued, by kind.", *by("kind", counters.issued)),
        counter("tokens_redeemed", "Credentials redeemed, by kind.", *by("credential", counters.redeemed)),
        counter("tokens_rotated", "Refresh tokens that got a successor.", only(counters.rotated)),
        counter("reuse_detected", "Old tokens presented again: one is stolen.", only(counters.reused)),
        counter(
            "late_duplicates", "Old tokens sent again late, with their key: no theft.", only(counters.late_duplicates)
        ),
        counter("forgeries_detected", "Authentic tokens never issued: a key has leaked.", only(counters.forged)),
        counter("families_revoked", "Token families ended, by reason.", *by("reason", counters.revoked)),
        counter("conflicts", "Commits that another commit of the family was faster than.", only(counters.conflicts)),
    ]


def _of_cache(cache: FamilyCache) -> list[Metric]:
    return [
        gauge("cache_bytes", "Commits that the replica holds in memory, as long as in the log.", only(cache.bytes)),
        gauge("cache_families", "Families whose newest commit the replica holds in memory.", only(len(cache))),
        counter("cache_evictions", "Families that had to leave the memory for others.", only(cache.evicted)),
    ]


def _of_clock(skew: Skew) -> list[Metric]:
    return [
        gauge("clock_ahead_seconds", "This machine's clock less the broker's.", only(skew.ahead())),
        counter("clock_wrong", "Measurements by which they were too far apart to answer.", only(skew.wrong)),
    ]


def _of_log(the_log: Log) -> list[Metric]:
    appender = the_log.appender
    return [
        histogram("append_batch_commits", "Commits appended together, sharing an fsync.", [({}, appender.sizes)]),
        counter(
            "append_retries", "Appends tried again: no answer, or another write in flight.", only(appender.retries)
        ),
    ]
