"""A server that keeps what is sent to it: traces by OTLP, and reports of faults as Sentry's clients send them."""

from __future__ import annotations

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector:
    """Listens on a free port of loopback while the block lasts."""

    def __init__(self) -> None:
        self._bodies: list[tuple[str, bytes]] = []
        keep = self._bodies.append

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                keep((self.path, gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.dsn = f"http://public@127.0.0.1:{self.port}/1"

    def __enter__(self) -> Collector:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def spans(self) -> list[dict[str, Any]]:
        """Every span so far: ``name``, ``service``, ``trace``, ``id``, ``parent`` and ``attributes``."""
        found = []
        for path, body in list(self._bodies):
            if path != "/v1/traces":
                continue
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                service = next(
                    one.value.string_value for one in resource.resource.attributes if one.key == "service.name"
                )
                for span in (span for scope in resource.scope_spans for span in scope.spans):
                    attributes = {one.key: one.value.string_value for one in span.attributes}
                    ids = {"trace": span.trace_id.hex(), "id": span.span_id.hex(), "parent": span.parent_span_id.hex()}
                    found.append({"name": span.name, "service": service, "attributes": attributes} | ids)
        return found

    def reports(self) -> list[dict[str, Any]]:
        """Every report of a fault so far."""
        envelopes = [body for path, body in list(self._bodies) if path == "/api/1/envelope/"]
        lines = [line for body in envelopes for line in body.splitlines() if line.startswith(b"{")]
        return [found for line in lines if "event_id" in (found := json.loads(line)) and "level" in found]

    def heard(self) -> bytes:
        """All that was sent, as it came."""
        return b"\n".join(body for _, body in list(self._bodies))
