"""One attempt from claim to end: prompt, provider, check, store, finish. Knows no Celery and no HTTP."""

from __future__ import annotations

import logging
from typing import Any

from django.conf import settings
from django.db import close_old_connections, connection

from generation import lifecycle, storage
from generation.lifecycle import Claim, Failure
from generation.states import ErrorCode
from workers import images, prompts
from workers.policies.retry import RetryPolicy, is_retryable
from workers.providers.base import ImageAnswer, ImageRequest, Provider, ProviderError
from workers.providers.registry import Registry
from workers.runtime import Runtime

logger = logging.getLogger(__name__)


class Executor:
    """Runs attempts with one set of providers on one runtime."""

    def __init__(self, *, runtime: Runtime, providers: Registry) -> None:
        self._runtime = runtime
        self._providers = providers

    def run(self, request_id: str) -> None:
        """Do one attempt, if there is one to do. Raises only what the database raises."""
        claim = lifecycle.claim(request_id, worker=self._runtime.name)
        if claim is None:
            logger.info("nothing to do for %s", request_id, extra={"action": "claim-lost", "request_id": request_id})
            return
        with self._runtime.working_on(request_id):
            _log("started", claim)
            provider_name = claim.request.metadata.get("provider", "")
            try:
                provider = self._providers.choose(provider_name)
                provider_name = provider.name
                self._attempt(claim, provider)
            except ProviderError as error:
                self._give_up(claim, error, provider_name)
            except Exception as error:
                # The text of an unknown error may hold anything, so the client gets none of it.
                logger.exception("attempt failed", extra=_fields("error", claim))
                self._give_up(claim, _internal(error), provider_name)

    def _attempt(self, claim: Claim, provider: Provider) -> None:
        asked = prompts.build(claim.request)
        if not lifecycle.record_call(claim, provider=provider.name, model=asked.model, prompt=asked.prompt):
            _log("claim-void", claim)
            return
        answer = self._call(provider, asked)
        picture = images.check(answer.data)
        result = _store(picture, answer, provider)
        close_old_connections()
        done = lifecycle.complete(
            claim, result=result, model=answer.model, provider_request_id=answer.provider_request_id
        )
        _log("completed" if done else "claim-void", claim)

    def _call(self, provider: Provider, asked: ImageRequest) -> ImageAnswer:
        # The call takes as long as it takes, and a connection that waits for it is one that nobody else has.
        connection.close()
        return self._runtime.call(provider.generate(asked), timeout=settings.PROVIDER_TIMEOUT.total_seconds())

    def _give_up(self, claim: Claim, error: ProviderError, provider_name: str) -> None:
        retryable = is_retryable(error.code, error.message)
        failure = Failure(
            message=error.message,
            code=error.code,
            retryable=retryable,
            provider=provider_name,
            provider_request_id=error.provider_request_id,
        )
        request = claim.request
        if retryable and request.attempts < request.max_attempts:
            delay = RetryPolicy(base=settings.RETRY_DELAY).delay(request.attempts, retry_after=error.retry_after)
            held = lifecycle.retry_later(claim, failure, delay=delay)
            _log("retry" if held else "claim-void", claim, code=error.code, delay=delay.total_seconds())
        else:
            held = lifecycle.fail(claim, failure)
            _log("failed" if held else "claim-void", claim, code=error.code)


def _store(picture: images.CheckedImage, answer: ImageAnswer, provider: Provider) -> dict[str, Any]:
    try:
        image_key = storage.save("results", picture.sha256, picture.content_type, picture.data)
        thumbnail_key = storage.save("thumbnails", picture.thumbnail_sha256, "image/webp", picture.thumbnail)
    except OSError as error:
        raise ProviderError("The picture could not be stored", code=ErrorCode.STORAGE) from error
    return {
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
    }


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
