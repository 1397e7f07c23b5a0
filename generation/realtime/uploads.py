"""Bodies with images in front of Django, to a temporary file and within bounds."""

from __future__ import annotations

import asyncio
import tempfile
from typing import IO, Any, Final

from generation.realtime.authentication import (
    ForeignOriginError,
    ScopeMissingError,
    bearer_token,
    headers_of,
    of_session,
    of_token,
    session_key,
)
from generation.realtime.bodies import refuse, with_length, without_bodies
from generation.realtime.handshake import Application
from generation.storage.uploads_image import MAX_BODY_BYTES, MAX_BYTES, MAX_FORM_BYTES

#: The path of uploads, as in the API.
UPLOADS: Final = r"^api/visual-generation/uploads/?$"
#: The path of calls with images to edit.
EDITS: Final = r"^v1/images/edits/?$"
#: Maximum bytes of a larger body that is read to the end and discarded, so that the client reads the answer.
_MAX_DRAINED: Final = 96 * 1024 * 1024
#: Seconds within which the next part of a body must have come, as at the proxy in front, and the whole body.
_PART_TIMEOUT: Final = 15.0
_BODY_TIMEOUT: Final = 300.0
_PART: Final = 64 * 1024


class _DisconnectedError(Exception):
    """The client has left."""


def spooled_upload(application: Application) -> Application:
    """Read the form with one image."""
    too_large = f"The file is larger than {MAX_BYTES // 1024 // 1024} MiB"
    return _spooled_body(application, most=MAX_BODY_BYTES, too_large=(too_large, "too_large"))


def spooled_edit(application: Application) -> Application:
    """Read the form with several images, or their JSON."""
    too_large = f"The body is larger than {MAX_FORM_BYTES // 1024 // 1024} MiB"
    return _spooled_body(application, most=MAX_FORM_BYTES, too_large=(too_large, "body_too_large"))


def _spooled_body(application: Application, *, most: int, too_large: tuple[str, str]) -> Application:
    """Read the body of at most so many bytes into a temporary file, and give it to the application in parts, with its
    length. ``too_large`` is the message and the code for a larger one. Of a caller that is not signed in, nothing is
    read: it could fill the disk."""
    unread = without_bodies(application)

    async def answered(scope: Any, receive: Any, send: Any) -> None:
        if not await _is_signed_in(scope):
            await unread(scope, receive, send)  # whose answer is 401
            return
        with tempfile.TemporaryFile() as file:
            try:
                async with asyncio.timeout(_BODY_TIMEOUT):
                    size = await _spool(receive, file, most)
            except TimeoutError:
                await refuse(scope, send, 408, "The body did not come in time", "request_timeout")
                return
            except _DisconnectedError:
                return
            if size > most:
                await refuse(scope, send, 413, *too_large)
                return
            file.seek(0)
            is_read = False

            async def next_part() -> Any:
                nonlocal is_read
                if is_read:
                    return await receive()
                part = file.read(_PART)
                is_read = file.tell() >= size
                if is_read:
                    file.close()  # the call may wait for long
                return {"type": "http.request", "body": part, "more_body": not is_read}

            await application(with_length(scope, size), next_part, send)

    return answered


async def _is_signed_in(scope: Any) -> bool:
    """Return whether the call has a valid token, API key or session. Django checks its rights."""
    headers = headers_of(scope)
    token = bearer_token(headers)
    try:
        if token is not None:
            return await of_token(token, (scope.get("client") or [""])[0]) is not None
        key = session_key(headers)
        return bool(key) and await of_session(key) is not None
    except ScopeMissingError:
        return True
    except ForeignOriginError:
        return False


async def _spool(receive: Any, file: IO[bytes], most: int) -> int:
    """Write the body to the file and return its size. Of one that is too large, the rest is discarded or not read.
    Raises ``TimeoutError`` and :class:`_DisconnectedError`."""
    size = 0
    while True:
        async with asyncio.timeout(_PART_TIMEOUT):
            message = await receive()
        if message["type"] == "http.disconnect":
            raise _DisconnectedError
        part = message.get("body", b"")
        size += len(part)
        if size <= most:
            file.write(part)
        if not message.get("more_body") or size > _MAX_DRAINED:
            return size
