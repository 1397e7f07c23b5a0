"""Bounds on request bodies before Django, which would store a body of any size in a file."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from generation.realtime.authentication import headers_of
from generation.realtime.handshake import Application, send_json

#: Maximum bytes of a body that is read, as in the web process.
_MAX_BODY: Final = 1024 * 1024
#: Maximum bytes of a larger body that is read to the end and discarded, so that the client reads the answer.
_MAX_DRAINED: Final = 4 * 1024 * 1024
#: Seconds within which a body must have come, as at the proxy in front.
_BODY_TIMEOUT: Final = 15.0


class _TooLargeError(Exception):
    """The body is larger than the bound."""


def limited_bodies(application: Application) -> Application:
    """Read the body within the bounds, and give it to the application as one message with its length."""

    async def answered(scope: Any, receive: Any, send: Any) -> None:
        try:
            async with asyncio.timeout(_BODY_TIMEOUT):
                body = await _body(headers_of(scope), receive)
        except TimeoutError:
            await refuse(scope, send, 408, "The body did not come in time", "request_timeout")
            return
        except _TooLargeError:
            await refuse(scope, send, 413, "The body is larger than 1 MiB", "body_too_large")
            return
        if body is None:
            return
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def one_message() -> Any:
            return next(messages, None) or await receive()

        await application(with_length(scope, len(body)), one_message, send)

    return answered


async def _body(headers: dict[str, str], receive: Any) -> bytes | None:
    """Return the body, None if the client has left. Raises :class:`_TooLargeError`."""
    length = headers.get("content-length", "")
    announced = int(length) if length.isascii() and length.isdigit() else 0
    if announced > _MAX_DRAINED or (announced > _MAX_BODY and "expect" in headers):
        raise _TooLargeError
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size <= _MAX_BODY:
            parts.append(part)
        elif size > _MAX_DRAINED:
            raise _TooLargeError
        if not message.get("more_body"):
            break
    if size > _MAX_BODY:
        raise _TooLargeError
    return b"".join(parts)


async def refuse(scope: Any, send: Any, status: int, message: str, code: str) -> None:
    """Send an error and close the connection, in the format of the path."""
    error: dict[str, Any] = {"error": message, "code": code}
    if scope["path"].startswith("/v1/"):
        error = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
    await send_json(send, status, error, [(b"connection", b"close")])


def with_length(scope: Any, size: int) -> Any:
    """Return the scope with the length of the body that was read. Without one, as of a body in chunks, a parser cannot
    tell whether the body is whole."""
    headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
    if size or len(headers) < len(scope["headers"]):
        headers.append((b"content-length", str(size).encode()))
    return {**scope, "headers": headers}


def without_bodies(application: Application) -> Application:
    """Hide request bodies from the application. The server discards small ones; others close the connection."""

    async def answered(scope: Any, receive: Any, send: Any) -> None:
        headers = headers_of(scope)
        length = headers.get("content-length", "0")
        is_body_sent = False

        async def no_body() -> Any:
            nonlocal is_body_sent
            if not is_body_sent:
                is_body_sent = True
                return {"type": "http.request", "body": b"", "more_body": False}
            while (message := await receive())["type"] == "http.request":
                pass
            return message

        async def closing(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = message | {"headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        is_kept = "expect" not in headers and "transfer-encoding" not in headers
        is_kept = is_kept and length.isdigit() and int(length) <= _MAX_DRAINED
        await application(scope, no_body, send if is_kept else closing)

    return answered
