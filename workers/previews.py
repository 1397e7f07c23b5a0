"""Store the previews of a running call and announce them, beside the call."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Final

from generation.models.model_rows import MAX_PIXELS
from generation.requests import events
from generation.requests.claims import Claim
from generation.requests.events import Preview
from generation.states import AttemptOutcome
from generation.storage import image_headers, images
from generation.storage.image_headers import BrokenFileError
from workers.database import Database
from workers.reporting import fields
from workers.result_writer import ResultWriter
from workers.runtime import RunningAttempt

logger = logging.getLogger(__name__)

#: Maximum bytes of a preview. Larger ones are dropped.
MAX_BYTES: Final = 12 * 1024 * 1024


class Previews:
    """The previews of one call, as a context that ends with the call. Its methods are called on the event loop.

    Nothing waits for them: one is stored at a time, of those that came meanwhile only the newest, and one that cannot
    be stored is dropped. Their files are deleted when the attempt ends.
    """

    def __init__(self, attempt: RunningAttempt, writer: ResultWriter, database: Database, *, most: int) -> None:
        self._claim = attempt.claim
        self._writer = writer
        self._database = database
        self._left = most
        self._count = 0
        self._newest: tuple[int, bytes] | None = None
        self._storing: asyncio.Task[None] | None = None
        self._keys: list[str] = []
        self._is_over = False
        if most:
            attempt.when_ended = self._remove

    def __enter__(self) -> Previews:
        return self

    def __exit__(self, *exception: object) -> None:
        self._is_over = True
        if self._storing is not None:
            self._storing.cancel()

    def show(self, data: bytes) -> None:
        """Take the unchecked bytes of a preview. More than were asked for are dropped."""
        if self._is_over or self._count >= self._left or len(data) > MAX_BYTES:
            return
        self._newest = (self._count, data)
        self._count += 1
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store_newest())

    async def _store_newest(self) -> None:
        while self._newest is not None:
            (index, data), self._newest = self._newest, None
            try:
                preview = await self._writer.run(partial(self._store, index, data))
                if await self._database.once(partial(_record, self._claim, preview.key)):
                    events.announce_preview(preview)
            except Exception as error:
                extra = fields("preview-dropped", self._claim)
                logger.warning("a preview of %s was dropped: %s", self._claim.request.pk, error, extra=extra)

    def _store(self, index: int, data: bytes) -> Preview:
        """Store a preview and return the message about it. Runs in a thread. Raises ``OSError`` and
        :class:`BrokenFileError`."""
        file = image_headers.read(data)
        if not 0 < file.width * file.height <= MAX_PIXELS:
            raise BrokenFileError(f"{file.width} x {file.height} pixels")
        request, number = self._claim.key
        key = images.preview_key(request, number, index, f"image/{file.format.lower()}")
        self._keys.append(key)
        images.save_under(key, data)
        if self._is_over:  # else the file may be written after it was to be deleted
            images.remove(key)
        return events.preview_of(self._claim.request, index=index, key=key, width=file.width, height=file.height)

    def _remove(self) -> None:
        for key in self._keys:
            self._writer.start(partial(images.remove, key))


def _record(claim: Claim, key: str) -> bool:
    """Note the newest preview of the running attempt. Return False if the claim is stale: every end of a claim ends its
    attempt."""
    return claim.attempt().filter(outcome=AttemptOutcome.RUNNING).update(preview=key) == 1
