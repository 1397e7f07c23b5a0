"""What every error code means, and what becomes of a request in every situation."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

import pytest

from generation.providers.error_policy import (
    MAX_WAITS,
    POLICIES,
    Action,
    ErrorScope,
    Fallback,
    Health,
    Situation,
    decide,
    is_retryable,
    may_be_billed,
)
from generation.states import ErrorCode


@dataclass(frozen=True)
class Failed:
    code: str
    marked: bool = False
    sent: bool = True
    scope: ErrorScope = ErrorScope.REQUEST

    @property
    def retryable(self) -> bool:
        return self.marked or is_retryable(self.code)


#: code: retryable, other providers may be asked, uses up an attempt on a fallback, may be billed, health.
TABLE: Final = {
    "refused_input": (False, False, True, False, Health.ANSWERED),
    "refused_output": (False, False, True, True, Health.ANSWERED),
    "invalid_request": (False, False, False, False, Health.ANSWERED),
    "auth": (False, True, False, False, Health.NEEDS_STAFF),
    "quota_exhausted": (False, True, False, False, Health.NEEDS_STAFF),
    "rate_limited": (True, True, False, False, Health.BUSY),
    "unavailable": (True, True, False, False, Health.TROUBLE),
    "timeout": (True, True, False, False, Health.TROUBLE),
    "unknown_outcome": (True, True, True, True, Health.TROUBLE),
    "empty_result": (True, True, True, True, Health.ANSWERED),
    "invalid_image": (False, False, True, True, Health.ANSWERED),
    "model_retired": (False, True, False, False, Health.NEEDS_STAFF),
    "storage": (True, False, True, True, Health.ANSWERED),
    "worker_lost": (True, False, True, False, Health.NOTHING),
    "internal": (False, False, True, True, Health.NOTHING),
}
REFUSALS: Final = {"refused_input", "refused_output"}


def after(*problems: Failed, **given: object) -> Situation:
    values: dict[str, object] = {
        "others_left": False,
        "attempts": 1,
        "max_attempts": 3,
        "waits": 0,
        "unknown_outcomes": 0,
    }
    return Situation(problems=problems, **values | given)  # type: ignore[arg-type]


def test_every_code_has_one_policy() -> None:
    assert set(POLICIES) == set(ErrorCode) == set(TABLE)


@pytest.mark.parametrize("code", TABLE)
def test_the_table_of_codes(code: str) -> None:
    retryable, others, uses_attempt, billed, health = TABLE[code]
    assert is_retryable(code) is retryable
    assert (POLICIES[code].fallback is Fallback.YES) is others
    assert POLICIES[code].uses_attempt is uses_attempt
    assert may_be_billed(code) is billed
    assert POLICIES[code].health is health


SITUATIONS: Final = list(itertools.product((True, False), (1, 3), (0, MAX_WAITS), (0, 1), (True, False), (True, False)))


@pytest.mark.parametrize("code", TABLE)
def test_every_code_in_every_situation(code: str) -> None:
    for others_left, attempts, waits, unknown_outcomes, on_refusal, sent in SITUATIONS:
        given = {
            "others_left": others_left,
            "attempts": attempts,
            "waits": waits,
            "unknown_outcomes": unknown_outcomes,
            "refusal_may_fall_back": on_refusal,
        }
        decision = decide(after(Failed(code, sent=sent), **given))
        retryable, others, uses_attempt, _, _ = TABLE[code]
        attempts_left, uses_attempt = attempts < 3, uses_attempt and sent
        others = others or (code in REFUSALS and on_refusal) or (code == "invalid_request" and not sent)
        waiting = code == "rate_limited" or (code == "storage" and not sent)
        if code == "unknown_outcome" and unknown_outcomes:
            expected = Action.FAIL
        elif others_left and others and (attempts_left or not uses_attempt):
            expected = Action.FALL_BACK
        elif waiting and waits < MAX_WAITS:
            expected = Action.SNOOZE
        elif retryable and attempts_left and not (code == "storage" and sent):
            expected = Action.RETRY
        else:
            expected = Action.FAIL
        assert (decision.action, decision.uses_attempt) == (expected, uses_attempt), (given, sent)


def test_a_free_call_may_end_unknown_as_often_as_attempts_allow() -> None:
    unknown = Failed("unknown_outcome")
    assert decide(after(unknown, unknown_outcomes=5, billable=False)).action is Action.RETRY


@pytest.mark.parametrize("scope", ErrorScope)
def test_an_invalid_request_goes_on_only_with_a_limit_of_the_model(scope: ErrorScope) -> None:
    decision = decide(after(Failed("invalid_request", scope=scope), others_left=True))
    assert decision.action is (Action.FAIL if scope is ErrorScope.REQUEST else Action.FALL_BACK)


@pytest.mark.parametrize(
    ("earlier", "newest", "action", "deciding"),
    [
        ("unavailable", "quota_exhausted", Action.RETRY, "unavailable"),
        ("rate_limited", "auth", Action.SNOOZE, "rate_limited"),
        ("rate_limited", "unknown_outcome", Action.RETRY, "rate_limited"),
        ("auth", "quota_exhausted", Action.FAIL, "quota_exhausted"),
        ("unavailable", "refused_input", Action.FAIL, "refused_input"),
        ("rate_limited", "invalid_image", Action.FAIL, "invalid_image"),
        ("unavailable", "invalid_request", Action.FAIL, "invalid_request"),
        ("model_retired", "unavailable", Action.RETRY, "unavailable"),
    ],
)
def test_of_several_failures_the_most_promising_decides(
    earlier: str, newest: str, action: Action, deciding: str
) -> None:
    decision = decide(after(Failed(earlier), Failed(newest)))
    assert (decision.action, decision.problem.code) == (action, deciding)


def test_an_unclassified_error_is_retried_where_it_was_marked() -> None:
    assert decide(after(Failed("internal", marked=True))).action is Action.RETRY
    assert decide(after(Failed("internal"))).action is Action.FAIL
