"""A request before it is submitted."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from generation.models.options import GenerationOptions, Inputs

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
class NewRequest:
    """A validated request that is to be submitted."""

    type: str
    prompt: str
    priority: str
    project_id: str = ""
    page_id: str = ""
    #: As the client gave it; ``options`` are parsed from it.
    metadata: dict[str, Any] = field(default_factory=dict)
    options: GenerationOptions | None = None
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    estimated_cost: Decimal | None = None
    #: It is cancelled if it has not ended after this time.
    cancel_after: timedelta | None = None
    #: In the order in which they are sent.
    images: tuple[NewImage, ...] = ()
    inputs: Inputs | None = None
    #: Whether it waits until one of its images is made.
    is_parked: bool = False
