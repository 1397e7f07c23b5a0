"""What clients and staff can do. Each function checks what the rules say and leaves the writing to the lifecycle."""

from __future__ import annotations

from typing import Any, Final

from django.contrib.auth.models import User

from generation import lifecycle, selectors
from generation.models import GenerationRequest

DEFAULT_MAX_ATTEMPTS: Final = 3


def submit(
    *,
    owner: User,
    type: str,
    prompt: str,
    priority: str,
    project_id: str = "",
    page_id: str = "",
    metadata: dict[str, Any] | None = None,
) -> GenerationRequest:
    """Accept one request. The arguments are those of the API, already checked."""
    metadata = metadata or {}
    return lifecycle.submit(
        owner=owner,
        type=type,
        prompt=prompt,
        priority=priority,
        project_id=project_id,
        page_id=page_id,
        metadata=metadata,
        max_attempts=metadata.get("maxAttempts", DEFAULT_MAX_ATTEMPTS),
    )


def cancel(*, user: User, request_id: str) -> bool:
    """Give up a request that the user may see. ``False`` where there is none, or it has ended."""
    found = selectors.find_request(request_id, among=selectors.visible_to(user))
    return found is not None and lifecycle.cancel(found.pk, actor=user)
