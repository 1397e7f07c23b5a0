"""What reads of a full table take."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

import httpx2

from benchmarks import rows
from benchmarks.load import Load
from benchmarks.plan import Plan
from benchmarks.report import Figure
from benchmarks.stacks import API, Stacks, bearer
from benchmarks.turns import in_turns, middle

_STAFF: Final = "bob"
#: One reader for each web process: a call's own time is asked for, and more would measure the line before it.
_READERS: Final = 2
_SECONDS: Final = 1
_SLICES_OF_TIMES: Final = 3
#: Goals: p99 in ms, and speed as a share of that of an empty view.
_LIST: Final = 20.0
_FIGURES: Final = 20.0
_OTHERS: Final = 30.0
_STATUS_SHARE: Final = 0.4
_UNCHANGED_SHARE: Final = 0.6


@dataclass(frozen=True, kw_only=True)
class _Case:
    """Addresses that take turns, who reads them, and what is hoped for."""

    paths: list[str]
    headers: dict[str, str]
    p99: float | None = None
    share: float | None = None

    def judged(self, figure: Figure, floor: Figure) -> Figure:
        figure = figure.beside(floor, "empty view")
        if self.p99:
            figure = figure.hoping(p99=self.p99)
        if self.share:
            figure = figure.at_least(self.share, floor, "empty view")
        return figure


def run(plan: Plan, stacks: Stacks) -> Iterator[Figure]:
    """An empty view first, then every kind of read."""
    cases = dict(_cases(stacks))
    loads = {
        name: Load(
            port=stacks.full.port,
            paths=[f"{API}/{path}" for path in case.paths],
            headers=case.headers,
            connections=_READERS,
            seconds=_SECONDS,
        )
        for name, case in cases.items()
    }
    for one in loads.values():  # what is loaded and opened once is no part of a slice
        httpx2.get(f"{stacks.full.base_url}{one.paths[0]}", headers=one.headers, timeout=60)
    floor_name = f"floor: empty view, {_READERS} readers"
    loads[floor_name] = Load(port=stacks.floor.port, paths=["/"], connections=_READERS, seconds=_SECONDS)
    # The goals that are ratios need more slices than those that are times.
    ratios = {name: one.run for name, one in loads.items() if name == floor_name or cases[name].share}
    times = {name: one.run for name, one in loads.items() if name not in ratios}
    taken = in_turns(times, slices=min(_SLICES_OF_TIMES, plan.slices)) | in_turns(ratios, slices=plan.slices)
    floor = Figure.of(middle(taken[floor_name]), floor_name)
    yield floor
    for name, case in cases.items():
        yield case.judged(Figure.of(middle(taken[name]), name), floor)


def _cases(stacks: Stacks) -> Iterator[tuple[str, _Case]]:
    owner, staff = (bearer(stacks.full, name) for name in (rows.BIG_OWNER, _STAFF))
    deep = _ids(stacks, "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY id) FROM generation_requests")[0]
    projects = [f"project-{number}" for number in range(0, rows.PROJECTS, 10)]
    lists: dict[str, list[dict[str, str]]] = {
        "first page": [{}],
        "deep page": [{"cursor": base64.b64encode(urlencode({"p": deep}).encode()).decode()}],
        "createdAfter, nothing newer": [{"createdAfter": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}],
        "status=queued": [{"status": "queued"}],
        "status=completed": [{"status": "completed"}],
        "status=failed": [{"status": "failed"}],
        "projectId": [{"projectId": name} for name in projects],
        "projectId and status": [{"projectId": name, "status": "completed"} for name in projects],
    }
    for name, queries in lists.items():
        paths = [f"requests?{urlencode(query)}" for query in queries]
        yield f"list, owner: {name}", _Case(paths=paths, headers=owner, p99=_LIST)
        yield f"list, staff: {name}", _Case(paths=paths, headers=staff, p99=_LIST)

    front = _ids(stacks, "SELECT request_id FROM generation_queue ORDER BY priority_weight DESC, queued_at LIMIT 200")
    queued = _ids(stacks, "SELECT request_id FROM generation_queue ORDER BY random() LIMIT 200")
    done = _ids(stacks, "SELECT id FROM generation_requests WHERE status = 'completed' ORDER BY random() LIMIT 200")
    for name, ids, headers, share in (
        ("queued, at the front", front, staff, _STATUS_SHARE),
        ("queued", queued, staff, _STATUS_SHARE),
        ("completed", done, staff, None),
        ("not modified (304)", done, staff | {"If-None-Match": "*"}, _UNCHANGED_SHARE),
    ):
        paths = [f"status/{found}?imageData=false" for found in ids]
        yield f"status: {name}", _Case(paths=paths, headers=headers, share=share, p99=None if share else _OTHERS)
    yield "queue/status", _Case(paths=["queue/status"], headers=staff, p99=_FIGURES)
    yield "metrics", _Case(paths=["metrics"], headers=staff, p99=_FIGURES)


def _ids(stacks: Stacks, query: Any) -> list[str]:
    return [str(row[0]) for row in stacks.database.execute(query)]
