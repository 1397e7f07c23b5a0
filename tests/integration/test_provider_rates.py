"""The rate of a provider's calls, which Redis counts by its own clock."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from uuid import uuid4

import pytest
import redis
from django.conf import settings

from tests.support.stack import ROOT, wait_until
from workers.policies.rate_limit import RateLimiter


def _taken_by_a_clock_that_is_wrong(seconds: int, provider: str) -> float:
    """What ``take`` returns in a process whose clock is so wrong."""
    script = (
        "import sys, time; from workers.policies.rate_limit import RateLimiter\n"
        f"print(RateLimiter({settings.REDIS_URL!r}).take({provider!r}, calls=2, per_seconds=60))"
    )
    environment = os.environ | {"CLOCK_SHIFT": str(seconds), "PYTHONPATH": f"{ROOT / 'tests/support/clock'}:{ROOT}"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_worker_whose_clock_is_wrong_counts_as_any_other(seconds: int) -> None:
    provider = f"openai-{uuid4().hex}"
    rates = RateLimiter(settings.REDIS_URL)
    assert _taken_by_a_clock_that_is_wrong(seconds, provider) == 0.0
    assert rates.take(provider, calls=2, per_seconds=60) == 0.0
    assert 40 < rates.take(provider, calls=2, per_seconds=60) <= 60
    assert 40 < _taken_by_a_clock_that_is_wrong(seconds, provider) <= 60


def test_a_rate_moves_on_with_the_calls_that_were_taken() -> None:
    provider = f"openai-{uuid4().hex}"
    rates = RateLimiter(settings.REDIS_URL)
    assert [rates.take(provider, calls=3, per_seconds=1) for _ in range(3)] == [0.0] * 3
    assert 0 < rates.take(provider, calls=3, per_seconds=1) <= 1
    wait_until(lambda: rates.take(provider, calls=3, per_seconds=1) == 0.0, seconds=5, what="another call")


def test_calls_of_the_future_do_not_stop_a_provider() -> None:
    """As after the clock of Redis itself was set back."""
    provider = f"openai-{uuid4().hex}"
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.zadd(f"vga:rate:{provider}", {"a call": (time.time() + 3600) * 1_000_000})
        assert RateLimiter(settings.REDIS_URL).take(provider, calls=1, per_seconds=60) == 0.0
        assert 0 < client.pttl(f"vga:rate:{provider}") <= 60_000
