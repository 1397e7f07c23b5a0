"""One attempt from claim to end: prompt, provider, check, store, finish. Knows no Celery and no HTTP."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, TypeVar

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from generation import lifecycle, storage
from generation.lifecycle import Claim, Failure, Permit
from generation.states import ErrorCode
from workers import images, prompts
from workers.policies.retry import RetryPolicy, is_retryable
from workers.providers.base import ImageAnswer, Provider, ProviderError
from workers.providers.registry import Registry
from workers.runtime import Abandoned, Job, Runtime

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: How long what a provider was paid for is held on to while the database or the storage is away, in seconds.
_PATIENCE: Final = 60.0
#: How long a look at whether the storage can be written holds, in seconds.
_STORAGE_LOOK: Final = 10.0
#: How often a request may be told to wait without using up an attempt.
_MOST_WAITS: Final = 10
#: What a call may take beyond its time-out until its place at the provider is free again.
_CALL_GRACE: Final = timedelta(seconds=5)
#: Before a request whose provider has no place free is tried again.
_NO_PLACE_DELAY: Final = timedelta(seconds=1)


class Executor:
    """Runs attempts with one set of providers on one runtime."""

    def __init__(self, *, runtime: Runtime, providers: Registry) -> None:
        self._runtime = runtime
        self._providers = providers
        self._storage_seen_at = float("-inf")

    def run(self, request_id: str) -> None:
        """Do one attempt, if there is one to do. Raises only what the database raises before there is a claim."""
        claim = lifecycle.claim(request_id, worker=self._runtime.name)
        if claim is None:
            logger.info("nothing to do for %s", request_id, extra={"action": "claim-lost", "request_id": request_id})
            return
        with self._runtime.working_on(claim) as job:
            _log("started", claim)
            try:
                self._attempt(job)
            except Abandoned as reason:
                _patiently(lambda: lifecycle.call_ended(claim))
                _log("abandoned", claim, why=str(reason))

    def _attempt(self, job: Job) -> None:
        claim = job.claim
        if claim.number > 1 and (receipt := storage.find_receipt(claim.request.pk)):
            self._complete(claim, receipt)  # an earlier attempt was paid for and its picture stored
            return
        provider_name = claim.request.metadata.get("provider", "")
        try:
            provider = self._providers.choose(provider_name)
            provider_name = provider.name
            receipt = self._make(job, provider)
        except ProviderError as error:
            self._give_up(claim, error, provider_name)
        except Abandoned:
            raise
        except Exception as error:
            # The text of an unknown error may hold anything, so the client gets none of it.
            logger.exception("attempt failed", extra=_fields("error", claim))
            self._give_up(claim, _internal(error), provider_name)
        else:
            if receipt is not None:
                self._complete(claim, receipt)

    def _make(self, job: Job, provider: Provider) -> dict[str, Any] | None:
        """Call the provider and store what it made. ``None`` where it was not to be called, and that is written."""
        claim = job.claim
        asked = _patiently(lambda: prompts.build(claim.request))
        self._check_storage()
        if self._runtime.stopping.is_set():
            _patiently(lambda: lifecycle.give_back(claim))
            _log("given-back", claim)
            return None
        permit = _patiently(
            lambda: lifecycle.begin_call(
                claim,
                provider=provider.name,
                model=asked.model,
                prompt=asked.prompt,
                billable=provider.billable,
                deadline=settings.PROVIDER_TIMEOUT + _CALL_GRACE,
            )
        )
        if permit is Permit.VOID:
            raise Abandoned("the claim is void")
        if permit is Permit.NO_PLACE:
            _patiently(lambda: lifecycle.give_back(claim, delay=_NO_PLACE_DELAY))
            _log("no-place", claim, provider=provider.name)
            return None
        # The call takes as long as it takes, and a connection that waits for it is one that nobody else has.
        connection.close()
        answer = job.call(provider.generate(asked), timeout=settings.PROVIDER_TIMEOUT.total_seconds())
        return _store(claim, images.check(answer.data), answer, provider)

    def _complete(self, claim: Claim, receipt: dict[str, Any]) -> None:
        done = _patiently(lambda: lifecycle.complete(claim, **receipt))
        storage.drop_receipt(claim.request.pk)
        _log("completed" if done else "claim-void", claim)

    def _give_up(self, claim: Claim, error: ProviderError, provider_name: str) -> None:
        request = claim.request
        retryable = is_retryable(error.code, error.message)
        failure = Failure(
            message=error.message,
            code=error.code,
            retryable=retryable,
            provider=provider_name,
            provider_request_id=error.provider_request_id,
        )
        # What could not be kept was paid for; paying again and again would not make the storage any better.
        retryable = retryable and not (error.code == ErrorCode.STORAGE and error.detail.get("paid"))
        policy = RetryPolicy(base=settings.RETRY_DELAY)
        if error.code == ErrorCode.RATE_LIMITED and request.waits < _MOST_WAITS:
            delay = policy.delay(request.waits + 1, retry_after=error.retry_after)
            held = _patiently(lambda: lifecycle.postpone(claim, failure, delay=delay))
            _log("postponed" if held else "claim-void", claim, delay=delay.total_seconds())
        elif retryable and request.attempts < request.max_attempts:
            delay = policy.delay(request.attempts, retry_after=error.retry_after)
            held = _patiently(lambda: lifecycle.retry_later(claim, failure, delay=delay))
            _log("retry" if held else "claim-void", claim, code=error.code, delay=delay.total_seconds())
        else:
            held = _patiently(lambda: lifecycle.fail(claim, failure))
            _log("failed" if held else "claim-void", claim, code=error.code)

    def _check_storage(self) -> None:
        """Raise :class:`ProviderError` before anything is paid for that could not be kept."""
        if time.monotonic() - self._storage_seen_at < _STORAGE_LOOK:
            return
        try:
            storage.check_writable()
        except OSError as error:
            raise ProviderError("Pictures cannot be stored at the moment", code=ErrorCode.STORAGE) from error
        self._storage_seen_at = time.monotonic()


def _store(claim: Claim, picture: images.CheckedImage, answer: ImageAnswer, provider: Provider) -> dict[str, Any]:
    """Keep the picture and a receipt of it. It was paid for, so a storage that fails is given time."""

    def store() -> dict[str, Any]:
        image_key = storage.save("results", picture.sha256, picture.content_type, picture.data)
        thumbnail_key = storage.save("thumbnails", picture.thumbnail_sha256, "image/webp", picture.thumbnail)
        receipt = {
            "result": {
                "image_key": image_key,
                "thumbnail_key": thumbnail_key,
                "content_type": picture.content_type,
                "width": picture.width,
                "height": picture.height,
                "bytes": len(picture.data),
                "sha256": picture.sha256,
                "provider": provider.name,
                "model": answer.model,
                "seed": answer.seed,
                "revised_prompt": answer.revised_prompt,
                "cached": False,
                "attribution": answer.attribution,
            },
            "model": answer.model,
            "provider_request_id": answer.provider_request_id,
        }
        storage.save_receipt(claim.request.pk, receipt)
        return receipt

    try:
        return _patiently(store, OSError)
    except OSError as error:
        paid = {"paid": provider.billable}
        raise ProviderError("The picture could not be stored", code=ErrorCode.STORAGE, detail=paid) from error


def _patiently(act: Callable[[], T], *errors: type[Exception]) -> T:
    """Try again while the database (or what raises these errors) is away, with growing pauses, for a minute."""

    def start_afresh(state: RetryCallState) -> None:
        connection.close()

    retrying = Retrying(
        retry=retry_if_exception_type(errors or (OperationalError, InterfaceError)),
        wait=wait_exponential_jitter(initial=0.1, max=5),
        stop=stop_after_delay(_PATIENCE),
        before_sleep=start_afresh,
        reraise=True,
    )
    return retrying(act)


def _internal(error: Exception) -> ProviderError:
    hopeful = is_retryable(ErrorCode.INTERNAL, str(error))
    message = "A temporary fault on our side" if hopeful else "A fault on our side"
    return ProviderError(message, code=ErrorCode.INTERNAL)


def _fields(action: str, claim: Claim) -> dict[str, Any]:
    return {"action": action, "request_id": claim.request.pk, "claim": claim.number, "attempt": claim.request.attempts}


def _log(action: str, claim: Claim, **more: Any) -> None:
    tail = "".join(f" {name}={value}" for name, value in more.items())
    logger.info(
        "%s %s (attempt %d of %d)%s",
        action,
        claim.request.pk,
        claim.request.attempts,
        claim.request.max_attempts,
        tail,
        extra=_fields(action, claim) | more,
    )
