"""Spans from the request to the commit (request → load, decide, append), with ids, generations and sequences.

A request continues the trace in its `traceparent` header (W3C Trace Context). The commit stores nothing of it; the
append's span has the commit's sequence.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from events.aggregates.aggregate_names import Aggregate
from events.aggregates.commit import type_of
from events.aggregates.family import FamilyState
from events.bus.connection import Connection
from events.log.appender import Appender
from events.log.log import Head, Log
from heirloom import __version__
from service.context import Context
from service.decide.decision import Decision
from service.errors import OAuthError
from service.families.cache import LoadedFamily
from service.families.families import CommittedDecision, Count, Decide, Families, count_nothing
from service.received_request import Endpoint
from service.request import Request

_parent = TraceContextTextMapPropagator()


def start() -> Callable[[], None]:
    """Send spans by OTLP over HTTP, as the OTEL_ variables say; returns a function that flushes the last of them."""
    named = OTELResourceDetector().detect()  # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES take precedence
    resource = Resource.create({SERVICE_NAME: "heirloom", SERVICE_VERSION: __version__}).merge(named)
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider.shutdown


def around(name: str, endpoint: Endpoint) -> Endpoint:
    """The endpoint, wrapped in the span of its request."""

    async def traced(context: Context, request: Request) -> bytes:
        headers = {header.lower(): value for header, value in request.headers.items()}
        given = {"heirloom.tenant": request.tenant, "heirloom.client_id": request.client_id}
        with _span(f"oauth {name}", given, kind=SpanKind.SERVER, context=_parent.extract(headers)) as span:
            try:
                reply = await endpoint(context, request)
            except OAuthError as refusal:
                span.set_attribute("heirloom.outcome", refusal.code)
                raise
            span.set_attribute("heirloom.outcome", "ok")
            return reply

    return traced


class TracedAppender(Appender):
    """An appender whose appends are spans."""

    async def append(
        self,
        subject: str,
        filter: str,
        body: bytes,
        expected: int,
        *,
        guard: tuple[str, int] | None = None,
        stream: str | None = None,
    ) -> int:
        """Append `body`; the span has the commit's sequence."""
        with _span("append", {"messaging.destination.name": subject}, kind=SpanKind.PRODUCER) as span:
            seq = await super().append(subject, filter, body, expected, guard=guard, stream=stream)
            span.set_attribute("heirloom.seq", seq)
            return seq


class TracedLog(Log):
    """A log whose reads and appends are spans."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, appender=TracedAppender)

    async def head(self, aggregate: Aggregate, *, leader: bool = True) -> Head:
        """The head of an aggregate, read from the leader or from any replica."""
        with _span("load", {"heirloom.leader": leader}) as span:
            head = await super().head(aggregate, leader=leader)
            span.set_attribute("heirloom.seq", head.expected)
            return head


class TracedFamilies(Families):
    """Families whose decisions are spans."""

    async def decide(
        self,
        tenant: str,
        family_id: str,
        actor: str,
        decide: Decide,
        *,
        new: bool = False,
        count: Count = count_nothing,
    ) -> CommittedDecision:
        """Decide. Each attempt is a span; the outcome stands in the request's span."""

        def deciding(loaded: LoadedFamily, now: datetime, commit_id: str) -> Decision:
            with _span("decide", _of(family_id, loaded.state)) as span:
                decision = decide(loaded, now, commit_id)
                span.set_attribute("heirloom.events", [type_of(event) for event in decision.events])
                return decision

        committed = await super().decide(tenant, family_id, actor, deciding, new=new, count=count)
        trace.get_current_span().set_attributes(_of(family_id, committed.state) | {"heirloom.seq": committed.seq})
        return committed


def _of(family_id: str, state: FamilyState | None) -> dict[str, AttributeValue]:
    generation = None if state is None else state.generation
    known: dict[str, AttributeValue] = {"heirloom.family": family_id}
    return known if generation is None else known | {"heirloom.generation": generation}


def _span(name: str, attributes: Mapping[str, AttributeValue], **more: Any) -> Any:
    # an exception's text may repeat secrets of the input: the outcome is enough
    return trace.get_tracer("heirloom").start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False, **more
    )
