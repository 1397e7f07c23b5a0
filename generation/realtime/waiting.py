"""Stand-in."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from asgiref.sync import sync_to_async
from django.db import close_old_connections

from generation.models import GenerationRequest
from generation.requests.waits import SCOPE_KEY
from generation.states import TERMINAL

_waiting: dict[int, int] = {}


def _ended(ids: Any) -> bool:
    close_old_connections()
    return not GenerationRequest.objects.filter(pk__in=ids).exclude(status__in=TERMINAL).exists()


def waiting(application: Any) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        waits: list[Any] = []
        scope = dict(scope) | {SCOPE_KEY: waits, "path": scope["path"]}
        messages: list[Any] = []

        async def collect(message: Any) -> None:
            messages.append(message)


        async def recv() -> Any:
            return await receive()

        await application(scope, recv, collect)
        if not waits:
            for message in messages:
                await send(message)
            return
        wait = waits[0]

        async def run(f: Any, *a: Any) -> Any:
            return await sync_to_async(f, thread_sensitive=False)(*a)

        headers = dict(messages[0]["headers"])
        headers.pop(b"Content-Length", None)
        if wait.events:
            await send({"type": "http.response.start", "status": 200, "headers": list(headers.items())})
        gone = asyncio.ensure_future(receive())
        started = time.monotonic()
        while not (ended := await run(_ended, wait.request_ids)) and time.monotonic() - started < wait.seconds:
            if gone.done():
                if wait.leave:
                    await run(wait.leave)
                return
            await asyncio.sleep(0.05)
            if wait.events:
                await send({"type": "http.response.body", "body": b": wait\n\n", "more_body": True})
        answer = await run(wait.finish, ended)
        if not wait.events:
            merged = {k.lower(): v for k, v in headers.items()} | {
                k.lower().encode(): v.encode() for k, v in answer.headers.items()
            }
            await send({"type": "http.response.start", "status": answer.status, "headers": list(merged.items())})
        iterator = iter(answer.body)
        while (part := await run(lambda: next(iterator, None))) is not None:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        gone.cancel()

    return app
