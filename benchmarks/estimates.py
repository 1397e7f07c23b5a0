"""Estimates beside what came of them: requests that a vendor answers after different times."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import httpx2

from benchmarks.engines import BODY, Engine, engine
from benchmarks.floors import Floors
from benchmarks.plan import Plan
from benchmarks.report import Figure
from generation.queue.forecasts import Measured, Start, accuracy
from tests.fakes.control import FakeProvider
from tests.support.stack import wait_until

_SLOTS: Final = 10
#: Requests before the measured ones, for the figures and the factors, and seconds for which these are cached.
_FIRST: Final = 900
_CACHED: Final = 26.0
#: Requests that are submitted at once. The next ones follow when so many are left.
_AT_ONCE: Final = 100
_LEFT: Final = 30
#: Of the vendor: the median seconds and the deviation of the logarithm.
_MEDIAN: Final = 1.0
_SIGMA: Final = 0.5
#: Goals. There is no upper one: waits of some seconds differ by less than the second that startP90 is rounded up by.
_COVERED: Final = 0.85
_ERROR: Final = 0.3
_STARTS: Final = """
SELECT request_id, min(extract(epoch FROM at)) FROM generation_status_changes WHERE reason = 'claimed' GROUP BY 1
"""


def run(plan: Plan, _: Floors) -> Iterator[Figure]:
    """Measure the estimates that clients read right after their submits."""
    count = plan.size(500, quick=200)
    plan.say(f"estimates: {count} requests in bursts")
    chance = random.Random(1)
    delays = [f"delay={chance.lognormvariate(0, _SIGMA) * _MEDIAN:.2f}" for _ in range(count + _FIRST)]
    with FakeProvider() as vendor, engine(plan.folder, "estimates", 14, MAX_CONCURRENT_REQUESTS=str(_SLOTS)) as up:
        up.env |= {"PROVIDERS": "openai", "OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": vendor.openai_url}
        vendor.script(*delays)
        up.start("web", "dispatcher", "worker")
        up.wait_ready()
        with up.client() as client:
            _in_bursts(up, client, _FIRST)
            time.sleep(_CACHED)
            given = _in_bursts(up, client, count)
        found = accuracy(_measured(up, given))
    if found is None:
        raise RuntimeError("no request had to wait")
    covered = Figure("started before startP90", share=found.covered_p90, count=found.count)
    yield covered.also(f"≥ {_COVERED:.0%}", met=found.covered_p90 >= _COVERED)
    yield Figure("started before startP50", share=found.covered_p50, count=found.count)
    error = Figure("median relative error of startP50", share=found.error, count=found.count)
    yield error.also(f"< {_ERROR:.0%}", met=found.error < _ERROR)


#: The estimate of a request, and when it was read.
_Given = dict[str, tuple[Start, float]]


def _in_bursts(up: Engine, client: httpx2.Client, count: int) -> _Given:
    """Submit so many requests and wait for their ends. Return their estimates."""
    before, given = up.completed(), _Given()
    while len(given) < count:
        left = before + len(given) - _LEFT
        wait_until(partial(_has_completed, up, left), seconds=120, what="most of a burst")
        given |= _submit(client, min(_AT_ONCE, count - len(given)))
    wait_until(partial(_has_completed, up, before + count), seconds=120, what="all requests")
    return given


def _submit(client: httpx2.Client, count: int) -> _Given:
    batch = client.post("/batch", json={"requests": [BODY] * count}).raise_for_status().json()
    given = _Given()
    for request_id in (one["requestId"] for one in batch["requests"]):
        shown: dict[str, Any] = client.get(f"/status/{request_id}?imageData=false").raise_for_status().json()
        estimate = shown.get("estimate") or {"startP50": 0, "startP90": 0}  # it has started
        given[request_id] = Start(estimate["startP50"], estimate["startP90"]), time.time()
    return given


def _measured(up: Engine, given: _Given) -> list[Measured]:
    starts: dict[str, Any] = dict(up.database.execute(_STARTS).fetchall())
    return [
        Measured(start, start, max(0.0, float(starts[request_id]) - at)) for request_id, (start, at) in given.items()
    ]


def _has_completed(up: Engine, count: int) -> bool:
    return up.completed() >= count
