"""A door in front of a server of S3 that refuses what a role may not do, as S3 does it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final

import httpx2

#: Whether the role may do this: a method and a path.
Permission = Callable[[str, str], bool]

_DENIED: Final = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
_NOT_PASSED_ON: Final = frozenset({"connection", "content-encoding", "content-length", "server", "date", "host"})


class GuardedBucket:
    """Passes on what is permitted. Without the permission to list, S3 says 403 of a key that is not there."""

    def __init__(self, behind: str, *, permits: Permission = lambda *_: True, may_list: bool = False) -> None:
        self.asked: list[tuple[str, str]] = []
        self.permits = permits
        client = httpx2.Client(base_url=behind)
        door = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = self.path.partition("?")[0]
                door.asked.append((self.command, path))
                if not door.permits(self.command, path):
                    self._answer(403, {}, _DENIED)
                    return
                headers = {k: v for k, v in self.headers.items() if k.lower() not in _NOT_PASSED_ON}
                found = client.request(self.command, self.path, headers=headers, content=body)
                if found.status_code == 404 and not may_list:
                    self._answer(403, {}, _DENIED)
                else:
                    self._answer(found.status_code, dict(found.headers), found.content)

            def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in _NOT_PASSED_ON | {"transfer-encoding"}:
                        self.send_header(name, value)
                length = headers.get("content-length") if self.command == "HEAD" and headers else len(body)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on  # noqa: N815  http.server looks for these

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._client = client
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> GuardedBucket:
        threading.Thread(target=self._server.serve_forever, name="guarded bucket", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._client.close()
