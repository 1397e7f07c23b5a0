"""A request before it is submitted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from generation.models.options import MAX_SEED, GenerationOptions, Inputs

DEFAULT_MAX_ATTEMPTS: Final = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class NewImage:
    """An image that is to be sent with a request: the result of a request, an upload, or the result of an earlier
    ``item`` of the same batch, by its index. ``path`` names it in the body, for errors."""

    role: str
    path: str
    name: str = ""
    request_id: str = ""
    upload_id: str = ""
    item: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Webhook:
    """Where the events of one call are sent, besides its owner's endpoints, and which."""

    url: str
    events: tuple[str, ...]

    def as_columns(self) -> dict[str, Any]:
        """Return the columns of a request or batch."""
        return {"webhook_url": self.url, "webhook_events": list(self.events)}


@dataclass(frozen=True, kw_only=True, slots=True)
class NewRequest:
    """A validated request that is to be submitted."""

    type: str
    prompt: str
    priority: str
    project_id: str = ""
    page_id: str = ""
    #: As the client gave it; ``options`` are parsed from it.
    metadata: dict[str, Any] = field(default_factory=dict)
    #: Its index among the images of one submit.
    variation: int = 0
    options: GenerationOptions | None = None
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    estimated_cost: Decimal | None = None
    #: It does not start before this time.
    not_before: datetime | None = None
    #: It is cancelled if it has not ended after this time.
    cancel_after: timedelta | None = None
    #: In the order in which they are sent.
    images: tuple[NewImage, ...] = ()
    inputs: Inputs | None = None
    webhook: Webhook | None = None
    #: Whether it waits for its time, or until one of its images is made.
    is_parked: bool = False


def variation(draft: NewRequest, index: int) -> NewRequest:
    """Return the request for one of several images of the same prompt. A given seed counts up with the index, and
    begins again at 0 after the highest one."""
    draft = replace(draft, variation=index)
    seed = draft.metadata.get("seed")
    if not index or seed is None:
        return draft
    seed = (seed + index) % (MAX_SEED + 1)
    options = draft.options and replace(draft.options, seed=seed)
    return replace(draft, metadata=draft.metadata | {"seed": seed}, options=options)
