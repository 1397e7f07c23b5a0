"""Run one request from claim to end: route, prompt, provider call, image check, storage. Independent of Celery."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final

from django.conf import settings

from generation import event_loop
from generation.providers import budgets, catalogue, circuit_breaker, error_policy, pricing, result_cache
from generation.providers.catalogue import ModelChoice
from generation.providers.error_policy import Action, Situation
from generation.queue import dispatch
from generation.requests import endings, input_images, lifecycle, permits
from generation.requests.claims import AttemptFailure, CallPermit, Claim, StaleClaimError
from generation.requests.input_images import StoredImage
from generation.states import ErrorCode
from generation.storage import receipts
from generation.telemetry import correlation, metrics, tracing
from workers import prompts, strict_masks
from workers.call_images import CallImages, with_images
from workers.image_processes import ImageProcesses
from workers.policies.rate_limit import RateLimiter
from workers.policies.retry import RetryPolicy
from workers.previews import Previews
from workers.providers.base import ImageAnswer, ImageRequest, Provider, ProviderError, ReferenceImage
from workers.providers.registry import Registry
from workers.reporting import fields, log, measured
from workers.resilience import retry_while_unavailable
from workers.result_writer import ResultWriter
from workers.routing import Route
from workers.runtime import AttemptCancelled, RunningAttempt, Runtime

logger = logging.getLogger(__name__)

#: How long a claim waits for an unavailable storage that may hold the image of an earlier attempt.
_RECEIPT_PATIENCE: Final = timedelta(seconds=5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A permitted call of a provider.

    ``probe`` and ``recently_failing`` are those of :class:`generation.requests.claims.CallPermit`. ``estimate`` is the
    expected price in US dollars, None if the call costs nothing or its price is unknown.
    """

    choice: ModelChoice
    image_request: ImageRequest
    probe: bool
    recently_failing: bool
    billable: bool
    estimate: Decimal | None
    #: Those of the request's images that are sent.
    images: Sequence[StoredImage] = ()


class StorageUnavailable(Exception):  # noqa: N818  a state, not a mistake
    """The storage cannot tell whether it has an image that is already paid for."""


class Executor:
    """Runs attempts with one set of providers on one runtime."""

    def __init__(
        self, *, runtime: Runtime, providers: Registry, rates: RateLimiter, processes: ImageProcesses | None = None
    ) -> None:
        self._runtime = runtime
        self._database = runtime.database
        self._providers = providers
        self._rates = rates
        self._writer = ResultWriter(processes)
        self._images = CallImages(self._writer.run)

    def run(self, request_id: str) -> None:
        """Run the request on the event loop, and wait until it ends. Raises only errors of the database before there is
        a claim."""
        event_loop.loop.submit(self.run_request(request_id)).result()

    async def run_request(self, request_id: str) -> None:
        """Claim the request and make one attempt; if a provider fails, make further attempts with the next providers.
        Raises only errors of the database before there is a claim."""
        claim = await self._database.claim(request_id)
        if claim is None:
            extra = {"action": "claim-lost", "request_id": request_id}
            logger.info("nothing to do for %s", request_id, extra=extra)
            return
        http_request_id = claim.request.http_request_id or correlation.current()
        with correlation.bound_to(http_request_id), self._traced(claim):
            await self._run(claim)

    @contextmanager
    def _traced(self, claim: Claim) -> Iterator[None]:
        request = claim.request
        if request.started_at:
            tracing.record_wait("queue", parent=request.traceparent, since=request.created_at, until=request.started_at)
        with tracing.span("generate", "consumer", parent=request.traceparent, vga__request__id=request.pk):
            yield

    async def _run(self, claim: Claim) -> None:
        try:
            route = await self._database.cached(partial(Route, claim.request.options))
        except catalogue.UnsupportedRequest as reason:  # the settings or models have changed since the submit
            if reason.temporary:
                logger.error("no route: %s", reason.message, extra=fields("error", claim))
                await self._snooze_or_fail(claim)
                return
            failure = AttemptFailure(message=reason.message, code=ErrorCode.INVALID_REQUEST, retryable=False)
            await self._database.end(endings.failed(claim, failure))
            log("failed", claim, code=failure.code)
            return
        except Exception:  # a fault in the catalogue's rows, which staff can correct
            logger.exception("no route", extra=fields("error", claim))
            await self._snooze_or_fail(claim)
            return
        next_claim: Claim | None = claim
        while next_claim is not None:
            with self._runtime.working_on(next_claim) as attempt:
                log("started", attempt.claim)
                try:
                    next_claim = await self._attempt(attempt, route)
                except AttemptCancelled as reason:
                    await self._database.run(partial(permits.release_provider_slot, attempt.claim))
                    log("abandoned", attempt.claim, why=str(reason))
                    return

    async def _attempt(self, attempt: RunningAttempt, route: Route) -> Claim | None:
        """Make one call, unless there is an image or the request has to wait. Return the claim for the next provider of
        the route, or None if the attempt was the last one of this run."""
        claim = attempt.claim
        call = None
        try:
            if receipt := await self._earlier_receipt(attempt):
                await self._complete(claim, receipt)
                return None
            await self._writer.check()
            if claim.request.options.use_cache and await self._use_cache(claim, route.remaining[0]):
                return None
            call = await self._permitted_call(claim, route)
            if call is None:
                return None
            receipt = await self._generate(attempt, call)
        except ProviderError as error:
            if error.code not in error_policy.POLICIES:
                logger.error("unknown error code %s", error.code, extra=fields("error", claim))
                error = _internal_error(sent=error.sent)
            return await self._handle_failure(error, claim, route, call)
        except StorageUnavailable:
            # The storage may have an image that is already paid for, so no provider is called until it is available.
            await self._release(claim, settings.RETRY_DELAY, "storage")
            return None
        except AttemptCancelled:
            if call and call.probe:
                await self._database.run(partial(circuit_breaker.release_probe, call.choice.provider))
            raise
        except Exception as error:
            # The text of an unknown error may contain secrets, so it is logged but not shown to the client.
            logger.exception("attempt failed", extra=fields("error", claim))
            if call is None:  # nothing was sent
                await self._snooze_or_fail(claim)
                return None
            return await self._handle_failure(_internal_error(error, sent=attempt.sent), claim, route, call)
        choice = call.choice
        await self._complete(claim, receipt)
        await self._database.cached(partial(circuit_breaker.model_succeeded, choice.provider, choice.model))
        if call.recently_failing:
            await self._database.run(partial(circuit_breaker.succeeded, choice.provider))
        return None

    async def _earlier_receipt(self, attempt: RunningAttempt) -> dict[str, Any] | None:
        """Return the receipt of an earlier attempt whose image was paid for and stored, or None. Raises
        :class:`StorageUnavailable`."""
        claim = attempt.claim
        if claim.number == 1 or not await self._database.run(partial(permits.has_called_provider, claim)):
            return None
        find = partial(self._writer.run, partial(receipts.find, claim.request.pk))
        try:
            return await retry_while_unavailable(find, OSError, patience=_RECEIPT_PATIENCE, pause=attempt.pause)
        except OSError as error:
            raise StorageUnavailable from error

    async def _use_cache(self, claim: Claim, choice: ModelChoice) -> bool:
        """Complete the request with a cached image, or let it wait for the request that is generating the image. Return
        False if this request has to generate it."""
        try:
            stored = await self._database.cached(partial(input_images.of_request, claim.request))
            hashes = [image.sha256 for image in stored]
            cached = await self._database.run(partial(result_cache.get_or_start, claim.request, choice, hashes=hashes))
        except OSError as error:
            raise StorageUnavailable from error
        if cached.result is not None:
            result = cached.result | {"cached": True, "cost": 0.0}
            await self._complete(claim, {"result": result, "model": cached.result["model"], "cost": "0"})
        elif cached.holder:
            must_wait = partial(result_cache.is_in_progress, cached.holder)
            await self._wait_for(cached.holder, must_wait, claim, result_cache.LOOK_AGAIN_AFTER, "shared")
        return cached.result is not None or bool(cached.holder)

    # --- The call ---

    async def _permitted_call(self, claim: Claim, route: Route) -> Call | None:
        """Begin the call of the first provider of the route that may be called now. Return None if no provider may be
        called and the request was released instead."""
        if self._runtime.stopping.is_set():
            await self._release(claim, timedelta(0), "stopping")
            return None
        suspended: list[tuple[timedelta, str]] = []
        budget_message = ""
        stored = await self._database.cached(partial(input_images.of_request, claim.request))
        for choice in route.remaining:
            images = prompts.sent_images(claim.request, stored, choice)
            image_request = await self._database.cached(partial(prompts.build, claim.request, choice, images))
            provider = self._providers.choose(choice.provider)
            estimate = catalogue.call_estimate(choice, claim.request.options) if provider.billable else None
            permit = await self._begin_call(claim, image_request, provider, estimate)
            if permit.granted:
                return Call(
                    choice=choice,
                    image_request=image_request,
                    probe=permit.probe,
                    recently_failing=permit.recently_failing,
                    billable=provider.billable,
                    estimate=estimate,
                    images=images,
                )
            if permit.over_budget:  # the budget may suffice for a cheaper provider of the route
                budget_message = permit.budget_message
            elif permit.provider_suspended:
                suspended.append((permit.wait, choice.provider))
            else:  # the provider works but has no free slot, so a short wait is better than a fallback
                await self._release(claim, permit.wait, "no-place")
                return None
        if not suspended:
            if last_resort := await self._database.run(route.last_resort):
                route.remaining = last_resort
                return await self._permitted_call(claim, route)
            raise ProviderError(budget_message, code=ErrorCode.QUOTA_EXHAUSTED, sent=False)
        wait, name = min(suspended)
        await self._wait_for(name, partial(circuit_breaker.is_open, name), claim, wait, "suspended")
        return None

    async def _begin_call(
        self, claim: Claim, image_request: ImageRequest, provider: Provider, estimate: Decimal | None
    ) -> CallPermit:
        rate = (await self._database.cached(circuit_breaker.rates)).get(provider.name)

        def pace(calls: int, per_seconds: int) -> timedelta:
            return timedelta(seconds=self._rates.take(provider.name, calls=calls, per_seconds=per_seconds))

        try:
            return await self._database.begin_call(
                claim,
                provider=provider.name,
                model=image_request.model,
                prompt=image_request.prompt,
                billable=provider.billable,
                estimate=estimate,
                pace=rate and partial(pace, *rate),
            )
        except StaleClaimError:
            raise AttemptCancelled("the claim is stale") from None

    async def _generate(self, attempt: RunningAttempt, call: Call) -> dict[str, Any]:
        """Call the provider, and check and store its image. Return the receipt."""
        provider = self._providers.choose(call.choice.provider)
        limit = settings.PROVIDER_TIMEOUT.total_seconds()
        previews = Previews(attempt, self._writer, self._database, most=call.image_request.previews)
        async with AsyncExitStack() as images:
            request = await self._with_images(attempt, call, images)
            with measured(provider.name, call.choice.model), previews:
                answer = await attempt.call(provider.generate(request), limit=limit, show=previews.show)
        cost = pricing.cost(call.choice.price_rule, answer.usage) if call.billable else Decimal(0)
        try:
            if attempt.claim.request.options.mask_mode == "strict":
                answer = await self._restored(answer, attempt, call)
            receipt = await self._writer.write(
                attempt,
                answer,
                call.choice,
                requested=call.image_request.output_format,
                cost=cost,
                estimate=call.estimate,
            )
        except ProviderError as error:
            error.cost = cost
            raise
        except AttemptCancelled:
            # The estimate was booked when the claim was ended; this books the rest of the cost.
            await self._database.run(partial(budgets.book_late, attempt.claim.request, attempt.claim.number, {}, cost))
            raise
        metrics.COST.labels(provider.name).inc(float(receipt["cost"] or 0))
        return receipt

    async def _with_images(self, attempt: RunningAttempt, call: Call, stack: AsyncExitStack) -> ImageRequest:
        """Return the call's request with its images, which are in memory until the stack ends.

        They have a time limit of their own: if they have to wait for room, the provider gets no less time, and is not
        to blame. Raises :class:`ProviderError`.
        """
        if not call.images:
            return call.image_request

        async def load() -> Sequence[ReferenceImage]:
            if attempt.claim.request.options.mask_mode == "strict":
                await self._check_masked(attempt.claim)
            loaded = await stack.enter_async_context(self._images.loaded(call.images))
            hashes = [image.sha256 for image in loaded]
            await self._database.run(partial(input_images.note_sent, *attempt.key, call.images, hashes))
            return loaded

        try:
            loaded = await attempt.call(load(), limit=settings.PROVIDER_TIMEOUT.total_seconds())
        except ProviderError as error:
            if error.code != ErrorCode.TIMEOUT:
                raise
            message = "The images of the request could not be read in time"
            raise ProviderError(message, code=ErrorCode.STORAGE, sent=False) from None
        return with_images(call.image_request, loaded, call.choice.reference_limits)

    async def _check_masked(self, claim: Claim) -> None:
        """Raise :class:`ProviderError` if the answer could not be restored."""
        stored = await self._database.run(partial(input_images.of_request, claim.request))
        try:
            await self._writer.run(partial(strict_masks.check, stored))
        except OSError as error:
            message = "An image of the request cannot be read at the moment"
            raise ProviderError(message, code=ErrorCode.STORAGE, sent=False) from error

    async def _restored(self, answer: ImageAnswer, attempt: RunningAttempt, call: Call) -> ImageAnswer:
        """Return the answer with what is outside of the mask as it was. The image is paid for, so an unavailable
        storage is waited for. Raises :class:`ProviderError`."""
        stored = await self._database.run(partial(input_images.of_request, attempt.claim.request))
        restore = partial(strict_masks.restored, answer, stored, call.image_request.output_format)
        patience = settings.STORAGE_PATIENCE
        try:
            return await retry_while_unavailable(
                partial(self._writer.run, restore), OSError, patience=patience, pause=attempt.pause
            )
        except OSError as error:
            raise ProviderError("The image could not be stored", code=ErrorCode.STORAGE) from error

    # --- Outcomes ---

    async def _complete(self, claim: Claim, receipt: dict[str, Any]) -> None:
        completed = await self._database.end(endings.completed(claim, **receipt))
        if completed:  # else the receipt may belong to a newer claim
            self._writer.start(partial(receipts.drop, claim.request.pk))  # the slot does not wait for the disk
        log("completed" if completed else "claim-void", claim)

    async def _release(self, claim: Claim, wait: timedelta, why: str, *, waits_for: str = "") -> None:
        await self._database.end(endings.released(claim, delay=wait, waits_for=waits_for))
        log("given-back", claim, why=why)

    async def _snooze_or_fail(self, claim: Claim) -> None:
        """Snooze the request, or fail it if it has waited ``MAX_WAITS`` times."""
        waits = claim.request.waits
        failure = _failure(_internal_error(), "", None)
        if waits < error_policy.MAX_WAITS:
            delay = RetryPolicy(base=settings.RETRY_DELAY).delay(waits + 1)
            await self._database.end(endings.snoozed(claim, failure, delay=delay))
        else:
            await self._database.end(endings.failed(claim, failure))

    async def _wait_for(
        self, event: str, must_wait: Callable[[], bool], claim: Claim, longest: timedelta, why: str
    ) -> None:
        """Release the request until the event (a provider's name or a request's id) makes it due, or the longest time
        is over."""
        await self._release(claim, longest, why, waits_for=event)
        if not await self._database.run(must_wait):  # the event came before the release was committed
            await self._database.run(partial(dispatch.make_due, event))

    async def _handle_failure(
        self, error: ProviderError, claim: Claim, route: Route, call: Call | None
    ) -> Claim | None:
        """Do the next step by :func:`generation.providers.error_policy.decide`. Return the claim for the next provider
        of the route, or None."""
        request, provider = claim.request, call.choice.provider if call else ""
        if call is None:
            route.problems.append(error)
            route.remaining = []
        else:
            await self._report_to_breaker(error, call)
            await self._database.run(partial(route.failed, call.choice, error))
        # Only counted if the newest call has an unknown outcome, since only then does the number matter.
        unknown_outcomes = 0
        if error_policy.outcome_is_unknown(error):
            unknown_outcomes = await self._database.run(partial(permits.unknown_outcomes, request))
        decision = error_policy.decide(
            Situation(
                problems=route.problems,
                others_left=bool(route.remaining),
                attempts=request.attempts,
                max_attempts=request.max_attempts,
                waits=request.waits,
                unknown_outcomes=unknown_outcomes,
                refusal_may_fall_back=request.options.refusal_may_fall_back,
                billable=call is not None and call.billable,
            )
        )
        failure = _failure(error, provider, _possible_cost(error, call))
        policy = RetryPolicy(base=settings.RETRY_DELAY)
        retry_after = decision.problem.retry_after if isinstance(decision.problem, ProviderError) else None
        match decision.action:
            case Action.FALL_BACK:
                fall_back = partial(lifecycle.fall_back, claim, failure, uses_attempt=decision.uses_attempt)
                next_claim = await self._database.run(fall_back)
                log("moved-on" if next_claim else "claim-void", claim, code=error.code, provider=provider)
                return next_claim
            case Action.SNOOZE:
                delay = policy.delay(request.waits + 1, retry_after=retry_after)
                ended = await self._database.end(endings.snoozed(claim, failure, delay=delay))
                log("postponed" if ended else "claim-void", claim, code=error.code, delay=delay.total_seconds())
            case Action.RETRY:
                delay = policy.delay(request.attempts, retry_after=retry_after)
                ended = await self._database.end(endings.retried(claim, failure, delay=delay))
                log("retry" if ended else "claim-void", claim, code=error.code, delay=delay.total_seconds())
            case Action.FAIL:
                ended = await self._database.end(endings.failed(claim, failure))
                log("failed" if ended else "claim-void", claim, code=error.code)
        return None

    async def _report_to_breaker(self, error: ProviderError, call: Call) -> None:
        """Report the failure to the circuit breaker."""
        choice = call.choice
        wait = RetryPolicy(base=settings.RETRY_DELAY).delay(1, retry_after=error.retry_after)
        report = partial(circuit_breaker.failed, choice.provider, error.code, wait=wait)
        await self._database.run(partial(report, probe=call.probe, scope=error.scope, model=choice.model))


def _possible_cost(error: ProviderError, call: Call | None) -> Decimal | None:
    """Return the cost of the failed call in US dollars if it is known, else its estimate; None if it was not billed."""
    if call is None or not (error.sent and error_policy.may_be_billed(error.code)):
        return None
    return call.estimate if error.cost is None else error.cost


def _failure(error: ProviderError, provider: str, cost: Decimal | None) -> AttemptFailure:
    return AttemptFailure(
        message=error.message,
        code=error.code,
        retryable=error.retryable,
        cost=cost,
        provider=provider,
        provider_request_id=error.provider_request_id,
        stage=error.detail.get("stage", ""),
        category=", ".join(error.detail.get("categories", ())),
    )


def _internal_error(error: Exception | None = None, *, sent: bool = False) -> ProviderError:
    """Return the failure for an unclassified error, without its text, which may contain secrets."""
    is_temporary = error_policy.has_retryable_phrase(str(error))
    message = "A temporary fault on our side" if is_temporary else "A fault on our side"
    return ProviderError(message, code=ErrorCode.INTERNAL, sent=sent, retryable=is_temporary)
