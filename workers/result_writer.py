"""Store a generated image with its thumbnail and a receipt of both."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from typing import Any, Final, TypeVar

from django.conf import settings

from generation.providers.catalogue import ModelChoice
from generation.requests.claims import Claim
from generation.states import ErrorCode
from generation.storage import images, receipts
from generation.storage.digital_source import digital_source
from workers import image_check
from workers.image_check import CheckedImage
from workers.image_processes import ImageProcesses, NoProcessesError
from workers.providers.base import ImageAnswer, ProviderError
from workers.resilience import retry_while_unavailable
from workers.runtime import RunningAttempt

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: Seconds for which a successful check of the storage is used.
_CHECK_LIFETIME: Final = 10.0
_NEVER: Final = float("-inf")
#: A thread mostly waits for the disk or for a bucket.
_THREADS: Final = 8
#: Stores images while their thumbnails are made. Each image process starts a thread of its own at its first image.
_saving: Final = ThreadPoolExecutor(_THREADS, "image-storage")


class ResultWriter:
    """Writes results, and remembers when the storage was last writable."""

    def __init__(self, processes: ImageProcesses | None = None) -> None:
        """Images are checked and stored in the processes, or in threads if there are none."""
        self._processes = processes
        self._writable_at = _NEVER
        self._is_logged = False
        self._threads = ThreadPoolExecutor(_THREADS, "storage")

    async def check(self) -> None:
        """Raise :class:`ProviderError` before a paid call if the storage is not writable by a recent check."""
        if time.monotonic() - self._writable_at < _CHECK_LIFETIME:
            return
        try:
            await self.run(images.check_writable)
        except OSError as error:
            if not self._is_logged:  # once for an outage, whatever number of requests waits for its end
                logger.error("images cannot be stored: %s", error)
                self._is_logged = True
            message = "Images cannot be stored at the moment"
            raise ProviderError(message, code=ErrorCode.STORAGE, sent=False) from error
        self._writable_at = time.monotonic()
        self._is_logged = False

    async def run(self, act: Callable[[], T]) -> T:
        """Return the result of a function that uses the storage, run in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, act)

    def start(self, act: Callable[[], object]) -> None:
        """Run a function that uses the storage in a thread, without waiting for it. Its failure does no harm."""
        self._threads.submit(act)

    async def write(
        self,
        attempt: RunningAttempt,
        answer: ImageAnswer,
        choice: ModelChoice,
        *,
        requested: str,
        cost: Decimal | None,
        estimate: Decimal | None,
    ) -> dict[str, Any]:
        """Check and store the image and a receipt of it, and return the receipt. ``requested`` is the requested format.

        The image is paid for, so an unavailable storage is retried for ``STORAGE_PATIENCE``. That blocks no other
        request, since no call starts until the storage is available. Raises :class:`ProviderError` after that time or
        for an invalid image, and :class:`workers.runtime.AttemptCancelled`.
        """
        receipt = _receipt(attempt.claim, answer, choice, cost, estimate)
        is_composite = attempt.claim.request.options.mask_mode == "strict"
        of_check = {"requested": requested, "source": digital_source(choice.provider, is_composite=is_composite)}
        of_store: dict[str, Any] = {"request_id": attempt.key[0], "receipt": receipt}

        async def store() -> dict[str, Any]:
            try:
                if self._processes is not None:
                    try:
                        stored: dict[str, Any] = await self._processes.run(answer.data, of_check, of_store)
                        return stored
                    except NoProcessesError:
                        # The image is paid for. Without processes it is decoded here, as are all later ones.
                        logger.error("no image process can be started, images are checked in the worker itself")
                        self._processes = None
                image = await self.run(partial(check, answer.data, **of_check))
                return await self.run(partial(save, image, **of_store))
            except OSError:
                self._writable_at = _NEVER
                raise

        try:
            return await retry_while_unavailable(
                store, OSError, patience=settings.STORAGE_PATIENCE, pause=attempt.pause
            )
        except OSError as error:
            raise ProviderError("The image could not be stored", code=ErrorCode.STORAGE) from error


def check(data: bytes, *, requested: str, source: str) -> CheckedImage:
    """Check the image, and store it while its thumbnail is made. Raises :class:`ProviderError`.

    Only an image that has decoded is stored, and only a receipt makes it a result. The time limit of the check does not
    include the storage's time, since :func:`save` waits for it.
    """

    def store(sha256: str, content_type: str, data: bytes) -> Future[str]:
        return _saving.submit(images.save, "results", sha256, content_type, data)

    return image_check.check(data, requested=requested, source=source, when_decoded=store)


def save(image: CheckedImage, *, request_id: str, receipt: dict[str, Any]) -> dict[str, Any]:
    """Write the image, its thumbnail and then the receipt, and return the receipt with the image's facts. Raises
    ``OSError``."""
    if image.stored is None:
        image_key = images.save("results", image.sha256, image.content_type, image.data)
    else:
        image_key = image.stored.result()
    thumbnail_key = images.save("thumbnails", image.thumbnail_sha256, "image/webp", image.thumbnail)
    result = receipt["result"]
    notice = " ".join(filter(None, (result["notice"], image.notice)))
    facts = {
        "image_key": image_key,
        "thumbnail_key": thumbnail_key,
        "content_type": image.content_type,
        "requested_type": image.requested_type,
        "width": image.width,
        "height": image.height,
        "bytes": len(image.data),
        "sha256": image.sha256,
        "notice": notice,
    }
    receipt = receipt | {"result": result | facts}
    receipts.save(request_id, receipt)
    return receipt


def _receipt(
    claim: Claim, answer: ImageAnswer, choice: ModelChoice, cost: Decimal | None, estimate: Decimal | None
) -> dict[str, Any]:
    """Return the receipt without the facts of the image itself."""
    return {
        "result": {
            "provider": choice.provider,
            "model": answer.model,
            "seed": answer.seed,
            "revised_prompt": answer.revised_prompt,
            "cost": None if cost is None else float(cost),
            "cached": False,
            "notice": choice.notice,
            "attribution": answer.attribution,
        },
        "model": answer.model,
        "provider_request_id": answer.provider_request_id,
        "usage": dict(answer.usage),
        "cost": None if cost is None else str(cost),
        "estimate": None if estimate is None else str(estimate),
        "paid_by": claim.number,
    }
