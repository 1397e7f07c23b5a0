"""Write ``docs/api.md``: every call of the API with curl, and the answer of a running stack.

``make docs`` runs it. It starts its own stack, on free ports and in a temporary folder. Values that differ between
runs (ids, times, tokens, signatures) are replaced, so that the page changes only with the API. ``--check`` writes
nothing and fails if the page is out of date.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import http.client
import http.server
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_DOCS = Path(__file__).resolve().parent
_ROOT = _DOCS.parent
sys.path.insert(0, str(_ROOT))

from config.local.valkey import free_port  # noqa: E402 - the project is not installed, so its path comes first

_PAGE = _DOCS / "api.md"
_GALLERY = _DOCS / "gallery"
_BASE = "http://127.0.0.1:8000"
_API = "/api/visual-generation"
#: Of the process of live updates, which answers the calls of images below ``_V1`` and those that wait.
_REALTIME_BASE = "http://127.0.0.1:8001"
_V1 = "/v1"
_USER = {"username": "demo", "password": "correct horse battery staple"}
_SHOWN_HEADERS = (
    *("Content-Type", "Location", "Idempotent-Replayed", "Preference-Applied", "ETag", "WWW-Authenticate"),
    "Content-Range",
)
_PATIENCE = 120.0
_WIDTH = 80

_DRAGON = {
    "type": "coloring-page",
    "prompt": "A friendly dragon playing in a garden",
    "priority": "normal",
    "projectId": "proj_123",
    "pageId": "page_456",
    "metadata": {"imageStyle": "cartoon", "aspectRatio": "square", "maxAttempts": 3},
}
_CAT = {"type": "coloring-page", "prompt": "A cat playing", "projectId": "proj_123", "pageId": "page_1"}
_DOG = {"type": "coloring-page", "prompt": "A dog running", "projectId": "proj_123", "pageId": "page_2"}

# --- Values that differ between runs ----------------------------------------------------------------------------------

_MOMENT = "2026-01-23T08:50:0{}Z"
_KEY_ID = "k3V9x2M7"
_BOUNDARY = "the-boundary-of-the-parts"
_REPLACED: dict[str, Any] = {
    "requestedAt": _MOMENT.format("0.000"),
    "createdAt": _MOMENT.format("0.000"),
    "startedAt": _MOMENT.format("0.353"),
    "completedAt": _MOMENT.format("0.829"),
    "generationTime": 476,
    "averageGenerationTime": 0.476,
    "averageProcessingTime": 0.476,
    "averageWaitTime": 0.353,
    "estimatedWaitTime": 1,
    "date": "2026-01-23",
    "created": 1769158200,
    "keyId": _KEY_ID,
    "expiresAt": _MOMENT.format("0.000").replace("01-23", "02-22"),
    "at": _MOMENT.format("0.912"),
    "ms": 12,
    "nextAttemptAt": _MOMENT.format("5.924"),
    "previousUntil": _MOMENT.format("0.000").replace("01-23", "01-24"),
    # The same image everywhere, but encoded differently.
    "bytes": 58242,
    "sha256": "b2477eaddfe6a7195b9bcd3e4211c6f149aad4a46dc5ad6d8d6938cada485755",
    "access": "eyJhbGciOiJIUzI1NiIs…",
    "refresh": "eyJhbGciOiJIUzI1NiIs…",
}


class _Tidy:
    """Replaces values that differ between runs by stable ones."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}

    def text(self, text: str) -> str:
        text = re.sub(r"vg[abudw]_\d+_[a-z0-9]+", self._id, text)
        text = re.sub(r"expires=\d+&signature=[\w-]+", "expires=1769248800&signature=0rG3mZ5nJ8…", text)
        text = re.sub(r"cursor=[\w%-]+", "cursor=cD12Z2FfMTc2OTE1…", text)
        text = re.sub(r'ETag: "[0-9a-f]{32}"', 'ETag: "0b9d5c1e7a4f…"', text)
        text = re.sub(r'ETag: "[0-9a-f]{64}"', f'ETag: "{_REPLACED["sha256"]}"', text)
        text = re.sub(r"(Content-Range: bytes 0-\d+)/\d+", rf"\1/{_REPLACED['bytes']}", text)
        text = re.sub(r"whsec_[\w+/]{43}=", "whsec_C2FVsBQIhrscChlQIM…", text)
        text = re.sub(r'"since": "[^"]+"', f'"since": "{_MOMENT.format("0")}"', text)
        text = re.sub(r"http://127\.0\.0\.1:\d+/hooks", "https://books.example.org/hooks", text)
        text = re.sub(r"vgsk_[0-9A-Za-z]{8}_[0-9A-Za-z]{46}", f"vgsk_{_KEY_ID}_…", text)
        text = re.sub(r"(vgsk_|/keys/)[0-9A-Za-z]{8}\b", rf"\g<1>{_KEY_ID}", text)
        return re.sub(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", _REPLACED["access"], text)

    def value(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: _REPLACED[name]
                if name in _REPLACED and inner is not None and (inner or name != "created")
                else self.value(inner)
                for name, inner in value.items()
            }
        if isinstance(value, list):
            return [self.value(inner) for inner in value]
        return self.text(value) if isinstance(value, str) else value

    def _id(self, found: re.Match[str]) -> str:
        number = len(self._ids) + 1
        return self._ids.setdefault(found[0], f"{found[0][:3]}_{1769158200000000 + number}_k3v9x2m7q4w8z1c5t{number}")


# --- Calls ------------------------------------------------------------------------------------------------------------


@dataclass
class _Answer:
    status: int
    reason: str
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def _form(file: Path) -> bytes:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{file.name}"\r\n\r\n'
    return head.encode() + file.read_bytes() + f"\r\n--{_BOUNDARY}--\r\n".encode()


def _waits(path: str, headers: dict[str, str]) -> bool:
    return path.startswith(_V1) or "Prefer" in headers


@dataclass
class _Recorder:
    """Calls the stack, and records the calls to show by the id of their operation."""

    port: int
    realtime_port: int
    token: str = ""
    tidy: _Tidy = field(default_factory=_Tidy)
    shown: dict[str, list[str]] = field(default_factory=dict)

    def fetch(self, method: str, path: str, body: Any = None, **headers: str) -> _Answer:
        """Make a call without recording it."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        data = None
        if isinstance(body, Path):
            data = _form(body)
            sent["Content-Type"] = f"multipart/form-data; boundary={_BOUNDARY}"
        elif body is not None:
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        port = self.realtime_port if _waits(path, headers) else self.port
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            connection.request(method, path, data, sent)
            response = connection.getresponse()
            return _Answer(response.status, response.reason, response.headers, response.read())

    def show(self, operation: str, method: str, path: str, body: Any = None, **headers: str) -> _Answer:
        """Make a call and record it."""
        answer = self.fetch(method, path, body, **headers)
        command = self._curl(method, path, body, headers, saved=answer.headers.get_content_maintype() == "image")
        shown = f"```console\n{command}\n{self._answer(answer)}\n```"
        self.shown.setdefault(operation, []).append(shown)
        return answer

    def _curl(self, method: str, path: str, body: Any, headers: dict[str, str], *, saved: bool) -> str:
        flags = "-is" if not saved else "-s -o dragon -D -"
        query = '"' if "?" in path else ""
        base = _REALTIME_BASE if _waits(path, headers) else _BASE
        parts = [f"$ curl {flags} {query}{base}{path}{query}"]
        if method not in {"GET", "POST"} or (method == "POST" and body is None):
            parts[0] = parts[0].replace(" -is", f" -is -X {method}")
        if self.token:
            parts.append('-H "Authorization: Bearer $TOKEN"')
        parts += [f"-H '{name.replace('_', '-')}: {value}'" for name, value in headers.items()]
        if isinstance(body, Path):
            parts.append(f"-F file=@{body.name}")
        elif body is not None:
            compact = json.dumps(body)
            data = compact if len(compact) < _WIDTH else json.dumps(body, indent=2)
            parts += ["-H 'Content-Type: application/json'", f"-d '{data}'"]
        return self.tidy.text(" \\\n    ".join(parts))

    def _answer(self, answer: _Answer) -> str:
        lines = [f"HTTP/1.1 {answer.status} {answer.reason}"]
        lines += [f"{name}: {answer.headers[name]}" for name in _SHOWN_HEADERS if name in answer.headers]
        shown = self.tidy.text("\n".join(lines))
        if answer.headers.get_content_type() == "application/json":
            body = answer.json
            if "openapi" in body:
                body = {"openapi": body["openapi"], "info": {"title": body["info"]["title"], "…": "…"}, "…": "…"}
            shown += f"\n\n{json.dumps(self.tidy.value(body), indent=2, ensure_ascii=False)}"
        return shown

    def wait(self, path: str, ended: Callable[[Any], bool]) -> None:
        """Poll until it has ended. Exits after ``_PATIENCE`` seconds."""
        deadline = time.monotonic() + _PATIENCE
        while not ended(self.fetch("GET", path).json):
            if time.monotonic() > deadline:
                sys.exit(f"error: {path} has not ended after {_PATIENCE:.0f} s")
            time.sleep(0.05)


def _make_calls(to: _Recorder) -> None:
    """Make every call at least once, in an order that gives the same answers in every run."""
    to.show("getHealth", "GET", "/healthz")
    to.show("getReadiness", "GET", "/readyz")
    to.show("getSchema", "GET", "/api/schema")
    tokens = to.show("obtainToken", "POST", "/api/token", _USER).json
    to.show("obtainToken", "POST", "/api/token", _USER | {"password": "wrong"})
    tokens = to.fetch("POST", "/api/token", _USER).json
    to.show("refreshToken", "POST", "/api/token/refresh", {"refresh": tokens["refresh"]})
    to.show("verifyToken", "POST", "/api/token/verify", {"token": tokens["access"]})
    to.show("verifyToken", "POST", "/api/token/verify", {"token": "no token"})
    to.token = tokens["access"]

    key = {"Idempotency_Key": "page-456-first-draft"}
    request_id = to.show("submitRequest", "POST", f"{_API}/submit", _DRAGON, **key).json["requestId"]
    to.show("submitRequest", "POST", f"{_API}/submit", _DRAGON, **key)
    to.show("submitRequest", "POST", f"{_API}/submit", {"type": "poster", "prompt": "A dragon"})
    to.show("submitRequest", "POST", f"{_API}/submit", _CAT, Prefer="wait=30", Cancel_After="5m")
    status = f"{_API}/status/{request_id}?imageData=false"
    to.wait(status, lambda shape: shape["progress"] == 100)
    etag = to.show("getRequest", "GET", status).headers["ETag"]
    unchanged = to.fetch("GET", status, If_None_Match=etag)
    assert unchanged.status == 304  # noqa: S101
    to.show("getRequest", "GET", f"{_API}/status/vga_1769158200000000_somebodyelses")
    to.token, token = "", to.token
    to.show("getRequest", "GET", status)
    to.token = token
    to.show("getImage", "GET", f"{_API}/image/{request_id}.png")
    to.show("getImage", "GET", f"{_API}/image/{request_id}", Range="bytes=0-1023")
    to.show("getThumbnail", "GET", f"{_API}/thumbnail/{request_id}")
    to.show("getPreview", "GET", f"{_API}/preview/{request_id}")
    to.show("listRequests", "GET", f"{_API}/requests?projectId=proj_123&limit=1")
    to.show("listRequests", "GET", f"{_API}/requests?state=queued")

    batch = {"requests": [_CAT, _DOG], "batchOptions": {"priority": "normal", "maxConcurrent": 1}}
    batch_id = to.show("submitBatch", "POST", f"{_API}/batch", batch).json["batchId"]
    to.show("submitBatch", "POST", f"{_API}/batch", {"requests": [_CAT, _DOG | {"prompt": "A dog"}]})
    to.wait(f"{_API}/batch/{batch_id}", lambda shape: shape["progress"] == 100)
    to.show("getBatch", "GET", f"{_API}/batch/{batch_id}")

    several = to.show("submitRequest", "POST", f"{_API}/submit", _CAT | {"variations": 2}).json
    to.wait(f"{_API}/batch/{several['batchId']}", lambda shape: shape["progress"] == 100)
    decision = {"approval": "approved", "note": "The wings are right"}
    to.show("decideRequest", "PATCH", f"{_API}/requests/{request_id}", decision)
    to.show("decideRequest", "PATCH", f"{_API}/requests/{request_id}", {"approval": "perhaps"})
    to.show("getProvenance", "GET", f"{_API}/requests/{request_id}/provenance")

    fox = _GALLERY / "fox-forest.png"
    upload_id = to.show("uploadImage", "POST", f"{_API}/uploads", fox).json["uploadId"]
    to.show("uploadImage", "POST", f"{_API}/uploads", _GALLERY / "LICENSE.txt")
    to.show("listUploads", "GET", f"{_API}/uploads?limit=1")
    to.show("getUpload", "GET", f"{_API}/uploads/{upload_id}")
    to.show("getUploadedImage", "GET", f"{_API}/upload-image/{upload_id}.png")
    to.show("deleteUpload", "DELETE", f"{_API}/uploads/{upload_id}")

    image = {"prompt": "A friendly dragon playing in a garden", "size": "1536x1024", "response_format": "url"}
    to.show("openaiGenerateImages", "POST", f"{_V1}/images/generations", image)
    to.show("openaiGenerateImages", "POST", f"{_V1}/images/generations", image | {"n": 9})
    to.show("openaiEditImages", "POST", f"{_V1}/images/edits")
    to.show("openaiListModels", "GET", f"{_V1}/models")
    to.show("openaiGetModel", "GET", f"{_V1}/models/openmoji-17")
    to.show("openaiGetModel", "GET", f"{_V1}/models/imagen-9")

    wanted = {"name": "the printer", "scopes": ["requests:read", "requests:write"], "dailyBudgetUsd": 5}
    made = to.show("makeKey", "POST", f"{_API}/keys", wanted).json["keyId"]
    to.show("makeKey", "POST", f"{_API}/keys", wanted | {"scopes": ["everything"]})
    to.show("listKeys", "GET", f"{_API}/keys")
    to.show("getKey", "GET", f"{_API}/keys/{made}")
    to.show("changeKey", "PATCH", f"{_API}/keys/{made}", {"maxPriority": "normal", "dailyBudgetUsd": None})
    to.show("rotateKey", "POST", f"{_API}/keys/{made}/rotate", {"overlapHours": 24})
    to.show("revokeKey", "DELETE", f"{_API}/keys/{made}")

    _make_calls_of_webhooks(to, request_id)
    to.show("getQueueStatus", "GET", f"{_API}/queue/status")
    to.show("getMetrics", "GET", f"{_API}/metrics")

    # They run one after the other, so the last one is still queued.
    created = to.fetch("POST", f"{_API}/batch", batch | {"requests": [_CAT, _DOG, _DRAGON]}).json
    last = created["requests"][-1]["requestId"]
    to.show("cancelRequest", "DELETE", f"{_API}/cancel/{last}")
    to.show("cancelRequest", "DELETE", f"{_API}/cancel/{last}")
    to.show("retryRequest", "POST", f"{_API}/retry/{last}")
    to.show("cancelBatch", "DELETE", f"{_API}/batch/{created['batchId']}")
    to.show("retryRequest", "POST", f"{_API}/retry/{request_id}")


def _make_calls_of_webhooks(to: _Recorder, request_id: str) -> None:
    """Make the calls about webhooks. Their receiver is on loopback, and the page shows another name."""
    webhooks = f"{_API}/webhooks"
    with _receiver() as url:
        wanted = {"url": url, "events": ["request.approved"], "projectId": "proj_123"}
        made = to.show("makeWebhook", "POST", webhooks, wanted).json["webhookId"]
        to.show("makeWebhook", "POST", webhooks, wanted | {"url": "https://169.254.169.254/"})
        to.show("listWebhooks", "GET", webhooks)
        to.show("getWebhook", "GET", f"{webhooks}/{made}")
        to.show("changeWebhook", "PATCH", f"{webhooks}/{made}", {"description": "The press"})
        to.show("rotateWebhookSecret", "POST", f"{webhooks}/{made}/rotate", {"overlapHours": 24})
        for approval in (None, "approved"):
            to.fetch("PATCH", f"{_API}/requests/{request_id}", {"approval": approval})
        log = f"{webhooks}/{made}/deliveries"
        to.wait(f"{log}?state=delivered", lambda page: len(page["results"]) == 1)
        deliveries = to.show("listWebhookDeliveries", "GET", log).json["results"]
        to.show("listDeliveries", "GET", f"{webhooks}/deliveries?requestId={request_id}&state=failed")
        to.show("testWebhook", "POST", f"{webhooks}/{made}/test")
        to.wait(f"{log}?state=delivered", lambda page: len(page["results"]) == 2)
        to.show("redeliver", "POST", f"{_API}/deliveries/{deliveries[0]['deliveryId']}/redeliver")
        today = {"since": time.strftime("%Y-%m-%dT%H:00:00Z", time.gmtime())}
        to.show("redeliverWebhook", "POST", f"{webhooks}/{made}/redeliver", today)
        to.show("getDefaultSecret", "GET", f"{webhooks}/secret")
        to.show("rotateDefaultSecret", "POST", f"{webhooks}/secret/rotate", {"overlapHours": 0})
        to.show("deleteWebhook", "DELETE", f"{webhooks}/{made}")


@contextlib.contextmanager
def _receiver() -> Iterator[str]:
    """Receive webhooks during the block. Yields their address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/hooks"
        server.shutdown()


# --- The page ---------------------------------------------------------------------------------------------------------


def _page(schema: dict[str, Any], shown: dict[str, list[str]]) -> str:
    lines = [
        "# The API",
        "",
        "Every call with `curl`, and the answer of a stack started by `make run`. `make docs` writes this page.",
        "A running stack has the same at `/api/docs`, to try out, and at `/api/schema` (OpenAPI 3.1), from which",
        "clients can be generated.",
        "",
        *schema["info"]["description"].split("\n"),
        "",
    ]
    calls = [
        (operation, method.upper(), path)
        for path, item in schema["paths"].items()
        for method, operation in item.items()
    ]
    for tag in schema["tags"]:
        lines += [f"## {tag['name']}", "", tag["description"], ""]
        for operation, method, path in calls:
            if tag["name"] in operation["tags"]:
                lines += [f"### {operation['summary']}", "", f"`{method} {path}`", "", operation["description"], ""]
                for example in shown[operation["operationId"]]:
                    lines += [example, ""]
    return "\n".join(lines)


@contextlib.contextmanager
def _stack() -> Iterator[tuple[int, int]]:
    """Run a stack during the block. Yields the ports of its API and of its live updates."""
    port, realtime_port = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="vga-docs-") as folder:
        settings = {
            "VAR_DIR": folder,
            "DEBUG": "true",
            "PORT": str(port),
            "REALTIME_PORT": str(realtime_port),
            "PUBLIC_BASE_URL": _BASE,
            "WEB_WORKERS": "1",  # figures are cached for some seconds in each process
            "DEMO_USERNAME": _USER["username"],
            "DEMO_PASSWORD": _USER["password"],
            "PROVIDERS": "clipart",
            "ALLOWED_HOSTS": "127.0.0.1",
            "BIND_HOST": "127.0.0.1",
            "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
            "WEBHOOK_ALLOW_HTTP": "true",
            # Use the embedded servers, whatever the shell or .env sets.
            "DATABASE_URL": "",
            "REDIS_URL": "",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "config.local.stack", "run"],
            cwd=_ROOT,
            env=os.environ | settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None  # noqa: S101
        try:
            said = []
            for line in process.stdout:
                said.append(line)
                if line.startswith("Ready:"):
                    break
            else:
                sys.exit("".join(said))
            yield port, realtime_port
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate()


def main() -> None:
    """Write the page, or compare it with ``--check``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--check", action="store_true", help="fail if the page is out of date")
    is_check = parser.parse_args().check
    with _stack() as ports:
        recorder = _Recorder(*ports)
        _make_calls(recorder)
        page = _page(recorder.fetch("GET", "/api/schema").json, recorder.shown)
    if not is_check:
        _PAGE.write_text(page, encoding="utf-8")
    elif (kept := _PAGE.read_text(encoding="utf-8")) != page:
        difference = difflib.unified_diff(kept.splitlines(), page.splitlines(), "docs/api.md", "expected", lineterm="")
        sys.exit("\n".join(["error: docs/api.md is out of date; `make docs` updates it", *difference]))


if __name__ == "__main__":
    main()
