"""Checks of every connection to the realtime process, before it is routed."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from generation.realtime.authentication import headers_of

Application = Callable[[Any, Any, Any], Awaitable[None]]

#: The largest body that the server reads to its end and throws away, so that the connection can be kept.
_MOST_DRAINED: Final = 4 * 1024 * 1024
#: ASGI extension that lets a handshake be refused with an answer of ours. Without it the server answers 403.
_REFUSALS: Final = "websocket.http.response"


def only_as_configured(application: Application) -> Application:
    """Refuse a ``Host`` that is not ours, and plain http where ``PUBLIC_BASE_URL`` is https, as Django does."""

    async def checked(scope: Any, receive: Any, send: Any) -> None:
        headers = headers_of(scope)
        host = headers.get("host", "")
        domain, _ = split_domain_port(host)
        if not validate_host(domain, settings.ALLOWED_HOSTS):
            await _refuse(scope, receive, send, 400, {"error": "Bad request", "code": "bad_request"})
        elif settings.SECURE_SSL_REDIRECT and not _is_secure(scope, headers):
            error = {"error": "Use https or wss", "code": "https_required"}
            query = scope["query_string"].decode("latin-1")
            target = f"{scope.get('raw_path', scope['path'].encode()).decode('latin-1')}{'?' if query else ''}{query}"
            location = f"https://{host}{target}" if scope["type"] == "http" else ""
            await _refuse(scope, receive, send, 301 if location else 403, error, location=location)
        else:
            await application(scope, receive, send)

    return checked


def _is_secure(scope: Any, headers: dict[str, str]) -> bool:
    """By the header of a proxy that is believed (``TRUSTED_PROXIES``), else by the connection itself."""
    if settings.SECURE_PROXY_SSL_HEADER and (told := headers.get("x-forwarded-proto")) is not None:
        return told.partition(",")[0].strip() == "https"
    return scope.get("scheme") in {"https", "wss"}


async def _refuse(scope: Any, receive: Any, send: Any, status: int, error: dict[str, str], location: str = "") -> None:
    kind = "http"
    if scope["type"] == "websocket":
        if (await receive())["type"] != "websocket.connect":
            return
        if _REFUSALS not in scope.get("extensions", {}):
            await send({"type": "websocket.close"})
            return
        kind = _REFUSALS.rpartition(".")[0]
    headers = [(b"content-type", b"application/json"), (b"x-content-type-options", b"nosniff")]
    if location:
        headers.append((b"location", location.encode("latin-1", "replace")))
    body = json.dumps(error).encode()
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": f"{kind}.response.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.response.body", "body": body})


def without_bodies(application: Application) -> Application:
    """Hide request bodies from the application. The server discards small ones; others close the connection."""

    async def answered(scope: Any, receive: Any, send: Any) -> None:
        headers = headers_of(scope)
        length = headers.get("content-length", "0")
        is_told = False

        async def no_body() -> Any:
            nonlocal is_told
            if not is_told:
                is_told = True
                return {"type": "http.request", "body": b"", "more_body": False}
            while (message := await receive())["type"] == "http.request":
                pass
            return message

        async def closing(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = message | {"headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        is_kept = "expect" not in headers and "transfer-encoding" not in headers
        is_kept = is_kept and length.isdigit() and int(length) <= _MOST_DRAINED
        await application(scope, no_body, send if is_kept else closing)

    return answered


async def not_found(scope: Any, receive: Any, send: Any) -> None:
    """Answer 404 at addresses that only the web process serves."""
    await _refuse(scope, receive, send, 404, {"error": "Not found", "code": "not_found"})
