"""Live updates as Server-Sent Events, for clients without WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Coroutine
from typing import Any, Final
from urllib.parse import parse_qsl

from django.conf import settings
from django.db import Error as DatabaseError

from generation.db import outages
from generation.realtime import authentication
from generation.realtime.authentication import ForeignOriginError, Identity, ScopeMissingError
from generation.realtime.client import MAX_SUBSCRIPTIONS, Listener
from generation.realtime.connection_limits import RETRY_AFTER, Slots, address_of_scope
from generation.realtime.hub import hub
from generation.realtime.replay import Missed, changes, event_id, late_changes, missed, pages, states
from generation.realtime.send_queue import SEND_TIMEOUT, TRY_AGAIN_LATER, Closed
from generation.realtime.topics import NAMES, Snapshot, Topic, first_hidden
from generation.requests.events import Preview, Update
from generation.states import Scope

logger = logging.getLogger(__name__)

#: Milliseconds after which a browser reconnects.
_RETRY: Final = 3_000
#: Seconds for which a browser may cache a preflight response; django-cors-headers' default.
_PREFLIGHT_MAX_AGE: Final = 86_400


class _Refused(Exception):  # noqa: N818  a response, not an error of the server
    """An error response in the format of the API."""

    def __init__(
        self, http_status: int, code: str, error: str, *, path: str = "", required: str = "", **headers: str
    ) -> None:
        super().__init__(error)
        self.http_status = http_status
        self.body: dict[str, Any] = {"error": error, "code": code}
        if required:
            self.body["required"] = required
        if path:
            self.body["errors"] = [{"path": path, "msg": error, "code": "invalid"}]
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class _StreamListener(Listener):
    """Receives each message as one Server-Sent Event."""

    def frame(self, update: Update) -> str:
        return event("update", update.text, event_id(update.request_id, update.sequence))

    def preview_frame(self, preview: Preview) -> str:
        return event("preview", preview.text)  # without an id, so that the client's last one stays


def event(name: str, text: str, id_: str | None = None) -> str:
    """Return an event as sent to the client.

    The text is one line, since JSON has no line breaks. An empty id makes the client clear its last event id.
    """
    id_line = "" if id_ is None else f"id: {id_}\n"
    return f"event: {name}\n{id_line}data: {text}\n\n"


async def event_stream(scope: Any, receive: Any, send: Any) -> None:
    """ASGI application: ``GET`` with ``requestId``, ``batchId`` and ``projectId``, each any number of times."""
    headers = authentication.headers_of(scope)
    cors = _cors(headers)
    if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
        await _answer_preflight(send, cors)
        return
    listener, slots = _StreamListener(), Slots()
    hub.join(listener)
    try:
        try:
            topics = await _open(scope, headers, listener, slots)
        except _Refused as refused:
            await _answer(send, refused, cors)
            return
        except DatabaseError as error:
            await _answer(send, _database_refusal(error), cors)
            return
        updates = _send_updates(listener, topics, headers.get("last-event-id", ""))
        await _until_one_ends(updates, _write(send, listener, cors), _wait_for_disconnect(receive))
    finally:
        hub.leave(listener)
        slots.free()


async def _until_one_ends(*parts: Coroutine[Any, Any, None]) -> None:
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for error in ended:
        if isinstance(error, Exception) and not isinstance(error, OSError):  # OSError: the client disconnected
            raise error


async def _open(scope: Any, headers: dict[str, str], listener: Listener, slots: Slots) -> list[Topic]:
    """Authenticate, and return the topics to subscribe to. Raises :class:`_Refused`."""
    if scope["method"] != "GET":
        raise _Refused(405, "method_not_allowed", f"{scope['method']} is not allowed here", Allow="GET")
    if not slots.take_for_address(scope):
        raise _too_many("address")
    listener.sign_in(identity := await _identity(scope, headers))
    if not slots.take_for_user(identity.user.pk):
        raise _too_many("user")
    topics = _topics(scope["query_string"])
    if hidden := await first_hidden(identity.user, topics):
        raise _Refused(404, "not_found", hidden.not_found)
    return topics


def _too_many(whose: str) -> _Refused:
    error = f"Too many connections of this {whose}"
    return _Refused(429, "too_many_connections", error, Retry_After=str(RETRY_AFTER))


def _database_refusal(error: DatabaseError) -> _Refused:
    code, message = outages.code_and_message(logger, error)
    if code != outages.CODE:
        return _Refused(500, code, message)
    return _Refused(503, code, message, Retry_After=str(outages.RETRY_AFTER))


async def _send_updates(listener: Listener, topics: list[Topic], last: str) -> None:
    """Send the missed changes, the current state, and from then on every change. Never returns.

    Each part is queried when the client has read most of the previous one, which bounds the memory.
    """
    assert listener.identity is not None  # noqa: S101  _open() has set it
    user = listener.identity.user
    try:
        since: Missed | None = await missed(user, topics, last) if last else None
        if last and since is None:
            listener.send_queue.put(event("reset", json.dumps({"type": "reset"}), ""))
        for page in pages(since.numbers if since else []):
            for change in await changes(page):
                await listener.send_queue.wait_for_capacity()
                listener.record(change.request_id, change.sequence)
                listener.send_queue.put(event("update", change.text, event_id(change.request_id, change.sequence)))
        for topic in topics:
            await listener.send_queue.wait_for_capacity()
            await _watch(listener, topic)
        for page in pages(await late_changes(user, topics, since) if since else []):
            for update in await states(page):
                await listener.send_queue.wait_for_capacity()
                listener.deliver(update)
    except DatabaseError as error:
        if not outages.is_outage(error):
            raise
        listener.send_queue.close(TRY_AGAIN_LATER)
    await asyncio.Event().wait()


async def _watch(listener: Listener, topic: Topic) -> None:
    def welcome(found: Snapshot) -> str:
        message = {"type": "subscribed", topic.name: topic.id, "data": found.data}
        return event("subscribed", json.dumps(message))

    if not await hub.watch(listener, topic, welcome):  # deleted since _open() checked it
        message = {"type": "error", "code": "not_found", "error": topic.not_found, topic.name: topic.id}
        listener.send_queue.put(event("refused", json.dumps(message)))


async def _identity(scope: Any, headers: dict[str, str]) -> Identity:
    token = authentication.bearer_token(headers)
    if token is not None:
        try:
            found = await authentication.of_token(token, address_of_scope(scope))
        except ScopeMissingError:
            error = f"The API key lacks the scope {Scope.REQUESTS_READ}"
            raise _Refused(403, "scope_missing", error, required=Scope.REQUESTS_READ) from None
        if found:
            return found  # type: ignore[no-any-return]
        raise _Refused(401, "token_not_valid", "Invalid token", WWW_Authenticate="Bearer")
    try:
        session = authentication.session_key(headers)
    except ForeignOriginError:
        raise _Refused(403, "permission_denied", "Pages of this origin may not use the session") from None
    if session and (found := await authentication.of_session(session)):
        return found  # type: ignore[no-any-return]
    raise _Refused(401, "not_authenticated", "Access denied", WWW_Authenticate="Bearer")


def _topics(query: bytes) -> list[Topic]:
    """Return the topics of the query string, each once. Raises :class:`_Refused`."""
    try:
        given = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=2 * MAX_SUBSCRIPTIONS)
    except ValueError:
        given = [(NAMES[0], "")] * (MAX_SUBSCRIPTIONS + 1)
    for name, _ in given:
        if name not in NAMES:
            known = ", ".join(NAMES)
            raise _Refused(400, "validation_error", f"Unknown parameter; use {known}.", path=name[:200])
    if not given:
        raise _Refused(400, "validation_error", f"Give at least one of {', '.join(NAMES)}.", path="requestId")
    if len(given) > MAX_SUBSCRIPTIONS:
        raise _Refused(400, "too_many_subscriptions", f"One connection holds at most {MAX_SUBSCRIPTIONS}")
    return list(dict.fromkeys(Topic.of(name, value) for name, value in given))


def _cors(headers: dict[str, str]) -> dict[str, str]:
    """Return the CORS headers of a response.

    Allowed are this site's own pages, which may have another port, and those of ``CORS_ALLOWED_ORIGINS``, which use a
    token and no cookie.
    """
    origin = headers.get("origin")
    vary = {"Vary": "Origin"}
    if origin is None:
        return vary
    is_ours = authentication.is_allowed(origin, host=headers.get("host", ""))
    if not is_ours and origin not in settings.CORS_ALLOWED_ORIGINS:
        return vary
    allowed = {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": ", ".join(settings.CORS_EXPOSE_HEADERS),
    }
    return vary | allowed | ({"Access-Control-Allow-Credentials": "true"} if is_ours else {})


async def _answer_preflight(send: Any, cors: dict[str, str]) -> None:
    """Answer a CORS preflight. Another origin gets only ``Vary``, and the browser blocks its call, as in the API."""
    allowed = {
        "Access-Control-Allow-Methods": "GET",
        "Access-Control-Allow-Headers": ", ".join(settings.CORS_ALLOW_HEADERS),
        "Access-Control-Max-Age": str(_PREFLIGHT_MAX_AGE),
    }
    if "Access-Control-Allow-Origin" not in cors:
        allowed = {}
    await _start(send, 200, {"Content-Length": "0", **allowed, **cors})
    await send({"type": "http.response.body", "body": b""})


async def _answer(send: Any, refused: _Refused, cors: dict[str, str]) -> None:
    await _start(send, refused.http_status, {"Content-Type": "application/json", **refused.headers, **cors})
    await send({"type": "http.response.body", "body": json.dumps(refused.body).encode()})


async def _start(send: Any, status: int, headers: dict[str, str]) -> None:
    encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})


async def _write(send: Any, listener: Listener, cors: dict[str, str]) -> None:
    """Send the queued events, and a comment in each idle period, so that proxies keep the connection open."""
    headers = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store"}
    await _start(send, 200, {**headers, "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff", **cors})

    async def write(text: str, *, more: bool = True) -> None:
        async with asyncio.timeout(SEND_TIMEOUT):
            await send({"type": "http.response.body", "body": text.encode(), "more_body": more})

    with contextlib.suppress(TimeoutError):  # a client that does not read: return, which ends the connection
        await write(f"retry: {_RETRY}\n\n")
        while True:
            try:
                async with asyncio.timeout(settings.REALTIME_HEARTBEAT.total_seconds()):
                    text = await listener.send_queue.get()
            except TimeoutError:
                text = ": still here\n\n"
            except Closed as end:
                await write(event("closed", json.dumps({"code": end.code})), more=False)
                return
            await write(text)


async def _wait_for_disconnect(receive: Any) -> None:
    """Return when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass
