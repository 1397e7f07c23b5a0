"""The cost of waiting calls: from the vendor to the client, and of many that wait; an API key beside a token."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import resource
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import httpx2
from PIL import Image

from benchmarks.engines import BODY, Engine, engine
from benchmarks.floors import Floors
from benchmarks.load import Load
from benchmarks.plan import Plan
from benchmarks.report import Figure
from benchmarks.samples import samples
from benchmarks.stacks import API, bearer, resident
from benchmarks.turns import in_turns, middle
from tests.support.stack import wait_until

_WAITS: Final = 500
_SECONDS: Final = 1
#: Enough for the kernel to spread their connections evenly over the web processes.
_READERS: Final = 16
_USAGE: Final = {"input_tokens": 50, "output_tokens": 196, "total_tokens": 246}
#: Goals: ms from the vendor's answer to the client's, MB with so many waits, and p99 of other calls as a multiple.
_SMALL: Final = 30.0
_LARGE: Final = 60.0
_MEMORY: Final = 300.0
_SLOWER: Final = 1.25


def run(plan: Plan, _: Floors) -> Iterator[Figure]:
    """Measure everything, one case after the other."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * _WAITS)), hard))
    plan.say("waiting calls: from the vendor's answer to the client's")
    yield from _overheads(plan)
    plan.say(f"waiting calls: {_WAITS} of them")
    yield from _many(plan)


# --- Overhead ---------------------------------------------------------------------------------------------------------


class _Vendor:
    """A vendor in this process, whose clock is that of the client. It notes when it has sent its last answer."""

    def __init__(self, image: bytes) -> None:
        vendor = self
        text = base64.b64encode(image).decode()
        body = json.dumps({"created": 1764288000, "data": [{"b64_json": text}], "usage": _USAGE}).encode()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # or the kernel holds the body back until the header is acknowledged

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                vendor.answered = time.monotonic()

            def log_message(self, *_: Any) -> None:
                pass

        self.answered = 0.0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()


def _small() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 64), "orange").save(out, "PNG")
    return out.getvalue()


def _overheads(plan: Plan) -> Iterator[Figure]:
    photo = samples()["photo"]
    cases = (
        ("64 × 64", _small(), _SMALL, plan.size(100, quick=20)),
        (f"{photo.title} of {photo.megabytes:.0f} MB", photo.numbered(1), _LARGE, plan.size(60, quick=10)),
    )
    for number, (title, image, goal, calls) in enumerate(cases):
        taken = _taken(plan.folder, f"waiting-{number}", image, calls)
        figure = Figure.of_times(f"/v1: vendor's answer to client's, {title}", taken)
        yield figure.hoping(p50=goal)


def _taken(folder: Path, name: str, image: bytes, calls: int) -> list[float]:
    vendor = _Vendor(image)
    with contextlib.ExitStack() as opened:
        opened.callback(vendor.close)
        up = opened.enter_context(engine(folder, name, 12))
        address = f"http://127.0.0.1:{vendor.port}/v1"
        up.env |= {"PROVIDERS": "openai", "OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": address}
        up.start("web", "realtime", "dispatcher", "worker")
        up.wait_ready()
        client = opened.enter_context(httpx2.Client(base_url=_realtime(up), headers=_key(up), timeout=60))
        body = {"prompt": "A friendly dragon in a garden", "size": "1024x1536"}
        taken = []
        for number in range(calls + 5):  # the first ones open connections
            client.post("/v1/images/generations", json=body | {"user": str(number)}).raise_for_status()
            taken.append((time.monotonic() - vendor.answered) * 1000)
    return taken[5:]


def _realtime(up: Engine) -> str:
    return f"http://127.0.0.1:{up.realtime_port}"


def _key(up: Engine) -> dict[str, str]:
    wanted = {"name": "benchmark", "scopes": ["requests:read", "requests:write"]}
    with up.client() as client:
        key = client.post("/keys", json=wanted).raise_for_status().json()["key"]
    return {"Authorization": f"Bearer {key}"}


# --- Many waits, and a key --------------------------------------------------------------------------------------------


def _many(plan: Plan) -> Iterator[Figure]:
    with contextlib.ExitStack() as opened:
        up = opened.enter_context(engine(plan.folder, "waits", 11, WAITS_PER_USER="100000"))
        up.start("web", "realtime")
        wait_until(up.answers, seconds=30, what="the API")
        token, key = bearer(up, "alice"), _key(up)
        with up.client() as client:
            request_id = str(client.post("/submit", json=BODY).raise_for_status().json()["requestId"])
        path = f"{API}/status/{request_id}?imageData=false"
        load = Load(port=up.port, paths=[path], headers=token, connections=_READERS, seconds=_SECONDS)
        with_key = Load(port=up.port, paths=[path], headers=key, connections=_READERS, seconds=_SECONDS)
        taken = in_turns({"token": load.run, "key": with_key.run}, slices=plan.slices)
        by_token = Figure.of(middle(taken["token"]), "status: with a token")
        yield by_token
        by_key = Figure.of(middle(taken["key"]), "status: with an API key")
        yield by_key.beside(by_token, "token").at_least(0.95, by_token, "a token")
        before = resident(up.pid("realtime"))
        waiting = opened.enter_context(_waits(up, path, token, _WAITS))
        memory = resident(up.pid("realtime"))
        figure = Figure(f"{len(waiting)} waiting calls on one process", memory=memory)
        figure = figure.beside(Figure("without", memory=before), "no call")
        goal = f"< {_MEMORY:g} MB (is {(memory - before) / len(waiting) * 1000:.0f} kB for each)"
        yield figure.also(goal, met=memory < _MEMORY)
        busy = Figure.of(middle(in_turns({"busy": load.run}, slices=plan.slices)["busy"]), "status: beside the waits")
        most = _SLOWER * (by_token.p99 or 0)
        yield busy.beside(by_token, "without waits").also(f"p99 ≤ {_SLOWER} × without", met=(busy.p99 or 0) <= most)


@contextlib.contextmanager
def _waits(up: Engine, path: str, headers: dict[str, str], count: int) -> Iterator[Sequence[socket.socket]]:
    """Hold so many waiting calls."""
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{up.realtime_port}", "Prefer: wait=60"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    call = "\r\n".join([*lines, "", ""]).encode()
    with contextlib.ExitStack() as opened:
        connections = []
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", up.realtime_port), timeout=60)
            connections.append(opened.enter_context(connection))
            connection.sendall(call)
        time.sleep(3)  # until Django has answered all of them
        yield connections
