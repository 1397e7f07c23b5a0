"""The images of a request as they are stored, read by one query for any number of requests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db.models import Q

from generation.models import GenerationAttempt, GenerationReference, GenerationRequest
from generation.models.options import InputImage
from generation.states import ACTIVE, Status

#: What uploads and results have alike.
_FACTS: Final = ("content_type", "width", "height", "sha256")


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredImage:
    """An image of a request. ``key`` is empty while it is not made; ``subject`` and ``seed`` are those of the request
    that made it."""

    position: int
    role: str
    name: str
    source_id: str | None
    upload_id: str | None
    status: str | None
    key: str = ""
    content_type: str = ""
    width: int = 0
    height: int = 0
    sha256: str = ""
    #: In bytes.
    size: int = 0
    subject: str = ""
    seed: int | None = None


def attach(requests: Iterable[GenerationRequest]) -> None:
    """Read the images of these requests by one query, or by none if they have no images."""
    with_images = {request.pk: request for request in requests if request.inputs is not None}
    if not with_images:
        return
    rows = GenerationReference.objects.filter(request__in=with_images).order_by("request", "position")
    found: dict[str, list[StoredImage]] = {pk: [] for pk in with_images}
    for row in rows.select_related("source", "upload"):
        images = with_images[row.request_id].parsed_inputs.images
        found[row.request_id].append(_stored(row, images[row.position]))
    for pk, stored in found.items():
        with_images[pk].stored_images = tuple(stored)


def of_request(request: GenerationRequest) -> tuple[StoredImage, ...]:
    """Return the images of a request in the order in which they are sent."""
    if request.inputs is None:
        return ()
    if request.stored_images is None:
        attach([request])
    stored: tuple[StoredImage, ...] = request.stored_images or ()
    return stored


def _stored(row: GenerationReference, image: InputImage) -> StoredImage:
    upload, source = row.upload, row.source
    facts: dict[str, Any] = {"status": source and source.status, "sha256": row.sha256}
    if upload is not None:
        facts = {"status": Status.COMPLETED, "size": upload.bytes}
        facts |= {name: getattr(upload, name) for name in ("key", *_FACTS)}
    elif source is not None and source.result is not None:
        facts |= {"key": source.result["image_key"], "seed": source.result["seed"], "size": source.result["bytes"]}
        facts |= {name: source.result[name] for name in _FACTS}
    return StoredImage(
        position=row.position,
        role=image.role,
        name=image.name,
        source_id=row.source_id,
        upload_id=row.upload_id,
        subject=source.prompt if source else "",
        **facts,
    )


def waits_for(request: GenerationRequest) -> StoredImage | None:
    """Return the first image that the request waits for, None if there is none."""
    stored = of_request(request)
    return next((image for image in stored if not image.key), None)


def in_use() -> Q:
    """Return the condition of a reference that keeps its image from being deleted."""
    return Q(request__status__in=ACTIVE)


def note_sent(request_id: str, claim: int, images: Sequence[StoredImage], sent: Sequence[str]) -> None:
    """Keep the hashes of what is being sent with the claim's call, and of the stored images that it was made of."""
    GenerationAttempt.objects.filter(request=request_id, claim=claim).update(sent_images=list(sent))
    for image in images:
        rows = GenerationReference.objects.filter(request=request_id, position=image.position)
        rows.exclude(sha256=image.sha256).update(sha256=image.sha256)
