"""Content negotiation: ignore ``Accept`` where there is one format, or let ``?format=`` choose among several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rest_framework.exceptions import NotAcceptable
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from generation.api.errors import InvalidValue


class IgnoreAcceptNegotiation(DefaultContentNegotiation):
    """Ignore ``Accept`` and ``?format=``: an image or a status helps a client more than a 406."""

    def select_renderer(  # type: ignore[override]
        self, request: Request, renderers: Sequence[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[Any, str | None]:
        return renderers[0], renderers[0].media_type


class QueryFormatNegotiation(DefaultContentNegotiation):
    """Choose the renderer that ``?format=`` names, else the one ``Accept`` prefers, else the first."""

    def select_renderer(  # type: ignore[override]
        self, request: Request, renderers: Sequence[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[Any, str | None]:
        if name := request.query_params.get("format"):
            named = next((renderer for renderer in renderers if renderer.format == name), None)
            if named is None:
                formats = dict.fromkeys(renderer.format or "" for renderer in renderers)
                raise InvalidValue("format", f"Must be {' or '.join(formats)}.", "invalid_choice")
            return named, named.media_type
        try:
            chosen: tuple[Any, str | None] = super().select_renderer(request, renderers, format_suffix)
        except NotAcceptable:
            return renderers[0], renderers[0].media_type
        return chosen
