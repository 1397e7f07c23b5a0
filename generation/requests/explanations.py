"""Why a request waits and when it is expected to start, in sentences for the people who wait. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from generation.queue.forecasts import Estimate
from generation.requests.waiting_reasons import Why
from generation.states import ErrorCode, PauseScope, Status, WaitReason

_MINUTE: Final = 60
_HOUR: Final = 3_600
_DAY: Final = 86_400
_STATUSES: Final[Mapping[str | None, str]] = {
    Status.QUEUED: "is in the queue",
    Status.IN_PROGRESS: "is being generated",
    Status.FAILED: "failed, so that one needs a retry",
    Status.CANCELLED: "was cancelled, so that one needs a retry",
    Status.COMPLETED: "has just been generated",
}


def explain(reasons: Sequence[Why], estimate: Estimate | None, *, possible: bool, now: datetime) -> list[str]:
    """Return sentences about a queued request: the reasons in their order, then the estimate."""
    sentences = [] if possible else ["No enabled model of a configured provider can do what this request asks for."]
    sentences += [_SENTENCES[why.reason](why.facts, now) for why in reasons]
    sentences += _estimate(estimate)
    if any(why.facts.get("aheadOthers") is not None for why in reasons):
        sentences.append("The position may rise when others submit requests, since owners take turns.")
    return sentences


def first(reasons: Sequence[Why], now: datetime) -> str:
    """Return the sentence of the first reason, or an empty string."""
    return next((_SENTENCES[why.reason](why.facts, now) for why in reasons), "")


def wait(estimate: Estimate) -> str:
    """Return when a request starts, in a few words."""
    if estimate.start_p90 <= 1:
        return "Starts now"
    return f"Starts in about {_span(estimate.start_p50, estimate.start_p90)}"


def _estimate(estimate: Estimate | None) -> Iterator[str]:
    if estimate is None:
        yield "When it starts cannot be estimated while this is so."
        return
    done = _span(estimate.done_p50, estimate.done_p90, units=_LONG)
    if estimate.start_p90 <= 1:
        yield f"It is expected to start now and to be done in about {done}."
    else:
        start = _span(estimate.start_p50, estimate.start_p90, units=_LONG)
        yield f"It is expected to start in about {start} and to be done in about {done}."
    if estimate.basis == "default":
        yield "That is a guess, since too few requests of this type were measured."


#: Seconds of a unit, its name, and its name for several.
_Units = Sequence[tuple[int, str, str]]
_LONG: Final[_Units] = (
    (_DAY, "day", "days"),
    (_HOUR, "hour", "hours"),
    (_MINUTE, "minute", "minutes"),
    (1, "second", "seconds"),
)
_SHORT: Final[_Units] = ((_DAY, "d", "d"), (_HOUR, "h", "h"), (_MINUTE, "min", "min"), (1, "s", "s"))


def _span(low: int, high: int, *, units: _Units = _SHORT) -> str:
    """Return two durations in the same unit, such as ``2–4 min``, or in two."""
    (first, one, many), (last, *names) = _in_unit(low, units), _in_unit(high, units)
    if [one, many] != names:
        return f"{_named(first, one, many)} to {_named(last, *names)}" if low else f"{_named(last, *names)} at most"
    if first == last:
        return _named(last, *names)
    return f"{first}–{last} {many}" if units is _SHORT else f"{first} to {last} {many}"


def _in_unit(seconds: float, units: _Units) -> tuple[int, str, str]:
    size, one, many = next((unit for unit in units if seconds >= 2 * unit[0]), units[-1])
    return round(seconds / size), one, many


def _named(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _moment(until: datetime, now: datetime) -> str:
    seconds = max(1.0, (until - now).total_seconds())
    date = f" on {until.day} {until:%B}" if until.date() != now.date() else ""
    return f"{until:%H:%M:%S} UTC{date}, in about {_named(*_in_unit(seconds, _LONG))}"


def _error(code: str | None) -> str:
    label = ErrorCode(code).label if code in ErrorCode.values else ""
    return label[:1].lower() + label[1:]


def _requests(count: int) -> str:
    return "1 request is" if count == 1 else f"{count:,} requests are"


# --- The sentence of each reason --------------------------------------------------------------------------------------


def _paused(facts: Mapping[str, Any], _: datetime) -> str:
    what = {
        PauseScope.EVERYTHING: "all requests",
        PauseScope.PRIORITY: f"requests of priority {facts['value']}",
        PauseScope.TYPE: f"requests of type {facts['value']}",
        PauseScope.PROVIDER: f"the provider {facts['value']}, which this request needs",
    }[facts["scope"]]
    return f"Staff have paused {what}" + (f": {facts['why'].rstrip('.')}." if facts["why"] else ".")


def _reference(facts: Mapping[str, Any], _: datetime) -> str:
    if facts["requestId"] is None:
        return "An image that it needs was deleted."
    return f"It waits for the image of {facts['requestId']}, which {_STATUSES.get(facts['status'], 'was deleted')}."


def _not_before(facts: Mapping[str, Any], now: datetime) -> str:
    return f"It is not to start before {_moment(facts['until'], now)}."


def _retry(facts: Mapping[str, Any], now: datetime) -> str:
    error = _error(facts["errorCode"])
    return (
        f"Its last attempt failed{f' ({error})' if error else ''}. The next one is at {_moment(facts['until'], now)}."
    )


def _batch_limit(facts: Mapping[str, Any], _: datetime) -> str:
    return f"{_requests(facts['running'])} in progress in its batch, which allows {facts['max']} at once."


def _key_limit(_: Mapping[str, Any], __: datetime) -> str:
    return "Its API key already has as many requests in progress as it may have at once."


def _provider_suspended(facts: Mapping[str, Any], now: datetime) -> str:
    error = _error(facts["code"])
    why = f": {error}" if error else ""
    return f"The provider {facts['provider']} is not called until {_moment(facts['until'], now)}{why}."


def _provider_rate(facts: Mapping[str, Any], now: datetime) -> str:
    return f"The provider {facts['provider']} takes no more calls until {_moment(facts['until'], now)}."


def _no_worker(_: Mapping[str, Any], __: datetime) -> str:
    return "No worker is running, so nothing starts until staff start one."


def _no_dispatcher(_: Mapping[str, Any], __: datetime) -> str:
    return "No dispatcher is running, so waiting requests may not be sent to the workers until staff start one."


def _queue(facts: Mapping[str, Any], _: datetime) -> str:
    if not facts["ahead"]:
        return "It is the next in the queue."
    parts = []
    if facts["aheadMorePressing"]:
        parts.append(f"{facts['aheadMorePressing']:,} with a higher priority")
    if facts["aheadOthers"]:
        parts.append(f"{facts['aheadOthers']:,} of others who take turns")
    details = f", {' and '.join(parts)}" if parts else ""
    return f"{_requests(facts['ahead'])} ahead of it{details}; the workers do {facts['slots']:,} at once."


_SENTENCES: Final[Mapping[WaitReason, Callable[[Mapping[str, Any], datetime], str]]] = {
    WaitReason.PAUSED: _paused,
    WaitReason.REFERENCE: _reference,
    WaitReason.NOT_BEFORE: _not_before,
    WaitReason.RETRY: _retry,
    WaitReason.BATCH_LIMIT: _batch_limit,
    WaitReason.KEY_LIMIT: _key_limit,
    WaitReason.PROVIDER_SUSPENDED: _provider_suspended,
    WaitReason.PROVIDER_RATE: _provider_rate,
    WaitReason.NO_WORKER: _no_worker,
    WaitReason.NO_DISPATCHER: _no_dispatcher,
    WaitReason.QUEUE: _queue,
}
