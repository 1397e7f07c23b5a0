"""Keyset pagination by the id of a page's last row: the thousandth page costs as much as the first."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from rest_framework.exceptions import NotFound
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response

from generation.api.errors import InvalidValue
from generation.identifiers import REQUEST_ID
from generation.requests import selectors
from generation.requests.representations import absolute


class NewestFirstPagination(CursorPagination):
    """DRF's cursor pagination, with 400 for an invalid cursor and links under the public base URL."""

    ordering = "-id"
    cursor_query_param = "cursor"
    _INVALID = InvalidValue("cursor", "Not a cursor of this list.", "invalid")

    def __init__(
        self,
        *,
        page_size: int,
        ids: re.Pattern[str] = REQUEST_ID,
        rows: Callable[[list[str]], Mapping[str, Any]] = selectors.requests_by_id,
    ) -> None:
        """``rows`` returns the rows with these ids."""
        super().__init__()
        self.page_size = page_size
        self._ids, self._rows = ids, rows

    def decode_cursor(self, request: Request) -> Cursor | None:
        try:
            cursor = super().decode_cursor(request)
        except NotFound:
            raise self._INVALID from None
        if cursor is not None and (cursor.offset or not self._ids.fullmatch(str(cursor.position))):
            raise self._INVALID
        return cursor

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        # Select only the keys first, by an index-only scan. For whole rows the planner estimates a walk along the
        # primary key as cheaper, which may step over all queued rows before it reaches the first completed one.
        page: list[Any] = super().paginate_queryset(queryset.values("id"), request, view) or []
        keys = [row["id"] for row in page]
        self.base_url = absolute(request.get_full_path())
        rows = self._rows(keys)
        return [rows[key] for key in keys if key in rows]  # a row may have been deleted between the two queries

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"results": data, "next": self.get_next_link(), "previous": self.get_previous_link()})
