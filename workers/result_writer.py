"""Keeping what was paid for: the picture, its thumbnail, and a receipt of both beside them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Any, Final

from django.conf import settings

from generation.providers.catalogue import ModelChoice
from generation.requests.claims import Claim
from generation.states import ErrorCode
from generation.storage import images, receipts
from workers.image_check import CheckedImage
from workers.providers.base import ImageAnswer, ProviderError
from workers.resilience import retry_while_unavailable
from workers.runtime import RunningAttempt

#: How long a look at whether the storage can be written holds, in seconds.
_LOOK: Final = 10.0
_NEVER: Final = float("-inf")


class ResultWriter:
    """Knows whether the storage was there lately."""

    def __init__(self) -> None:
        self._seen_at = _NEVER

    def check(self, outside_slot: Callable[[], AbstractContextManager[None]]) -> None:
        """Raise :class:`ProviderError` before anything is paid for that could not be kept. The look at the storage, if
        there was none lately, is made ``outside_slot``."""
        if time.monotonic() - self._seen_at < _LOOK:
            return
        try:
            with outside_slot():
                images.check_writable()
        except OSError as error:
            message = "Images cannot be stored at the moment"
            raise ProviderError(message, code=ErrorCode.STORAGE, sent=False) from error
        self._seen_at = time.monotonic()

    def write(
        self,
        job: RunningAttempt,
        picture: CheckedImage,
        answer: ImageAnswer,
        choice: ModelChoice,
        *,
        cost: Decimal | None,
        estimate: Decimal | None,
    ) -> dict[str, Any]:
        """Store the picture and a receipt of it, which is returned. It was paid for, so a storage that is away is
        waited for: nobody else could use this slot, since no call starts until the storage is back. Raises
        :class:`ProviderError` when patience ends, and what ``job`` raises when it is abandoned."""

        def store() -> dict[str, Any]:
            try:
                return _save(job.claim, picture, answer, choice, cost, estimate)
            except OSError:
                self._seen_at = _NEVER
                raise

        try:
            return retry_while_unavailable(store, OSError, patience=settings.STORAGE_PATIENCE, pause=job.pause)
        except OSError as error:
            raise ProviderError("The image could not be stored", code=ErrorCode.STORAGE) from error


def _save(
    claim: Claim,
    picture: CheckedImage,
    answer: ImageAnswer,
    choice: ModelChoice,
    cost: Decimal | None,
    estimate: Decimal | None,
) -> dict[str, Any]:
    """Write the picture, its thumbnail and then the receipt, which is returned. Raises ``OSError``."""
    image_key = images.save("results", picture.sha256, picture.content_type, picture.data)
    thumbnail_key = images.save("thumbnails", picture.thumbnail_sha256, "image/webp", picture.thumbnail)
    receipt = {
        "result": {
            "image_key": image_key,
            "thumbnail_key": thumbnail_key,
            "content_type": picture.content_type,
            "requested_type": picture.requested_type,
            "width": picture.width,
            "height": picture.height,
            "bytes": len(picture.data),
            "sha256": picture.sha256,
            "provider": choice.provider,
            "model": answer.model,
            "seed": answer.seed,
            "revised_prompt": answer.revised_prompt,
            "cost": None if cost is None else float(cost),
            "cached": False,
            "notice": " ".join(filter(None, (choice.notice, picture.notice))),
            "attribution": answer.attribution,
        },
        "model": answer.model,
        "provider_request_id": answer.provider_request_id,
        "usage": dict(answer.usage),
        "cost": None if cost is None else str(cost),
        "estimate": None if estimate is None else str(estimate),
        "paid_by": claim.number,
    }
    receipts.save(claim.request.pk, receipt)
    return receipt
