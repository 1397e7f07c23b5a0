"""Pictures on the staff's pages, by addresses of the page's own host whatever name it was reached by."""

from __future__ import annotations

from django.conf import settings
from django.utils.html import format_html
from django.utils.safestring import SafeString

from generation.models import GenerationRequest
from generation.states import Status
from generation.storage import signed_urls


def _here(address: str) -> str:
    return address.removeprefix(settings.PUBLIC_BASE_URL)


def address(request: GenerationRequest, kind: str = "image") -> str:
    """Where the picture or thumbnail of a completed request is."""
    return _here(signed_urls.signed_url(kind, request.pk))


def small(request: GenerationRequest) -> SafeString:
    """The thumbnail, or an empty frame where there is none."""
    if request.status != Status.COMPLETED:
        return format_html('<span class="vg-thumb vg-thumb-{}"></span>', request.status)
    return format_html(
        '<img class="vg-thumb" src="{}" alt="" width="44" height="44" loading="lazy">', address(request, "thumbnail")
    )
