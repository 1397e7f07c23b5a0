"""The demo: submit the guide's example over HTTP as a client does, follow it, and save the image."""

from __future__ import annotations

import hashlib
import http.client
import json
import struct
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

EXAMPLE = {
    "type": "coloring-page",
    "prompt": "A friendly dragon playing in a garden",
    "priority": "normal",
    "projectId": "proj_123",
    "pageId": "page_456",
    "metadata": {"imageStyle": "cartoon", "aspectRatio": "square", "maxAttempts": 3},
}
_API = "/api/visual-generation"
_ENDED = {"completed", "failed", "cancelled"}
_POLL_SECONDS = 0.05
_FINISH_SECONDS = 120.0
_BAR_WIDTH = 30


class DemoError(Exception):
    """The demo failed. The message is one line."""


class Client:
    """A client of the API at ``base_url`` that raises unless a call succeeds."""

    def __init__(self, base_url: str) -> None:
        self._base = urlsplit(base_url)
        self._token = ""

    def sign_in(self, username: str, password: str) -> None:
        """Get a token and send it with all further calls. Raises :class:`DemoError`."""
        self._token = self.call("POST", "/api/token", {"username": username, "password": password})["access"]

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Send and receive JSON. Raises :class:`DemoError`."""
        return json.loads(self.fetch(method, path, body))

    def fetch(self, method: str, path: str, body: object = None) -> bytes:
        """Send JSON and return the bytes of the answer. Raises :class:`DemoError`."""
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        connection = http.client.HTTPConnection(self._base.netloc, timeout=30)
        try:
            if body is None:
                connection.request(method, path, headers=headers)
            else:
                connection.request(method, path, json.dumps(body), headers | {"Content-Type": "application/json"})
            response = connection.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException) as fault:
            raise DemoError(f"{method} {path.partition('?')[0]}: {str(fault) or type(fault).__name__}") from None
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            answer = data[:200].decode("utf-8", "replace")
            raise DemoError(f"{method} {path.partition('?')[0]} answered {response.status}: {answer}")
        return data


class Progress:
    """Progress: one line that is overwritten on a terminal, else one line for each change."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._last = ""

    def show(self, status: str, percent: int) -> None:
        """Show the status."""
        filled = _BAR_WIDTH * percent // 100
        line = f"  [{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] {percent:3} %  {status}"
        if line != self._last:
            self._last = line
            print(f"\r{line:<60}" if self._terminal else line, end="" if self._terminal else "\n", flush=True)

    def end(self) -> None:
        """Begin a new line."""
        if self._terminal:
            print(flush=True)


def check_png(data: bytes, result: dict[str, Any]) -> None:
    """Raise :class:`DemoError` unless the bytes are the PNG that the result describes."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise DemoError("what came is not a PNG")
    if struct.unpack(">II", data[16:24]) != (result["width"], result["height"]):
        raise DemoError(f"the PNG is not {result['width']} x {result['height']} as declared")
    if hashlib.sha256(data).hexdigest() != result["sha256"]:
        raise DemoError("the PNG differs from the stored one by its SHA-256")


def followed(client: Client, path: str, *, finished: str, count: Callable[[dict[str, Any]], str]) -> dict[str, Any]:
    """Show the progress of what has this path until it has ended, and return it. ``finished`` names it in an error,
    ``count`` gives the words beside the bar. Raises :class:`DemoError`."""
    begun = time.monotonic()
    progress = Progress()
    while True:
        state: dict[str, Any] = client.call("GET", path)
        progress.show(count(state), state["progress"])
        if state["status"] in _ENDED:
            progress.end()
            return state
        if time.monotonic() - begun > _FINISH_SECONDS:
            progress.end()
            raise DemoError(f"{finished} is still {state['status']} after {_FINISH_SECONDS:.0f} s")
        time.sleep(_POLL_SECONDS)


def image_of(client: Client, state: dict[str, Any]) -> bytes:
    """Return the image of a completed request. Raises :class:`DemoError`."""
    if state["status"] != "completed":
        raise DemoError(f"{state['requestId']} is {state['status']}: {(state['error'] or {}).get('message', '')}")
    address = urlsplit(state["result"]["imageUrl"])
    data = client.fetch("GET", f"{address.path}?{address.query}")
    check_png(data, state["result"])
    return data


def shown(path: Path) -> Path:
    """Return the path as a person reads it: below the current folder, if it is there."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def print_attribution(text: str) -> None:
    """Print the attribution of an image in lines."""
    if text:
        print(textwrap.fill(text, 100, initial_indent="  Attribution  ", subsequent_indent=" " * 15))


def draw(base_url: str, username: str, password: str, folder: Path) -> None:
    """Generate the example, save it in the folder and print its details. Raises :class:`DemoError`."""
    client = Client(base_url)
    client.sign_in(username, password)
    print(f'Submitting a {EXAMPLE["type"]}: "{EXAMPLE["prompt"]}"', flush=True)
    submitted = time.monotonic()
    request_id = client.call("POST", f"{_API}/submit", EXAMPLE)["requestId"]
    path = f"{_API}/status/{request_id}?imageData=false"
    state = followed(client, path, finished=request_id, count=lambda state: str(state["status"]))
    took = time.monotonic() - submitted
    data = image_of(client, state)
    target = folder / "friendly-dragon.png"
    target.write_bytes(data)
    result = state["result"]
    print(
        f"\n  Image        {shown(target)}"
        f"\n  Request      {request_id}"
        f"\n  Completed    {took * 1000:.0f} ms after it was submitted"
        f"\n  Provider     {result['provider']} ({result['model']})"
        f"\n  Size         {result['width']} x {result['height']} PNG, {len(data) / 1024:.0f} KiB"
    )
    print_attribution(result.get("attribution") or "")
    print(
        "\nNext: `make demo-book` draws a book, the same character on each page; `make run` keeps everything running"
        "\n      at http://127.0.0.1:8000, with the API described at /api/docs. README.md explains the rest.",
        flush=True,
    )
