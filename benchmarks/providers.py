"""The memory of a worker with many calls of a vendor under way. The vendor is a fake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from benchmarks.engines import BODY, engine
from benchmarks.floors import Floors
from benchmarks.plan import Plan
from benchmarks.report import Figure
from tests.fakes.control import FakeProvider
from tests.support.stack import wait_until

_IN_FLIGHT: Final = 200
_MB: Final = 300.0


def run(plan: Plan, floors: Floors) -> Iterator[Figure]:
    """Hold all calls, and look at the worker before them, meanwhile and after."""
    plan.say(f"providers: {_IN_FLIGHT} calls under way")
    with FakeProvider() as vendor, engine(plan.folder, "held", 11, MAX_CONCURRENT_REQUESTS=str(_IN_FLIGHT)) as up:
        vendor.script(default="hold")
        up.env |= {"PROVIDERS": "openai", "OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": vendor.openai_url}
        up.start("web", "dispatcher", "worker")
        up.wait_ready()
        idle = Figure("the same without a call", memory=up.memory("worker"))
        with up.client() as client:
            for _ in range(_IN_FLIGHT // 100):
                client.post("/batch", json={"requests": [BODY] * 100}).raise_for_status()
        wait_until(lambda: vendor.stats().active == _IN_FLIGHT, seconds=120, what="all calls under way")
        waiting = up.memory("worker")
        vendor.script()
        vendor.release()
        most = waiting
        while up.unfinished(_IN_FLIGHT):
            most = max(most, up.memory("worker"))
    figure = Figure(f"a worker's memory with {_IN_FLIGHT} calls under way, at most", memory=most)
    yield figure.beside(idle, "no call").also(f"< {_MB:.0f} MB (waiting {waiting:.0f})", met=most < _MB)
