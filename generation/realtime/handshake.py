"""Checks of every connection to the realtime process, before routing."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from generation.realtime.authentication import headers_of

Application = Callable[[Any, Any, Any], Awaitable[None]]

#: ASGI extension for rejecting a handshake with a custom response. Without it the server sends 403.
_DENIAL_RESPONSE: Final = "websocket.http.response"


def only_as_configured(application: Application) -> Application:
    """Reject a disallowed ``Host``, and plain http if ``PUBLIC_BASE_URL`` is https, as Django does."""

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
    """Return whether the client uses TLS, by a trusted proxy's header (``TRUSTED_PROXIES``) or the connection."""
    if settings.SECURE_PROXY_SSL_HEADER and (forwarded := headers.get("x-forwarded-proto")) is not None:
        return forwarded.partition(",")[0].strip() == "https"
    return scope.get("scheme") in {"https", "wss"}


async def _refuse(scope: Any, receive: Any, send: Any, status: int, error: dict[str, str], location: str = "") -> None:
    kind = "http"
    if scope["type"] == "websocket":
        if (await receive())["type"] != "websocket.connect":
            return
        if _DENIAL_RESPONSE not in scope.get("extensions", {}):
            await send({"type": "websocket.close"})
            return
        kind = _DENIAL_RESPONSE.rpartition(".")[0]
    headers = [(b"location", location.encode("latin-1", "replace"))] if location else []
    await send_json(send, status, error, headers, kind=kind)


async def send_json(
    send: Any, status: int, content: object, headers: Sequence[tuple[bytes, bytes]] = (), *, kind: str = "http"
) -> None:
    """Send a response with this content. ``kind`` is the prefix of the ASGI messages."""
    body = json.dumps(content).encode()
    of_body = [
        (b"content-type", b"application/json"),
        (b"x-content-type-options", b"nosniff"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": f"{kind}.response.start", "status": status, "headers": [*of_body, *headers]})
    await send({"type": f"{kind}.response.body", "body": body})
