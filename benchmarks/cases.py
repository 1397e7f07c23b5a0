"""What is measured, and what is hoped for."""

from __future__ import annotations

import base64
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from benchmarks import load, rows
from benchmarks.load import Load, Measured
from benchmarks.report import Figure
from benchmarks.stacks import Stacks
from tests.support.stack import Stack

_API: Final = "/api/visual-generation"
_STAFF: Final = "bob"
#: One reader for each web process: a call's own time is asked for, and more would measure the line before it.
_READERS: Final = 2
#: Of submits the rate is asked for, so there is always one in line.
_SUBMITTERS: Final = 32
#: Each case is measured in slices that alternate with those of the others, and the middle one counts. What else the
#: machine does for a moment then hits one slice of every case, and not every slice of one.
_SLICES: Final = 3
_READ_SECONDS: Final = 1
_SUBMIT_SECONDS: Final = 3

_BODY: Final = {
    "type": "coloring-page",
    "prompt": "A friendly dragon playing in a garden full of flowers",
    "priority": "normal",
    "projectId": "project-1",
    "pageId": "page-1",
    "metadata": {"title": "The dragon", "imageStyle": "watercolor", "aspectRatio": "portrait"},
}


def run(stacks: Stacks, say: Callable[[str], None]) -> Iterator[Figure]:
    """Measure everything, one case after the other."""
    say("reads")
    yield from _reads(stacks)
    say("statistics")
    yield from _first_looks(stacks)
    say("submits")  # last, since they add rows
    yield from _submits(stacks)


def _in_turns(loads: Mapping[str, Load], before_each: Callable[[], object]) -> dict[str, list[Measured]]:
    """The slices of each load."""
    slices: dict[str, list[Measured]] = {name: [] for name in loads}
    for _ in range(_SLICES):
        before_each()
        for name, one in loads.items():
            slices[name].append(load.run(one))
    return slices


def _middle(slices: Sequence[Measured]) -> Measured:
    """Of each column the middle one."""
    columns = [column.name for column in fields(Measured)]
    return Measured(**{name: statistics.median(getattr(one, name) for one in slices) for name in columns})


def _figure(case: str, measured: Measured, floor: Measured, goal: str = "", met: bool | None = None) -> Figure:
    floors = floor.rate / measured.rate
    return Figure(
        case,
        goal,
        met,
        p50=measured.p50,
        p99=measured.p99,
        slowest=measured.slowest,
        rate=measured.rate,
        floors=floors,
    )


# --- Reads ------------------------------------------------------------------------------------------------------------


def _reads(stacks: Stacks) -> Iterator[Figure]:
    floor_name = f"floor: an empty view, {_READERS} readers"
    loads = {floor_name: Load(port=stacks.floor.port, paths=["/"], connections=_READERS, seconds=_READ_SECONDS)}
    for name, paths, headers in _addresses(stacks):
        loads[name] = Load(
            port=stacks.full.port,
            paths=[f"{_API}/{path}" for path in paths],
            headers=headers,
            connections=_READERS,
            seconds=_READ_SECONDS,
        )
    middles = {name: _middle(slices) for name, slices in _in_turns(loads, before_each=lambda: None).items()}
    floor = middles.pop(floor_name)
    yield _figure(floor_name, floor, floor)
    for name, measured in middles.items():
        yield _figure(name, measured, floor, "p99 < 30 ms", measured.p99 < 30)


def _addresses(stacks: Stacks) -> Iterator[tuple[str, list[str], dict[str, str]]]:
    """Each case with the addresses that take turns, and who reads them."""
    owner, staff = (_bearer(stacks.full, name) for name in (rows.BIG_OWNER, _STAFF))
    middle = _ids(stacks, "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY id) FROM generation_requests")[0]
    projects = [f"project-{number}" for number in range(0, rows.PROJECTS, 10)]
    lists: dict[str, list[dict[str, str]]] = {
        "first page": [{}],
        "deep page": [{"cursor": base64.b64encode(urlencode({"p": middle}).encode()).decode()}],
        "createdAfter, nothing newer": [{"createdAfter": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}],
        "status=queued": [{"status": "queued"}],
        "status=completed": [{"status": "completed"}],
        "status=failed": [{"status": "failed"}],
        "projectId": [{"projectId": name} for name in projects],
        "projectId and status": [{"projectId": name, "status": "completed"} for name in projects],
    }
    for name, queries in lists.items():
        paths = [f"requests?{urlencode(query)}" for query in queries]
        yield f"list, owner: {name}", paths, owner
        yield f"list, staff: {name}", paths, staff

    front = _ids(stacks, "SELECT request_id FROM generation_queue ORDER BY priority_weight DESC, queued_at LIMIT 200")
    queued = _ids(stacks, "SELECT request_id FROM generation_queue ORDER BY random() LIMIT 200")
    done = _ids(stacks, "SELECT id FROM generation_requests WHERE status = 'completed' ORDER BY random() LIMIT 200")
    for name, ids, headers in (
        ("queued, at the front", front, staff),
        ("queued", queued, staff),
        ("completed", done, staff),
        ("not modified (304)", done, staff | {"If-None-Match": "*"}),
    ):
        yield f"status: {name}", [f"status/{found}?imageData=false" for found in ids], headers
    yield "queue/status", ["queue/status"], staff
    yield "metrics", ["metrics"], staff


# --- Submits ----------------------------------------------------------------------------------------------------------


def _submits(stacks: Stacks) -> Iterator[Figure]:
    def post(
        stack: Stack, path: str, headers: dict[str, str], *, body: object = _BODY, connections: int = _SUBMITTERS
    ) -> Load:
        return Load(
            port=stack.port,
            paths=[f"{_API}/{path}"],
            connections=connections,
            seconds=_SUBMIT_SECONDS,
            method="POST",
            body=json.dumps(body),
            headers=headers | {"Content-Type": "application/json"},
        )

    owner = _bearer(stacks.full, rows.BIG_OWNER)
    batch = {"requests": [_BODY] * 100, "batchOptions": {"maxConcurrent": 5}}
    slices = _in_turns(
        {
            "floor": post(stacks.floor, "submit", {}),
            "none": post(stacks.empty, "submit", _bearer(stacks.empty, rows.BIG_OWNER)),
            "many": post(stacks.full, "submit", owner),
            "batch": post(stacks.full, "batch", owner, body=batch, connections=1),
            "batch without a limit": post(stacks.full, "batch", owner, body={"requests": [_BODY] * 100}, connections=1),
        },
        before_each=lambda: stacks.empty_database.execute("TRUNCATE generation_requests CASCADE"),
    )
    middles = {name: _middle(taken) for name, taken in slices.items()}
    floor = middles["floor"]
    yield _figure(f"floor: an empty view, {_SUBMITTERS} submitters", floor, floor)
    yield _figure("submit, nothing queued", middles["none"], floor)
    # Of the two in each turn, so that what else the machine did then cancels out.
    ratios = (many.rate / none.rate for none, many in zip(slices["none"], slices["many"], strict=True))
    kept = statistics.median(ratios)
    yield _figure("submit, all queued", middles["many"], floor, f"≥ 0.9 × nothing queued (is {kept:.2f})", kept >= 0.9)
    for name in ("batch", "batch without a limit"):
        measured = middles[name]
        yield _figure(name.replace("batch", "batch of 100"), measured, floor, "p50 < 150 ms", measured.p50 < 150)


# --- What is remembered for some seconds, when it is not --------------------------------------------------------------

_LOOK = """
import time
from generation import statistics
for _ in range(5):
    statistics.forget()
    began = time.perf_counter()
    statistics.{name}()
    print((time.perf_counter() - began) * 1000)
"""


def _first_looks(stacks: Stacks) -> Iterator[Figure]:
    for name in ("queue_status", "metrics"):
        printed = stacks.full.manage("shell", "-v0", "-c", _LOOK.format(name=name))
        yield Figure.of_times(f"statistics.{name}, nothing cached", list(map(float, printed.split())), p50=1000)


# --- Helpers ----------------------------------------------------------------------------------------------------------


def _bearer(stack: Stack, name: str) -> dict[str, str]:
    with stack.client(name) as client:
        return {"Authorization": client.headers["Authorization"]}


def _ids(stacks: Stacks, query: Any) -> list[str]:
    return [str(row[0]) for row in stacks.database.execute(query)]
