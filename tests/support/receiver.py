"""A receiver of webhooks over real HTTP, which keeps what came and answers as its path says."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.stack import wait_until


@dataclass(frozen=True, slots=True)
class Received:
    """A delivery as it came."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def id(self) -> str:
        """The id of the message."""
        return self.headers["webhook-id"]

    @property
    def payload(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Receiver:
    """The server. ``/200`` and other numbers answer with this status, ``?after=N`` with 500 until the N-th call and
    with 200 from then on, ``?header=Name:value`` with a header, ``?delay=N`` after N seconds. ``/hang`` never answers,
    ``/drip`` sends a byte of the body now and then, ``/endless`` a body without end, ``/headers`` headers without end,
    ``/huge`` ten megabytes."""

    def __init__(self, host: str = "127.0.0.1", *, certificate: Path | None = None) -> None:
        receiver = self
        self.received: list[Received] = []
        self._stopping = threading.Event()
        self._override: int | None = None

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.received.append(Received(self.path, headers, body, time.time()))
                with contextlib.suppress(OSError):
                    receiver._answer(self)
                self.close_connection = True

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *_: Any) -> None:
                """A client that goes away is part of the tests."""

        self._server = Server((host, 0), Handler)
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            scheme = "https"
        self.host, self.port = host, int(self._server.server_address[1])
        self.url = f"{scheme}://{host}:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()

    def close(self) -> None:
        """Stop."""
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def answer_all(self, status: int | None) -> None:
        """Answer with this status from now on, whatever the path; None for the path's."""
        self._override = status

    def wait_for(self, count: int, *, seconds: float = 10) -> list[Received]:
        """Until so many came."""
        wait_until(lambda: len(self.received) >= count, seconds=seconds, what=f"{count} deliveries")
        return self.received[:count]

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        query, name = parse_qs(parts.query), parts.path.strip("/")
        status = int(name) if name.isdigit() else 200
        if "after" in query:
            calls = sum(one.path == handler.path for one in self.received)
            status = 200 if calls >= int(query["after"][0]) else 500
        if "delay" in query:
            self._stopping.wait(float(query["delay"][0]))
        if self._override is not None:
            status, name = self._override, ""
        if name == "hang":
            self._stopping.wait(60)
            return
        if name == "headers":
            handler.send_response_only(200)
            while not self._stopping.wait(0.05):
                handler.send_header("X-More", "x" * 100)
                handler.flush_headers()
            return
        handler.send_response(status)
        for line in query.get("header", ()):
            handler.send_header(*line.split(":", 1))
        if name in {"drip", "endless"}:
            handler.send_header("Connection", "close")
            handler.end_headers()
            while not self._stopping.wait(0.1 if name == "drip" else 0):
                handler.wfile.write(b"x" if name == "drip" else b"x" * 65536)
            return
        body = b"x" * 10_000_000 if name == "huge" else b"ok"
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


@contextmanager
def receiving(host: str = "127.0.0.1", **more: Any) -> Iterator[Receiver]:
    """A receiver while the block runs."""
    receiver = Receiver(host, **more)
    try:
        yield receiver
    finally:
        receiver.close()
