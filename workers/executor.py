"""One request from claim to end: route, prompt, provider, check, store, finish. Knows no Celery and no HTTP."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final

from django.conf import settings

from generation.providers import budgets, catalogue, circuit_breaker, error_policy, pricing, result_cache
from generation.providers.catalogue import ModelChoice
from generation.providers.error_policy import Action, Situation
from generation.queue import dispatch
from generation.requests import lifecycle, permits
from generation.requests.claims import CallPermit, Claim, Failure, StaleClaimError
from generation.states import ErrorCode
from generation.storage import receipts
from generation.telemetry import correlation, metrics, tracing
from workers import image_check, prompts
from workers.attempt_slots import AttemptSlots
from workers.policies.rate_limit import RateLimiter
from workers.policies.retry import RetryPolicy
from workers.providers.base import ImageRequest, Provider, ProviderError
from workers.providers.registry import Registry
from workers.reporting import fields, log, measured
from workers.resilience import retry_while_unavailable
from workers.result_writer import ResultWriter
from workers.routing import Route
from workers.runtime import AttemptCancelled, RunningAttempt, Runtime

logger = logging.getLogger(__name__)

#: What a call may take beyond its time-out until its place at the provider is free again.
_CALL_GRACE: Final = timedelta(seconds=5)
#: How long a claim waits for a storage that cannot say whether an earlier attempt left an image.
_RECEIPT_PATIENCE: Final = timedelta(seconds=5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A permitted call of a provider.

    The outcome of a ``probe`` decides for a provider that was in trouble; an answer of a ``troubled`` one has to be
    noted. ``estimate`` is the expected price in US dollars, None if the call costs nothing or its price is not known.
    """

    choice: ModelChoice
    asked: ImageRequest
    probe: bool
    troubled: bool
    billable: bool
    estimate: Decimal | None


class StorageUnavailable(Exception):  # noqa: N818  a state, not a mistake
    """The storage cannot say whether it holds an image that is paid for."""


class Executor:
    """Runs attempts with one set of providers on one runtime."""

    def __init__(self, *, runtime: Runtime, providers: Registry, rates: RateLimiter) -> None:
        self._runtime = runtime
        self._providers = providers
        self._rates = rates
        self._writer = ResultWriter()
        self._slots = AttemptSlots()

    def run(self, request_id: str) -> None:
        """Do what there is to do: one attempt, and where a provider fails and another one can do it, one with that.
        Raises only what the database raises before there is a claim."""
        with self._slots:
            claim = lifecycle.claim(request_id, worker=self._runtime.name)
            if claim is None:
                told = {"action": "claim-lost", "request_id": request_id}
                logger.info("nothing to do for %s", request_id, extra=told)
                return
            call = claim.request.http_request_id or correlation.current()
            with correlation.bound_to(call), self._traced(claim):
                self._run(claim)

    @contextmanager
    def _traced(self, claim: Claim) -> Iterator[None]:
        request = claim.request
        if request.started_at:
            tracing.record_wait("queue", parent=request.traceparent, since=request.created_at, until=request.started_at)
        with tracing.span("generate", "consumer", parent=request.traceparent, vga__request__id=request.pk):
            yield

    def _run(self, claim: Claim) -> None:
        try:
            route = Route(claim.request.options)
        except catalogue.UnsupportedRequest as reason:  # the settings have changed since the submit
            if reason.temporary:
                logger.error("no route: %s", reason.message, extra=fields("error", claim))
                self._snooze_or_fail(claim)
                return
            failure = Failure(message=reason.message, code=ErrorCode.INVALID_REQUEST, retryable=False)
            retry_while_unavailable(lambda: lifecycle.fail(claim, failure))
            log("failed", claim, code=failure.code)
            return
        except Exception:  # a fault in the catalogue's rows, which staff can correct
            logger.exception("no route", extra=fields("error", claim))
            self._snooze_or_fail(claim)
            return
        following: Claim | None = claim
        while following is not None:
            with self._runtime.working_on(following) as job:
                log("started", job.claim)
                try:
                    following = self._attempt(job, route)
                except AttemptCancelled as reason:
                    retry_while_unavailable(lambda: permits.release_provider_slot(job.claim))
                    log("abandoned", job.claim, why=str(reason))
                    return

    def _attempt(self, job: RunningAttempt, route: Route) -> Claim | None:
        """Make one call, if one is to be made. Returns the claim under which the next provider is to be asked."""
        claim = job.claim
        call = None
        try:
            if receipt := self._earlier_receipt(job):
                self._complete(claim, receipt)
                return None
            self._writer.check(self._slots.released)
            if claim.request.options.use_cache and self._shared(claim, route.left[0]):
                return None
            call = self._permitted(claim, route)
            if call is None:
                return None
            receipt = self._make(job, call)
        except ProviderError as error:
            if error.code not in error_policy.POLICIES:
                logger.error("there is no error code %s", error.code, extra=fields("error", claim))
                error = _internal(sent=error.sent)
            return self._after(error, claim, route, call)
        except StorageUnavailable:
            # It may hold an image that is paid for, so nothing is sent and nothing fails until it can be asked.
            self._give_back(claim, settings.RETRY_DELAY, "storage")
            return None
        except AttemptCancelled:
            if call and call.probe:
                provider = call.choice.provider
                retry_while_unavailable(lambda: circuit_breaker.release_probe(provider))
            raise
        except Exception as error:
            # The text of an unknown error may hold anything, so the client gets none of it.
            logger.exception("attempt failed", extra=fields("error", claim))
            if call is None:  # nothing was sent
                self._snooze_or_fail(claim)
                return None
            return self._after(_internal(error, sent=job.sent), claim, route, call)
        choice = call.choice
        self._complete(claim, receipt)
        retry_while_unavailable(lambda: circuit_breaker.model_succeeded(choice.provider, choice.model))
        if call.troubled:
            retry_while_unavailable(lambda: circuit_breaker.succeeded(choice.provider))
        return None

    def _earlier_receipt(self, job: RunningAttempt) -> dict[str, Any] | None:
        """Return the receipt of an earlier attempt that was paid for and whose image was stored. Raises
        :class:`StorageUnavailable`."""
        claim = job.claim
        if claim.number == 1 or not retry_while_unavailable(lambda: permits.has_called_provider(claim)):
            return None
        find = partial(receipts.find, job.claim.request.pk)
        try:
            with self._slots.released():
                return retry_while_unavailable(find, OSError, patience=_RECEIPT_PATIENCE, pause=job.pause)
        except OSError as error:
            raise StorageUnavailable from error

    def _shared(self, claim: Claim, choice: ModelChoice) -> bool:
        """Whether an earlier picture was taken, or another request's is waited for."""
        try:
            share = retry_while_unavailable(lambda: result_cache.get_or_start(claim.request, choice))
        except OSError as error:
            raise StorageUnavailable from error
        if share.result is not None:
            result = share.result | {"cached": True, "cost": 0.0}
            self._complete(claim, {"result": result, "model": share.result["model"], "cost": "0"})
        elif share.holder:
            goes_on = partial(result_cache.is_in_progress, share.holder)
            self._wait_for(share.holder, goes_on, claim, result_cache.LOOK_AGAIN_AFTER, "shared")
        return share.result is not None or bool(share.holder)

    # --- The call ---

    def _permitted(self, claim: Claim, route: Route) -> Call | None:
        """Note the call of the first provider of the route that may be called now. ``None`` if the request was released
        instead."""
        if self._runtime.stopping.is_set():
            self._give_back(claim, timedelta(0), "stopping")
            return None
        suspended: list[tuple[timedelta, str]] = []
        refusal = ""
        for choice in route.left:
            asked = retry_while_unavailable(partial(prompts.build, claim.request, choice))
            provider = self._providers.choose(choice.provider)
            estimate = catalogue.call_estimate(choice, claim.request.options) if provider.billable else None
            permit = self._begin(claim, asked, provider, estimate)
            if permit.granted:
                return Call(
                    choice=choice,
                    asked=asked,
                    probe=permit.probe,
                    troubled=permit.troubled,
                    billable=provider.billable,
                    estimate=estimate,
                )
            if permit.over_budget:  # a cheaper provider of the route may still fit
                refusal = permit.refusal
            elif permit.suspended:
                suspended.append((permit.wait, choice.provider))
            else:  # it is busy and not in trouble, so its turn comes soon
                self._give_back(claim, permit.wait, "no-place")
                return None
        if not suspended:
            if last := route.last_resort():
                route.left = last
                return self._permitted(claim, route)
            raise ProviderError(refusal, code=ErrorCode.QUOTA_EXHAUSTED, sent=False)
        wait, name = min(suspended)
        self._wait_for(name, partial(circuit_breaker.is_open, name), claim, wait, "suspended")
        return None

    def _begin(self, claim: Claim, asked: ImageRequest, provider: Provider, estimate: Decimal | None) -> CallPermit:
        rate = retry_while_unavailable(circuit_breaker.rates).get(provider.name)

        def pace(calls: int, per_seconds: int) -> timedelta:
            return timedelta(seconds=self._rates.take(provider.name, calls=calls, per_seconds=per_seconds))

        try:
            return retry_while_unavailable(
                lambda: permits.begin_call(
                    claim,
                    provider=provider.name,
                    model=asked.model,
                    prompt=asked.prompt,
                    billable=provider.billable,
                    estimate=estimate,
                    deadline=settings.PROVIDER_TIMEOUT + _CALL_GRACE,
                    pace=rate and partial(pace, *rate),
                )
            )
        except StaleClaimError:
            raise AttemptCancelled("the claim is void") from None

    def _make(self, job: RunningAttempt, call: Call) -> dict[str, Any]:
        """Ask the provider, and keep what it made. Returns the receipt."""
        provider = self._providers.choose(call.choice.provider)
        with self._slots.released(), measured(provider.name, call.choice.model):
            answer = job.call(provider.generate(call.asked), timeout=settings.PROVIDER_TIMEOUT.total_seconds())
        cost = pricing.cost(call.choice.price_rule, answer.usage) if call.billable else Decimal(0)
        try:
            picture = image_check.check(answer.data, requested=call.asked.output_format)
            with self._slots.released():
                receipt = self._writer.write(job, picture, answer, call.choice, cost=cost, estimate=call.estimate)
        except ProviderError as error:
            error.cost = cost
            raise
        except AttemptCancelled:
            # Whatever ended the claim booked the estimate.
            claim = job.claim
            retry_while_unavailable(lambda: budgets.book_late(claim.request, claim.number, {}, cost))
            raise
        metrics.COST.labels(provider.name).inc(float(receipt["cost"] or 0))
        return receipt

    # --- Outcomes ---

    def _complete(self, claim: Claim, receipt: dict[str, Any]) -> None:
        done = retry_while_unavailable(lambda: lifecycle.complete(claim, **receipt))
        if done:  # else it may be the receipt of the claim that holds
            with self._slots.released(), suppress(OSError):  # one that stays does no harm
                receipts.drop(claim.request.pk)
        log("completed" if done else "claim-void", claim)

    def _give_back(self, claim: Claim, wait: timedelta, why: str, *, waits_for: str = "") -> None:
        retry_while_unavailable(lambda: lifecycle.release(claim, delay=wait, waits_for=waits_for))
        log("given-back", claim, why=why)

    def _snooze_or_fail(self, claim: Claim) -> None:
        """Try again later without using up an attempt, as often as a request may wait."""
        waits = claim.request.waits
        failure = _failure(_internal(), "", None)
        if waits < error_policy.MAX_WAITS:
            delay = RetryPolicy(base=settings.RETRY_DELAY).delay(waits + 1)
            retry_while_unavailable(lambda: lifecycle.snooze(claim, failure, delay=delay))
        else:
            retry_while_unavailable(lambda: lifecycle.fail(claim, failure))

    def _wait_for(self, what: str, goes_on: Callable[[], bool], claim: Claim, longest: timedelta, why: str) -> None:
        """Give the request back until somebody wakes those who wait for this, or the longest time is over."""
        self._give_back(claim, longest, why, waits_for=what)
        if not retry_while_unavailable(goes_on):  # it came about before anybody could see that we wait
            retry_while_unavailable(lambda: dispatch.make_due(what))

    def _after(self, error: ProviderError, claim: Claim, route: Route, call: Call | None) -> Claim | None:
        """Do what :func:`generation.providers.error_policy.decide` says. Returns the claim under which the next
        provider is to be asked."""
        request, provider = claim.request, call.choice.provider if call else ""
        if call is None:
            route.problems.append(error)
            route.left = []
        else:
            self._note_failure(error, call)
            route.failed(call.choice, error)
        decision = error_policy.decide(
            Situation(
                problems=route.problems,
                others_left=bool(route.left),
                attempts=request.attempts,
                max_attempts=request.max_attempts,
                waits=request.waits,
                unknown_outcomes=_earlier_unknown_outcomes(error, claim),
                refusal_may_fall_back=request.options.refusal_may_fall_back,
                billable=call is not None and call.billable,
            )
        )
        failure = _failure(error, provider, _may_have_cost(error, call))
        policy = RetryPolicy(base=settings.RETRY_DELAY)
        seconds = decision.problem.retry_after if isinstance(decision.problem, ProviderError) else None
        match decision.action:
            case Action.FALL_BACK:
                following = retry_while_unavailable(
                    lambda: lifecycle.fall_back(claim, failure, counts=decision.uses_attempt)
                )
                log("moved-on" if following else "claim-void", claim, code=error.code, provider=provider)
                return following
            case Action.SNOOZE:
                delay = policy.delay(request.waits + 1, retry_after=seconds)
                held = retry_while_unavailable(lambda: lifecycle.snooze(claim, failure, delay=delay))
                log("postponed" if held else "claim-void", claim, code=error.code, delay=delay.total_seconds())
            case Action.RETRY:
                delay = policy.delay(request.attempts, retry_after=seconds)
                held = retry_while_unavailable(lambda: lifecycle.retry_later(claim, failure, delay=delay))
                log("retry" if held else "claim-void", claim, code=error.code, delay=delay.total_seconds())
            case Action.FAIL:
                held = retry_while_unavailable(lambda: lifecycle.fail(claim, failure))
                log("failed" if held else "claim-void", claim, code=error.code)
        return None

    def _note_failure(self, error: ProviderError, call: Call) -> None:
        """Tell the circuit breaker."""
        choice = call.choice
        wait = RetryPolicy(base=settings.RETRY_DELAY).delay(1, retry_after=error.retry_after)
        retry_while_unavailable(
            lambda: circuit_breaker.failed(
                choice.provider, error.code, wait=wait, probe=call.probe, scope=error.scope, model=choice.model
            )
        )


def _earlier_unknown_outcomes(error: ProviderError, claim: Claim) -> int:
    """Count them only where they decide something."""
    if not error_policy.outcome_is_unknown(error):
        return 0
    return retry_while_unavailable(lambda: lifecycle.unknown_outcomes(claim.request))


def _may_have_cost(error: ProviderError, call: Call | None) -> Decimal | None:
    """Return what the failed call has cost in US dollars as far as that is known, else what it may have cost."""
    if call is None or not (error.sent and error_policy.may_be_billed(error.code)):
        return None
    return call.estimate if error.cost is None else error.cost


def _failure(error: ProviderError, provider: str, cost: Decimal | None) -> Failure:
    return Failure(
        message=error.message,
        code=error.code,
        retryable=error.retryable,
        cost=cost,
        provider=provider,
        provider_request_id=error.provider_request_id,
        stage=error.detail.get("stage", ""),
        category=", ".join(error.detail.get("categories", ())),
    )


def _internal(error: Exception | None = None, *, sent: bool = False) -> ProviderError:
    """Return the failure for an unclassified error. The client gets none of its text, which may hold anything."""
    passes = error_policy.has_retryable_phrase(str(error))
    message = "A temporary fault on our side" if passes else "A fault on our side"
    return ProviderError(message, code=ErrorCode.INTERNAL, sent=sent, retryable=passes)
