"""Stream a filtered list as CSV, in constant memory.

An export occupies a thread of the web server until its client has read it. So there is one per user and a few per
process at a time, and a client that stops reading is disconnected.
"""

from __future__ import annotations

import csv
import logging
import secrets
import threading
from collections.abc import Generator, Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Any, ClassVar, Final

from django.conf import settings
from django.contrib.auth.models import User
from django.core.cache import DEFAULT_CACHE_ALIAS, caches
from django.http import HttpRequest, StreamingHttpResponse
from redis.exceptions import RedisError

from generation.access import audit
from generation.access.client_address import client_address
from generation.admin import attempts, slow_clients
from generation.db.locks import long_statements
from generation.models import GenerationRequest
from generation.requests import filters
from generation.requests.representations import timestamp

_CHUNK: Final = 1000
_COLUMNS: Final = (
    *("id", "type", "status", "priority", "owner", "project", "page", "batch", "submitted", "started", "completed"),
    *("attempts", "max_attempts", "cost_usd", "provider", "error_code", "error_message", "prompt"),
)
logger = logging.getLogger(__name__)

#: A spreadsheet treats a cell that begins with one of these as a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
#: Without it Excel reads the file in the system's legacy encoding.
_BYTE_ORDER_MARK: Final = "\ufeff"
#: Concurrent exports per process.
_MOST: Final = 2
#: Seconds by which the Redis key of an export outlives the client's read timeout.
_MARGIN: Final = 30
_ONE_AT_A_TIME: Final = (
    "Your previous export is still running. Start the next one when it has finished; an abandoned download "
    "ends by itself within two minutes."
)


class _Line:
    """A file whose ``write`` returns the text."""

    def write(self, line: str) -> str:
        return line


def cell(value: object) -> str:
    """Return the value as text that no spreadsheet treats as a formula."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


class BusyError(Exception):
    """Too many exports are running. The message is shown to the user."""


class _Place:
    """The slot of a user's one export: in this process, and across processes by a key in Redis if it is available."""

    _lock: ClassVar = threading.Lock()
    _writing: ClassVar[set[int]] = set()

    def __init__(self, user_id: int) -> None:
        self._user_id = user_id
        self._token = secrets.token_hex(8)
        self._key = f"vga:export:{user_id}"
        self._seconds = round(settings.READER_TIMEOUT.total_seconds()) + _MARGIN
        self._is_open = True
        with self._lock:
            if user_id in self._writing:
                raise BusyError(_ONE_AT_A_TIME)
            if len(self._writing) >= _MOST:
                raise BusyError("Several exports are running. Try again in a minute.")
            self._writing.add(user_id)
        if not self._is_first():
            self._leave()
            raise BusyError(_ONE_AT_A_TIME)

    def _is_first(self) -> bool:
        try:
            return bool(_redis().set(self._key, self._token, nx=True, ex=self._seconds))
        except RedisError as error:
            logger.warning("the cache is unavailable, exports are counted in this process: %s", error)
            return True

    def extend(self) -> None:
        """Extend the key's TTL while pages are written."""
        with suppress(RedisError):
            _redis().expire(self._key, self._seconds)

    def free(self) -> None:
        """Release the slot."""
        if not self._is_open:
            return
        self._is_open = False
        self._leave()
        with suppress(RedisError):
            if _redis().get(self._key) == self._token.encode():
                _redis().delete(self._key)

    def _leave(self) -> None:
        with self._lock:
            self._writing.discard(self._user_id)


def _redis() -> Any:
    cache: Any = caches[DEFAULT_CACHE_ALIAS]
    return cache._cache.get_client(write=True)


class _Pages:
    """The text of an export, page by page. The server closes it, even if it was never started."""

    def __init__(self, conditions: dict[str, str], place: _Place) -> None:
        self._pages = _pages(conditions)
        self._place = place

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self._place.extend()
        try:
            return next(self._pages)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release the slot."""
        self._pages.close()
        self._place.free()


def answer(request: HttpRequest) -> StreamingHttpResponse:
    """Return the requests that match the query string as CSV, newest first. Raises :class:`BusyError`."""
    conditions = filters.known({name: request.GET.get(name, "") for name in request.GET})
    user = request.user
    assert isinstance(user, User)  # noqa: S101  narrows the type; the site requires a signed-in user
    place = _Place(user.pk)
    try:
        told = f"Exported requests with {filters.in_words(conditions)}"
        audit.record(user, user, told, address=client_address(request))
        after = round(settings.READER_TIMEOUT.total_seconds() * 1000)
        slow_clients.drop_stalled(request.META, after_ms=after)
        pages = StreamingHttpResponse(_Pages(conditions, place), content_type="text/csv; charset=utf-8")
    except BaseException:
        place.free()
        raise
    pages["Content-Disposition"] = 'attachment; filename="requests.csv"'
    pages["Cache-Control"] = "no-store"
    pages["X-Accel-Buffering"] = "no"
    return pages


def _pages(conditions: dict[str, str]) -> Generator[str]:
    writer: Any = csv.writer(_Line())
    yield _BYTE_ORDER_MARK + writer.writerow(_COLUMNS)
    rows = filters.matching(GenerationRequest.objects.all(), conditions).select_related("owner")
    rows = rows.defer("metadata", "result").order_by("-pk")
    last = ""
    # Paged by key: a database cursor would hold a transaction open as long as the client reads.
    while True:
        with long_statements():
            found = list((rows.filter(pk__lt=last) if last else rows)[:_CHUNK])
            costs, providers = attempts.costs_and_providers([row.pk for row in found])
        if not found:
            return
        yield "".join(writer.writerow([cell(value) for value in _values(row, costs, providers)]) for row in found)
        last = found[-1].pk


def _values(row: GenerationRequest, costs: dict[str, Decimal], providers: dict[str, str]) -> tuple[object, ...]:
    error = row.error or {}
    moments = (timestamp(row.created_at), timestamp(row.started_at), timestamp(row.completed_at))
    return (
        *(row.pk, row.type, row.status, row.priority, row.owner.get_username(), row.project_id, row.page_id),
        *(row.batch_id, *moments, row.attempts, row.max_attempts, costs.get(row.pk), providers.get(row.pk)),
        *(error.get("code"), error.get("message"), row.prompt),
    )
