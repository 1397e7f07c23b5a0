"""The HTTP API beside an empty view and the peer: reads of a full table, and submits to an empty and a full queue."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import reads, stacks, submits
from benchmarks.floors import Floors
from benchmarks.plan import Plan
from benchmarks.report import Figure


def run(plan: Plan, floors: Floors) -> Iterator[Figure]:
    """Measure everything, one case after the other."""
    plan.say(f"API: making {plan.requests:,} requests, {plan.queued:,} of them queued")
    with stacks.running(plan) as up:
        plan.say("API: reads")
        yield from reads.run(plan, up)
        plan.say("API: submits")  # last, since they add rows
        yield from submits.run(plan, up, floors)
