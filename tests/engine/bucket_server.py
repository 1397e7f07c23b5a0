"""``python -m tests.engine.bucket_server PORT``: S3's calls for single objects, which it keeps in memory. It checks no
signature. Needs only the standard library, since it runs in a container."""

from __future__ import annotations

import hashlib
import sys
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

_MISSING = b"<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>"


class Handler(BaseHTTPRequestHandler):
    """Any path is a key of the one bucket."""

    protocol_version = "HTTP/1.1"
    #: Path → the bytes and the headers of an object.
    objects: ClassVar[dict[str, tuple[bytes, dict[str, str]]]] = {}

    @property
    def _key(self) -> str:
        return self.path.partition("?")[0]

    def do_PUT(self) -> None:
        """Store the object."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {
            "Content-Type": self.headers.get("Content-Type", "application/octet-stream"),
            "ETag": f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"',
            "Last-Modified": formatdate(usegmt=True),
        }
        self.objects[self._key] = body, headers
        self._answer(200, b"", {"ETag": headers["ETag"]})

    def do_GET(self) -> None:
        """Send the object."""
        body, headers = self.objects.get(self._key, (_MISSING, {}))
        self._answer(200 if headers else 404, body, headers)

    do_HEAD = do_GET  # noqa: N815  http.server looks for it

    def do_DELETE(self) -> None:
        """Delete it, if it exists."""
        self.objects.pop(self._key, None)
        self._answer(204, b"", {})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer(("", int(sys.argv[1])), Handler).serve_forever()
