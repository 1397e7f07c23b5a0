"""Requests and batches as clients see them, in the API's answers and in live updates."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from django.conf import settings

from generation.models import GenerationAttempt, GenerationBatch, GenerationRequest
from generation.models.options import previews_of
from generation.requests import input_images
from generation.requests.input_images import StoredImage
from generation.states import ACTIVE, PROGRESS, REFERENCE_ROLES, ImageRole, Status
from generation.storage import images, signed_urls

_ERROR_FIELDS: Final = ("message", "code", "retryable", "provider", "stage", "category")

#: Keys of ``metadata`` that :func:`status` overwrites. A client's own value would be lost. ``maxAttempts``, which it
#: writes too, is not listed, since clients may set it.
RESERVED_METADATA: Final = ("requestedAt", "startedAt", "completedAt", "attempts", "generationTime")


def timestamp(moment: datetime | None) -> str | None:
    """Return the time as RFC 3339 in UTC with milliseconds and ``Z``."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def absolute(path: str) -> str:
    """Return the absolute URL at which clients reach a path of this service."""
    return f"{settings.PUBLIC_BASE_URL}{path}"


def generation_time(request: GenerationRequest) -> int | None:
    """Return the time from the start of the last attempt to the end of the request in ms."""
    if request.started_at is None or request.completed_at is None:
        return None
    return round((request.completed_at - request.started_at).total_seconds() * 1000)


def _result(request: GenerationRequest, *, image_data: bool) -> dict[str, Any]:
    stored = request.result
    shown: dict[str, Any] = {}
    extension = images.EXTENSIONS[stored["content_type"]]
    if image_data:
        encoded = base64.b64encode(images.read(stored["image_key"])).decode()
        shown["imageData"] = f"data:{stored['content_type']};base64,{encoded}"
    return shown | {
        "imageUrl": signed_urls.address("image", request.pk, stored["image_key"], extension),
        "thumbnailUrl": signed_urls.address("thumbnail", request.pk, stored["thumbnail_key"]),
        "contentType": stored["content_type"],
        "width": stored["width"],
        "height": stored["height"],
        "bytes": stored["bytes"],
        "sha256": stored["sha256"],
        "provider": stored["provider"],
        "model": stored["model"],
        "seed": stored["seed"],
        "revisedPrompt": stored["revised_prompt"],
        "generationTime": generation_time(request),
        "cost": stored.get("cost"),
        "cached": stored["cached"],
        "notice": stored.get("notice") or None,
        "attribution": stored["attribution"],
    }


def _error(request: GenerationRequest) -> dict[str, Any] | None:
    if request.error is None:
        return None
    return {name: request.error.get(name) for name in _ERROR_FIELDS}  # errors of old versions lack some


def _reference(image: StoredImage) -> dict[str, Any]:
    return {
        "role": image.role,
        "name": image.name or None,
        "requestId": image.source_id,
        "uploadId": image.upload_id,
        "status": image.status,
        "sha256": image.sha256 or None,
    }


def preview_key(request: GenerationRequest) -> str:
    """Return the key of the newest preview of the running attempt, or an empty string. A request that is not in
    progress, or is to have no previews, needs no query."""
    if request.status != Status.IN_PROGRESS or not previews_of(request.metadata):
        return ""
    attempts = GenerationAttempt.objects.filter(request=request.pk, claim=request.claims)
    return attempts.values_list("preview", flat=True).first() or ""


def status(request: GenerationRequest, *, image_data: bool = False) -> dict[str, Any]:
    """Return the status of a request. ``image_data`` includes the image in ``result``; raises ``OSError`` if it cannot
    be read."""
    sent = input_images.of_request(request)
    preview = preview_key(request)
    return {
        "requestId": request.pk,
        "type": request.type,
        "prompt": request.prompt,
        "status": request.status,
        "priority": request.priority,
        "progress": PROGRESS[request.status],
        "sequence": request.sequence,
        "projectId": request.project_id or None,
        "pageId": request.page_id or None,
        "batchId": request.batch_id,
        "variation": request.variation,
        "notBefore": timestamp(request.not_before),
        "metadata": {
            **request.metadata,
            "requestedAt": timestamp(request.created_at),
            "startedAt": timestamp(request.started_at),
            "completedAt": timestamp(request.completed_at),
            "attempts": request.attempts,
            "maxAttempts": request.max_attempts,
            "generationTime": generation_time(request),
        },
        "result": _result(request, image_data=image_data) if request.status == Status.COMPLETED else None,
        "previewUrl": signed_urls.preview_url(request.pk, preview) if preview else None,
        "error": _error(request),
        "references": [_reference(image) for image in sent if image.role in REFERENCE_ROLES],
        "editOf": next((image.source_id or image.upload_id for image in sent if image.role == ImageRole.SOURCE), None),
        "approval": request.approval or None,
        "approvalNote": request.approval_note or None,
        "cancelReason": (request.cancel_reason or None) if request.status == Status.CANCELLED else None,
    }


def etag(request: GenerationRequest, *parts: object) -> str:
    """Return an entity tag that changes with :func:`status`; ``parts`` are other values that the answer depends on."""
    # The sequence counts changes of the status only. The signed URLs in a result are renewed at full hours, and those
    # of previews every ten minutes.
    values = [request.pk, request.sequence, request.priority, request.approval, request.approval_note, *parts]
    # Images are deleted, and their requests change, without a change of this request.
    values += [(image.source_id, image.status, image.sha256) for image in input_images.of_request(request)]
    if request.status == Status.COMPLETED:
        values.append(signed_urls.expiry())
    if preview := preview_key(request):
        values += [preview, signed_urls.preview_expiry()]
    return f'"{hashlib.sha256(repr(values).encode()).hexdigest()[:32]}"'


def batch(row: GenerationBatch, requests: Sequence[GenerationRequest]) -> dict[str, Any]:
    """Return a batch with its requests, which are given in the order of their index."""
    input_images.attach(requests)
    counts = dict.fromkeys(Status.values, 0)
    for request in requests:
        counts[request.status] += 1
    ended = [request.completed_at for request in requests if request.completed_at]
    is_over = len(ended) == len(requests)
    return {
        "batchId": row.pk,
        "status": _batch_status(counts),
        "maxConcurrent": row.max_concurrent,
        "counts": counts,
        "progress": round(100 * len(ended) / len(requests)) if requests else 100,
        "requests": [status(request) | {"index": index} for index, request in enumerate(requests)],
        "createdAt": timestamp(row.created_at),
        "completedAt": timestamp(max(ended)) if is_over and ended else None,
    }


def _batch_status(counts: dict[str, int]) -> str:
    """Return the status of a batch: queued until a request starts, in progress until all have ended, then the best
    status that a request has reached."""
    if any(counts[state] for state in ACTIVE):
        not_started = counts[Status.QUEUED] + counts[Status.CANCELLED]
        return Status.QUEUED if not_started == sum(counts.values()) else Status.IN_PROGRESS
    return next(state for state in (Status.COMPLETED, Status.FAILED, Status.CANCELLED) if counts[state])
