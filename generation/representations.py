"""A request as clients see it: the one shape that the API answers with and that live updates carry."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

from generation import storage
from generation.models import GenerationRequest
from generation.states import PROGRESS, Status


def timestamp(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC with milliseconds and ``Z``."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def generation_time(request: GenerationRequest) -> int | None:
    """From the start of the last attempt to the end, in ms."""
    if request.started_at is None or request.completed_at is None:
        return None
    return round((request.completed_at - request.started_at).total_seconds() * 1000)


def _result(request: GenerationRequest, *, image_data: bool) -> dict[str, Any]:
    stored = request.result
    shown: dict[str, Any] = {}
    if image_data:
        encoded = base64.b64encode(storage.read(stored["image_key"])).decode()
        shown["imageData"] = f"data:{stored['content_type']};base64,{encoded}"
    return shown | {
        "imageUrl": storage.signed_url("image", request.pk, storage.EXTENSIONS[stored["content_type"]]),
        "thumbnailUrl": storage.signed_url("thumbnail", request.pk),
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
        "cached": stored["cached"],
        "attribution": stored["attribution"],
    }


def status(request: GenerationRequest, *, image_data: bool = False) -> dict[str, Any]:
    """The status shape. ``image_data`` puts the picture itself into ``result``. Raises ``OSError`` if it is gone."""
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
        "error": request.error,
    }
