"""``python -m benchmarks``: measure, print one table, keep it as JSON with charts, and say what got slower since an
older run."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Final

from benchmarks import api, charts, cold, engine, floors, load, peer, providers, realtime, report, staff
from benchmarks.floors import Floors
from benchmarks.plan import Plan
from benchmarks.report import Figure

ROOT = Path(__file__).resolve().parent.parent

#: In the order in which they run; the floors come before all of them.
PARTS: Final[dict[str, Callable[[Plan, Floors], Iterable[Figure]]]] = {
    "api": api.run,
    "engine": engine.run,
    "providers": providers.run,
    "realtime": realtime.run,
    "admin": lambda plan, _: staff.run(plan),
    "cold": lambda plan, _: cold.run(plan),
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    default = ROOT / "var" / "bench" / f"{datetime.now(UTC):%Y-%m-%d-%H%M}.json"
    parser.add_argument("--output", type=Path, default=default, help="where the JSON goes, charts beside it")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="name what got slower by more than 20 %%")
    parser.add_argument("--quick", action="store_true", help="a small run to see that everything works")
    parser.add_argument("--only", choices=PARTS, metavar="PART", help=f"one part: {', '.join(PARTS)}")
    named = os.environ.get("BENCH_PEER")
    parser.add_argument(
        "--peer", type=Path, default=named and Path(named), metavar="PATH", help="the peer's server.js (or $BENCH_PEER)"
    )
    parser.add_argument("--requests", type=int, help="rows of the full table (2,000,000; quick 60,000)")
    parser.add_argument("--queued", type=int, help="how many of them wait (1,000,000; quick 20,000)")
    parser.add_argument("--staff-requests", type=int, help="rows under the staff's pages (1,000,000; quick 30,000)")
    return parser.parse_args()


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # through the finally of everything that was started


def _tell(figures: Sequence[Figure], plan: Plan, output: Path) -> None:
    print(report.table(figures))
    report.write(output, figures, requests=plan.requests, queued=plan.queued, quick=plan.quick)
    print("written to", output, *charts.draw(figures, output.parent, prefix=f"{output.stem}-"))


def main() -> None:
    """Run the suite. It fails where a call failed, and not for a missed goal."""
    signal.signal(signal.SIGTERM, _end)
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
            requests=arguments.requests or (60_000 if quick else 2_000_000),
            queued=arguments.queued or (20_000 if quick else 1_000_000),
            staff_requests=arguments.staff_requests or (30_000 if quick else 1_000_000),
            peer=peer.find(arguments.peer, say),
        )
        grounds = floors.measure(plan)
        figures = [grounds.insert, grounds.publish]
        try:
            for part in [arguments.only] if arguments.only else PARTS:
                figures += PARTS[part](plan, grounds)
            say("done")
        finally:  # what was measured before a call failed is kept, too
            _tell(figures, plan, arguments.output)
    if old is not None:
        print("\n".join(report.slower(old, figures)) or "nothing got slower by more than 20 %")


if __name__ == "__main__":
    main()
