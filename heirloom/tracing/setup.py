"""OpenTelemetry traces, where the standard OTEL_ variables request them; otherwise nothing of it is imported.

A replica is composed of the same parts either way. Traced parts (`heirloom.tracing.spans`) replace plain ones, so the
code that handles a request knows nothing of traces, and without them a request pays nothing.
"""

import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

from events.bus.connection import Connection
from events.log.log import Log
from service.families.cache import FamilyCache
from service.families.families import Families, Publish
from service.registry.blocked_subjects import BlockedSubjects
from service.server import Around, as_it_is

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class TracingMissing(Exception):
    """Traces are requested, but the libraries are not installed."""


class TracedParts(NamedTuple):
    """A replica's log, its families, and the wrapper around each endpoint; `end` flushes the last spans."""

    log: Callable[[Connection], Log] = Log
    families: Callable[[Log, BlockedSubjects, FamilyCache, Publish], Families] = Families
    around: Around = as_it_is
    end: Callable[[], None] = lambda: None


def is_wanted(env: Mapping[str, str]) -> bool:
    """Whether these variables name a destination of traces, and do not switch them off."""
    off = env.get("OTEL_SDK_DISABLED", "").lower() == "true" or env.get("OTEL_TRACES_EXPORTER", "otlp") == "none"
    return not off and any(env.get(name) for name in ENDPOINTS)


def parts() -> TracedParts:
    """The parts that the environment requests. Raises `TracingMissing`."""
    if not is_wanted(os.environ):
        return TracedParts()
    try:
        from heirloom.tracing import spans  # an extra
    except ImportError as error:
        raise TracingMissing(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but traces need: pip install 'heirloom-oauth[tracing]'"
        ) from error
    return TracedParts(spans.TracedLog, spans.TracedFamilies, spans.around, spans.start())
