"""Pages of a list by the id of their last row: the thousandth costs what the first does."""

from __future__ import annotations

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
    """DRF's, but a cursor that was tampered with is a 400, and the addresses are those that clients know."""

    ordering = "-id"
    cursor_query_param = "cursor"
    _INVALID = InvalidValue("cursor", "Not a cursor of this list.", "invalid")

    def __init__(self, *, page_size: int) -> None:
        super().__init__()
        self.page_size = page_size

    def decode_cursor(self, request: Request) -> Cursor | None:
        try:
            cursor = super().decode_cursor(request)
        except NotFound:
            raise self._INVALID from None
        if cursor is not None and (cursor.offset or not REQUEST_ID.fullmatch(str(cursor.position))):
            raise self._INVALID
        return cursor

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        # The keys first, which an index answers alone. Asked for whole rows, PostgreSQL takes walking the primary key
        # for cheaper, and may step over all that is queued before it comes to the first that is completed.
        found: list[Any] = super().paginate_queryset(queryset.values("id"), request, view) or []
        keys = [row["id"] for row in found]
        self.base_url = absolute(request.get_full_path())
        rows = selectors.requests_by_id(keys)
        return [rows[key] for key in keys if key in rows]  # somebody may have removed one meanwhile

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"results": data, "next": self.get_next_link(), "previous": self.get_previous_link()})
