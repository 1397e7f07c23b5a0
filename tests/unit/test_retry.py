from datetime import timedelta

import pytest

from generation.providers.error_policy import has_retryable_phrase, is_retryable
from workers.policies.retry import LONGEST_DELAY, RetryPolicy

POLICY = RetryPolicy(base=timedelta(seconds=10))


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 10), (2, 20), (3, 40), (4, 80)])
def test_each_delay_is_twice_the_one_before(attempt: int, seconds: int) -> None:
    assert POLICY.delay(attempt, spread=0) == timedelta(seconds=seconds)


def test_jitter_adds_at_most_a_quarter() -> None:
    assert POLICY.delay(1, spread=1) == timedelta(seconds=12.5)
    assert {POLICY.delay(1) for _ in range(50)} != {POLICY.delay(1)}
    assert all(timedelta(seconds=10) <= POLICY.delay(1) <= timedelta(seconds=12.5) for _ in range(200))


def test_a_provider_that_asks_for_longer_gets_longer() -> None:
    assert POLICY.delay(1, retry_after=31, spread=0) == timedelta(seconds=31)


def test_a_provider_that_asks_for_less_gets_our_own_delay() -> None:
    assert POLICY.delay(1, retry_after=3, spread=0) == timedelta(seconds=10)


@pytest.mark.parametrize("attempt", [10, 1000])
@pytest.mark.parametrize("retry_after", [None, -5, 0, 1e9, float("inf")])
def test_no_delay_is_longer_than_the_longest(attempt: int, retry_after: float | None) -> None:
    assert POLICY.delay(attempt, retry_after=retry_after) == LONGEST_DELAY


@pytest.mark.parametrize("code", ["rate_limited", "unavailable", "timeout", "empty_result", "worker_lost", "storage"])
def test_a_temporary_failure_is_retried(code: str) -> None:
    assert is_retryable(code)


@pytest.mark.parametrize("code", ["refused_input", "invalid_request", "auth", "quota_exhausted", "invalid_image"])
def test_a_permanent_failure_is_not_retried(code: str) -> None:
    assert not is_retryable(code)


@pytest.mark.parametrize("text", ["Rate limit exceeded", "Network is down", "Service Unavailable", "a Temporary thing"])
def test_the_phrases_of_the_guide_are_known(text: str) -> None:
    assert has_retryable_phrase(text)
    assert not has_retryable_phrase("division by zero")
