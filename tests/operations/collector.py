"""An OTLP collector over HTTP."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector:
    """The received bodies; `url` is for OTEL_EXPORTER_OTLP_ENDPOINT."""

    def __init__(self, url: str, bodies: list[bytes]) -> None:
        self.url = url
        self.bodies = bodies

    def spans(self, trace_id: str) -> list[dict[str, Any]]:
        """The spans of one trace, in the order in which they ended: name, ids, attributes and service."""
        return [
            {
                "name": span.name,
                "id": span.span_id.hex(),
                "parent": span.parent_span_id.hex(),
                "service": next(
                    each.value.string_value for each in traced.resource.attributes if each.key == "service.name"
                ),
                "attributes": {each.key: each.value.string_value or each.value.int_value for each in span.attributes},
            }
            for body in list(self.bodies)
            for traced in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in traced.scope_spans
            for span in scope.spans
            if span.trace_id.hex() == trace_id
        ]


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    serving.start()
    try:
        yield Collector(f"http://127.0.0.1:{server.server_address[1]}", bodies)
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
