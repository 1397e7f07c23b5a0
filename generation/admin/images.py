"""Images on the admin's pages, by URLs relative to the host under which the page was opened."""

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
    """Return the URL of the image or thumbnail of a completed request."""
    return _here(signed_urls.signed_url(kind, request.pk))


def small(request: GenerationRequest) -> SafeString:
    """Render the thumbnail, or an empty frame if the request is not completed."""
    if request.status != Status.COMPLETED:
        return format_html('<span class="vg-thumb vg-thumb-{}"></span>', request.status)
    return format_html(
        '<img class="vg-thumb" src="{}" alt="" width="44" height="44" loading="lazy">', address(request, "thumbnail")
    )
