"""Where the image of a request comes from, in the API's words."""

from __future__ import annotations

from typing import Any, Final

from generation.models import GenerationAttempt, GenerationRequest
from generation.requests import input_images
from generation.requests.representations import timestamp
from generation.states import REFERENCE_ROLES, AttemptOutcome, ImageRole
from generation.storage.digital_source import digital_source

#: Fields of the stored result that the answer copies.
_FACTS: Final = ("sha256", "bytes", "contentType", "width", "height")


def of_request(request: GenerationRequest) -> dict[str, Any]:
    """Return the provenance of a completed request's image."""
    result = request.result
    sent = input_images.of_request(request)
    return {
        "requestId": request.pk,
        "type": request.type,
        "prompt": request.prompt,
        "promptSent": _prompt_sent(request),
        "provider": result["provider"],
        "model": result["model"],
        "seed": result["seed"],
        "references": [
            {"role": one.role, "name": one.name or None, "requestId": one.source_id, "uploadId": one.upload_id}
            | {"sha256": one.sha256 or None}
            for one in sent
            if one.role in REFERENCE_ROLES
        ],
        "editOf": next((one.source_id or one.upload_id for one in sent if one.role == ImageRole.SOURCE), None),
        "sha256": result["sha256"],
        "bytes": result["bytes"],
        "contentType": result["content_type"],
        "width": result["width"],
        "height": result["height"],
        "createdAt": timestamp(request.created_at),
        "completedAt": timestamp(request.completed_at),
        "cost": result.get("cost"),
        "digitalSourceType": digital_source(result["provider"], is_composite=request.options.mask_mode == "strict"),
    }


def _prompt_sent(request: GenerationRequest) -> str | None:
    """Return the prompt of the attempt that made the image. None if none was sent: the image is one of another request,
    or the attempt was deleted."""
    made = GenerationAttempt.objects.filter(request=request.pk, outcome=AttemptOutcome.SUCCEEDED).exclude(prompt="")
    return made.order_by("-claim").values_list("prompt", flat=True).first()
