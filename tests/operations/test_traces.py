"""Traces follow a request to its commit; without the OTEL_ variables there are none."""

import asyncio
import subprocess
import sys

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from events.bus.connect import connect
from heirloom.tracing import spans as traced
from heirloom.tracing.setup import is_wanted
from service.decide.decision import Decision, invalid_grant
from service.decide.revocation import Revoke, revoke
from service.registry.blocked_subjects import BlockedSubjects
from service.request import Request
from tests.broker import Broker
from tests.operations.collector import Collector
from tests.projections.logs import eventful_log
from tests.projections.projector.test_projector import publish
from tests.system.service import Service

LOG = eventful_log()
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADERS = {"traceparent": f"00-{TRACE}-{CALLER}-01"}


async def test_a_trace_from_the_request_to_the_commit(nats_server: Broker) -> None:
    """Load, decide and append are the request's children, with family, generation, outcome and sequence."""
    await publish(nats_server, LOG)
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    connection = await connect(nats_server.url, "test")
    log = traced.TracedLog(connection)
    await log.start()
    families = traced.TracedFamilies(log, BlockedSubjects(log))

    async def end_f0(_context: object, _request: Request) -> bytes:
        order = Revoke("operator", "a test")
        concluded = await families.decide("acme", "f0", "client:web", lambda loaded, *_: revoke(loaded.state, order))
        return b"%d" % concluded.seq

    async def refuse(_context: object, _request: Request) -> bytes:
        await families.decide("acme", "f1", "client:web", lambda *_: Decision(invalid_grant()))
        raise invalid_grant().error

    request = Request("acme", "web", b"", HEADERS)
    seq = int(await traced.around("revoke", end_f0)(None, request))  # type: ignore[arg-type]  # no context is needed
    with pytest.raises(Exception, match="invalid_grant"):
        await traced.around("token", refuse)(None, request)  # type: ignore[arg-type]
    await connection.close()
    spans = exporter.get_finished_spans()
    names = ["load", "decide", "append", "oauth revoke", "load", "decide", "load", "decide", "oauth token"]
    assert [span.name for span in spans] == names
    done, refused = spans[3], spans[8]
    assert done.parent is not None and done.parent.span_id == int(CALLER, 16)
    assert all(span.parent is not None and span.parent.span_id == done.context.span_id for span in spans[:3])
    assert {format(span.context.trace_id, "032x") for span in spans} == {TRACE}
    wanted = {"heirloom.family": "f0", "heirloom.outcome": "ok", "heirloom.seq": seq, "heirloom.client_id": "web"}
    assert wanted.items() <= dict(done.attributes or {}).items()
    assert (spans[1].attributes or {})["heirloom.events"] == ("FamilyRevoked",)
    assert (spans[2].attributes or {})["heirloom.seq"] == seq == len(LOG) + 1
    assert (refused.attributes or {})["heirloom.outcome"] == "invalid_grant"
    assert not any(span.events for span in spans)  # no exception events, whose text might hold a secret


async def test_a_collector_receives_the_spans(service: Service, collector: Collector) -> None:
    """By OTLP over HTTP, configured by the standard variables, in the trace of the caller's header."""
    async with service.client() as web:
        answer = await web.ask("issue", {"sub": "alice", "scope": "read offline_access"}, headers=HEADERS)
    async with asyncio.timeout(20):
        while not any(span["name"] == "oauth issue" for span in collector.spans(TRACE)):
            await asyncio.sleep(0.05)
    spans = {span["name"]: span for span in collector.spans(TRACE)}
    request = spans["oauth issue"]
    assert (request["parent"], request["service"]) == (CALLER, "heirloom")
    assert spans["append"]["parent"] == request["id"]
    assert request["attributes"]["heirloom.seq"] == spans["append"]["attributes"]["heirloom.seq"] > 0
    assert answer["refresh_token"][-30:].encode() not in b"".join(collector.bodies)


def test_tracing_is_off_by_default() -> None:
    """Then a replica does not even import the libraries."""
    assert is_wanted({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"})
    assert not is_wanted({})
    assert not is_wanted({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_SDK_DISABLED": "true"})
    assert not is_wanted({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_TRACES_EXPORTER": "none"})
    look = "import sys, heirloom.replica; sys.exit(bool({'opentelemetry.sdk', 'prometheus_client'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0
