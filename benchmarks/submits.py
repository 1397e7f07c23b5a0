"""What submits take, beside an empty view and the peer."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from benchmarks import peer, rows
from benchmarks.floors import Floors
from benchmarks.load import Load
from benchmarks.plan import Plan
from benchmarks.report import Figure
from benchmarks.stacks import API, Stacks, bearer
from benchmarks.turns import in_turns, middle

#: Of submits the rate is asked for, so there is always one in line.
_SUBMITTERS: Final = 32
#: Two for each web process.
_BATCHERS: Final = 4
_BATCH: Final = 100
#: Goals.
_PEERS: Final = 1.0
_P99: Final = 60.0
_KEPT: Final = 0.9
_ITEMS: Final = 8_000

_BODY: Final = {
    "type": "coloring-page",
    "prompt": "A friendly dragon playing in a garden full of flowers",
    "priority": "normal",
    "projectId": "project-1",
    "pageId": "page-1",
    "metadata": {"title": "The dragon", "imageStyle": "watercolor", "aspectRatio": "portrait"},
}


def run(plan: Plan, stacks: Stacks, floors: Floors) -> Iterator[Figure]:
    """Floor, peer, and us with an empty and with a full queue; then batches."""
    seconds = plan.size(3, quick=2)

    def post(
        port: int, path: str, headers: dict[str, str], *, body: object = _BODY, connections: int = _SUBMITTERS
    ) -> Load:
        return Load(
            port=port,
            paths=[path],
            connections=connections,
            seconds=seconds,
            method="POST",
            body=json.dumps(body),
            headers=headers | {"Content-Type": "application/json"},
        )

    def batch(**options: Any) -> Load:
        body = {"requests": [_BODY] * _BATCH, **options}
        return post(stacks.full.port, f"{API}/batch", owner, body=body, connections=_BATCHERS)

    def clear() -> None:
        stacks.empty_database.execute("TRUNCATE generation_requests CASCADE")
        if stacks.peer:
            stacks.peer.clear()

    owner = bearer(stacks.full, rows.BIG_OWNER)
    loads = {
        "floor": post(stacks.floor.port, "/submit", {}),
        "none": post(stacks.empty.port, f"{API}/submit", bearer(stacks.empty, rows.BIG_OWNER)),
        "many": post(stacks.full.port, f"{API}/submit", owner),
        "batch of 100": batch(batchOptions={"maxConcurrent": 5}),
        "batch of 100 without a limit": batch(),
    }
    peers = {"peer": stacks.peer, "full peer": stacks.full_peer}
    loads |= {name: post(one.port, peer.SUBMIT, {}) for name, one in peers.items() if one}
    for load in loads.values():  # so that no slice waits for what is loaded and opened once
        replace(load, seconds=1).run()
    taken = in_turns({name: load.run for name, load in loads.items()}, slices=plan.slices, before_each=clear)

    floor = Figure.of(middle(taken["floor"]), f"floor: empty view, {_SUBMITTERS} submitters")
    yield floor
    queues = {"none": ("peer", "submit, nothing queued"), "many": ("full peer", f"submit, {plan.queued:,} queued")}
    theirs = {
        name: Figure.of(middle(taken[other]), f"peer: {case}").beside(floor, "empty view")
        for name, (other, case) in queues.items()
        if other in taken
    }
    yield from theirs.values()

    def ours(name: str) -> Figure:
        figure = Figure.of(middle(taken[name]), queues[name][1])
        return figure.beside(floor, "empty view", peer=theirs.get(name)).hoping(p99=_P99)

    figure = ours("none")
    yield figure.at_least(_PEERS, theirs["none"], "peer") if theirs else figure
    # Of the two in each turn, so that what else the machine did then cancels out.
    kept = statistics.median(many.rate / none.rate for none, many in zip(taken["none"], taken["many"], strict=True))
    figure = ours("many")
    figure = figure.at_least(_PEERS, theirs["many"], "peer") if theirs else figure
    yield figure.also(f"≥ {_KEPT} × nothing queued (is {kept:.2f})", met=kept >= _KEPT)

    for name in ("batch of 100", "batch of 100 without a limit"):
        measured = Figure.of(middle(taken[name]), f"{name} (per s: items)")
        items = (measured.rate or 0) * _BATCH
        figure = replace(measured, rate=items, least=float(_ITEMS)).beside(floors.insert, "INSERT")
        yield figure.also(f"≥ {_ITEMS:,} items/s", met=items >= _ITEMS)
