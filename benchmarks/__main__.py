"""``python -m benchmarks``: measure, print one table, keep it as JSON, and say what got slower since an older run."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from benchmarks import cases, engine, providers, realtime, report, stacks, staff

ROOT = Path(__file__).resolve().parent.parent


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    default = ROOT / "var" / "bench" / f"{datetime.now(UTC):%Y-%m-%d-%H%M}.json"
    parser.add_argument("--output", type=Path, default=default, help="where the JSON goes (%(default)s)")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="name what got slower by more than 20 %%")
    parser.add_argument("--requests", type=int, default=300_000, help="rows of the full table (%(default)s)")
    parser.add_argument("--queued", type=int, default=100_000, help="how many of them wait (%(default)s)")
    parser.add_argument(
        "--staff-requests", type=int, default=1_000_000, help="rows under the staff's pages (%(default)s)"
    )
    parser.add_argument(
        "--only", choices=("api", "engine", "providers", "realtime", "admin"), help="one part of the suite"
    )
    return parser.parse_args()


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # through the finally of everything that was started


def main() -> None:
    """Run the suite. It fails where a call failed, and not for a missed goal."""
    signal.signal(signal.SIGTERM, _end)
    arguments = _arguments()
    old = json.loads(arguments.compare.read_text()) if arguments.compare else None
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:4.0f} s  {what}", file=sys.stderr, flush=True)

    figures: list[report.Figure] = []
    with tempfile.TemporaryDirectory(prefix="vga-bench-") as name:
        folder = Path(name)
        if arguments.only in {None, "api"}:
            say(f"making {arguments.requests:,} requests, {arguments.queued:,} of them queued")
            with stacks.running(folder, total=arguments.requests, queued=arguments.queued) as up:
                figures += cases.run(up, say)
        if arguments.only in {None, "engine"}:
            figures += engine.run(folder, say)
        if arguments.only in {None, "providers"}:
            figures += providers.run(folder, say)
        if arguments.only in {None, "realtime"}:
            figures += realtime.run(folder, say)
        if arguments.only in {None, "admin"}:
            figures += staff.run(folder, say, total=arguments.staff_requests)
    say("done")
    print(report.table(figures))
    report.write(arguments.output, figures, total=arguments.requests, queued=arguments.queued)
    print(f"written to {arguments.output}")
    if old is not None:
        print("\n".join(report.slower(old, figures)) or "nothing got slower by more than 20 %")


if __name__ == "__main__":
    main()
