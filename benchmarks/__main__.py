"""``python -m benchmarks``: measure, print one table, keep it as JSON with charts, and say what got slower since an
older run."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Final

from benchmarks import (
    api,
    charts,
    cold,
    engine,
    estimates,
    floors,
    images,
    load,
    peer,
    providers,
    realtime,
    references,
    report,
    staff,
    waiting,
    webhooks,
)
from benchmarks.floors import Floors
from benchmarks.plan import Plan
from benchmarks.report import Figure

ROOT = Path(__file__).resolve().parent.parent

#: What each part measures. They run in this order; the floors come before all of them.
PARTS: Final[dict[str, tuple[str, Callable[[Plan, Floors], Iterable[Figure]]]]] = {
    "api": ("reads of a full table; submits and batches to a full and to an empty queue", api.run),
    "engine": ("submit to provider call; requests a second; 200 and 1,000 slots; dispatcher", engine.run),
    "images": ("images of 2 MB from a vendor over HTTP: rate, processor time, memory; beside LiteLLM", images.run),
    "providers": ("memory with 200 calls of a vendor under way", providers.run),
    "realtime": ("live updates to 1,000 sockets; 5,000 idle sockets", realtime.run),
    "waiting": ("calls that wait: overhead of /v1, 500 waits; a key beside a token", waiting.run),
    "estimates": ("waits that were estimated beside those that came, with a vendor of varying speed", estimates.run),
    "references": ("reference images: submits, start of waiting pages, memory", references.run),
    "webhooks": ("status change to receiver; rate with receivers that hang", webhooks.run),
    "admin": ("pages of the staff over a large table", lambda plan, _: staff.run(plan)),
    "cold": ("from a process's start to its first answer", lambda plan, _: cold.run(plan)),
}


def _arguments() -> argparse.Namespace:
    lines = [f"  {name:10} {measures}" for name, (measures, _) in PARTS.items()]
    parser = argparse.ArgumentParser(
        prog="make bench",
        usage='make bench ARGS="[options]"',
        description=__doc__,
        epilog="\n".join(["parts:", *lines, "", "Needs wrk. docs/performance.md explains the table."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = ROOT / "var" / "bench" / f"{datetime.now(UTC):%Y-%m-%d-%H%M}.json"
    parser.add_argument("--output", type=Path, default=default, help="where the JSON goes, charts beside it")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="name what got slower by more than 20 %%")
    parser.add_argument("--quick", action="store_true", help="a small run to see that everything works")
    parser.add_argument("--only", choices=PARTS, nargs="+", metavar="PART", help="these parts; see below")
    named = os.environ.get("BENCH_PEER")
    parser.add_argument(
        "--peer", type=Path, default=named and Path(named), metavar="PATH", help="the peer's server.js (or $BENCH_PEER)"
    )
    parser.add_argument("--no-litellm", action="store_true", help="neither install nor measure LiteLLM's proxy")
    parser.add_argument("--requests", type=int, help="rows of the full table (1,200,000; quick 60,000)")
    parser.add_argument("--queued", type=int, help="how many of them wait (1,000,000; quick 20,000)")
    parser.add_argument("--staff-requests", type=int, help="rows under the staff's pages (500,000; quick 30,000)")
    parser.add_argument("--images", type=int, help="real images to watch a worker's memory over (600; quick 64)")
    return parser.parse_args()


def _end(number: int, frame: FrameType | None) -> None:
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.SIG_IGN)  # a second one would leave processes behind
    sys.exit(128 + number)  # through the finally of everything that was started


def _tell(figures: Sequence[Figure], plan: Plan, output: Path, seconds: Mapping[str, int]) -> None:
    print(report.table(figures))
    print("seconds:", ", ".join(f"{name} {taken}" for name, taken in seconds.items()))
    report.write(output, figures, requests=plan.requests, queued=plan.queued, quick=plan.quick, seconds=seconds)
    print("written to", output, *charts.draw(figures, output.parent, prefix=f"{output.stem}-"))


def main() -> None:
    """Run the suite. It fails where a call failed, and not for a missed goal."""
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, _end)
    arguments = _arguments()
    load.require_wrk()
    old = report.read(arguments.compare) if arguments.compare else None
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:4.0f} s  {what}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="vga-bench-") as name:
        quick = arguments.quick
        plan = Plan(
            folder=Path(name),
            say=say,
            quick=quick,
            requests=arguments.requests or (60_000 if quick else 1_200_000),
            queued=arguments.queued or (20_000 if quick else 1_000_000),
            staff_requests=arguments.staff_requests or (30_000 if quick else 500_000),
            images=arguments.images or (64 if quick else 600),
            litellm=not arguments.no_litellm,
            peer=peer.find(arguments.peer, say),
        )
        grounds = floors.measure(plan)
        figures = [grounds.insert, grounds.publish]
        seconds: dict[str, int] = {}
        try:
            for name in arguments.only or PARTS:
                started = time.monotonic()
                figures += PARTS[name][1](plan, grounds)
                seconds[name] = round(time.monotonic() - started)
            say("done")
        finally:  # what was measured before a call failed is kept, too
            _tell(figures, plan, arguments.output, seconds)
    if old is not None:
        print("\n".join(report.slower(old, figures)) or "nothing got slower by more than 20 %")


if __name__ == "__main__":
    main()
