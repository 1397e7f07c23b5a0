"""A filtered list as CSV, written while it is read: however long it is, neither side holds it as a whole."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

from django.contrib.auth.models import User
from django.http import HttpRequest, StreamingHttpResponse

from generation import audit, filters
from generation.addresses import client_address
from generation.admin import attempts
from generation.models import GenerationRequest
from generation.representations import timestamp

_CHUNK: Final = 1000
_COLUMNS: Final = (
    *("id", "type", "status", "priority", "owner", "project", "page", "batch", "submitted", "started", "completed"),
    *("attempts", "max_attempts", "cost_usd", "provider", "error_code", "error_message", "prompt"),
)
#: With one of these a spreadsheet takes a cell for a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


class _Line:
    """A file that hands back what is written."""

    def write(self, line: str) -> str:
        return line


def cell(value: object) -> str:
    """As text that a spreadsheet takes for text."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


def answer(request: HttpRequest) -> StreamingHttpResponse:
    """All that matches the conditions of the address, the newest first."""
    conditions = filters.known({name: request.GET.get(name, "") for name in request.GET})
    user = request.user
    assert isinstance(user, User)  # noqa: S101  narrows the type; the site lets nobody else in
    told = f"Exported requests with {filters.in_words(conditions)}"
    audit.record(user, user, told, address=client_address(request))
    lines = StreamingHttpResponse(_lines(conditions), content_type="text/csv; charset=utf-8")
    lines["Content-Disposition"] = 'attachment; filename="requests.csv"'
    lines["Cache-Control"] = "no-store"
    lines["X-Accel-Buffering"] = "no"
    return lines


def _lines(conditions: dict[str, str]) -> Iterator[str]:
    writer: Any = csv.writer(_Line())
    yield writer.writerow(_COLUMNS)
    rows = filters.matching(GenerationRequest.objects.all(), conditions).select_related("owner")
    rows = rows.defer("metadata", "result").order_by("-pk")
    last = ""
    # By key rather than by a cursor of the database, which would hold a transaction open as long as the client reads.
    while found := list((rows.filter(pk__lt=last) if last else rows)[:_CHUNK]):
        costs, providers = attempts.costs_and_providers([row.pk for row in found])
        for row in found:
            yield writer.writerow([cell(value) for value in _values(row, costs, providers)])
        last = found[-1].pk


def _values(row: GenerationRequest, costs: dict[str, Decimal], providers: dict[str, str]) -> tuple[object, ...]:
    error = row.error or {}
    moments = (timestamp(row.created_at), timestamp(row.started_at), timestamp(row.completed_at))
    return (
        *(row.pk, row.type, row.status, row.priority, row.owner.get_username(), row.project_id, row.page_id),
        *(row.batch_id, *moments, row.attempts, row.max_attempts, costs.get(row.pk), providers.get(row.pk)),
        *(error.get("code"), error.get("message"), row.prompt),
    )
