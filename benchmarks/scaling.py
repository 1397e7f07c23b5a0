"""``python -m benchmarks.scaling``: how far it grows. ``--measure`` asks this machine what a request costs PostgreSQL
and Valkey; the model and the simulation say what follows from that for many workers.

Every slot of a worker goes round the same way: it takes a request (PostgreSQL, Valkey), waits for the provider, and
writes the end (PostgreSQL, Valkey). That is a closed network of queues with a pause, of which the throughput is known
by mean value analysis. The simulation makes no use of theory: it plays the round with random times, and must agree.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import os
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """Of one request, in seconds of one processor: what it takes of PostgreSQL from submit to end, of Valkey as broker,
    and of Valkey for the updates of one watcher. ``heartbeat`` is what one worker process takes of PostgreSQL every
    ten seconds. ``provider`` is how long a call takes."""

    database: float = 0.0034
    broker: float = 0.00024
    update: float = 0.000018
    heartbeat: float = 0.0013
    provider: float = 15.0


#: Updates of a request that are sent to a subscriber: in progress and completed.
UPDATES: Final = 2
#: Of one worker process to PostgreSQL, at the most.
WORKER_CONNECTIONS: Final = 4
HEARTBEAT_SECONDS: Final = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """What there is: worker processes with slots each, and the processors of PostgreSQL. Valkey has one thread."""

    workers: int
    slots: int = 5
    processors: int = 8
    valkeys: int = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """Requests a second, and how busy each server is, from 0 to 1."""

    rate: float
    database: float
    broker: float


def _demands(shape: Shape, costs: Costs) -> tuple[float, float]:
    """Seconds of each server that one request keeps busy; heartbeats make PostgreSQL slower for the rest."""
    beats = min(0.95, shape.workers * costs.heartbeat / HEARTBEAT_SECONDS / shape.processors)
    return costs.database / shape.processors / (1 - beats), (costs.broker + UPDATES * costs.update) / shape.valkeys


def analyse(shape: Shape, costs: Costs) -> Outcome:
    """By mean value analysis: one slot more at a time, each of which finds the queues that those before it made."""
    demands = _demands(shape, costs)
    waiting = [0.0, 0.0]
    rate = 0.0
    for slots in range(1, shape.workers * shape.slots + 1):
        spent = [demand * (1 + queue) for demand, queue in zip(demands, waiting, strict=True)]
        rate = slots / (costs.provider + sum(spent))
        waiting = [rate * seconds for seconds in spent]
    return Outcome(rate, rate * demands[0], rate * demands[1])


def simulate(shape: Shape, costs: Costs, *, seconds: float = 600.0, seed: int = 1) -> Outcome:
    """Play it: every slot on its round, each server one after the other, all times random with these means."""
    chance = random.Random(seed)
    demands = _demands(shape, costs)
    free = [0.0, 0.0]
    busy = [0.0, 0.0]
    # When each slot comes to which server next.
    coming = [(chance.uniform(0, costs.provider), number, 0) for number in range(shape.workers * shape.slots)]
    heapq.heapify(coming)
    warm, ended = seconds / 3, 0
    while coming:
        now, slot, server = heapq.heappop(coming)
        if now > seconds:
            break
        took = chance.expovariate(1 / demands[server])
        free[server] = max(free[server], now) + took
        if now > warm:
            busy[server] += took
        if server == 0:
            heapq.heappush(coming, (free[0], slot, 1))
        else:
            ended += now > warm
            heapq.heappush(coming, (free[1] + chance.expovariate(1 / costs.provider), slot, 0))
    span = seconds - warm
    return Outcome(ended / span, busy[0] / span, busy[1] / span)


def connections(shape: Shape) -> int:
    """Of PostgreSQL, at the most: those of the workers, two web and two other processes."""
    return shape.workers * WORKER_CONNECTIONS + 2 * 14 + 2 * 5


# --- What it costs here ---


def _processor_seconds(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _named(name: str) -> list[int]:
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdigit() and os.readlink(process / "exe").endswith(name) and _ours(process):
                found.append(int(process.name))
    return found


def _ours(process: Path) -> bool:
    """Whether it descends from this process."""
    pid = int(process.name)
    while pid > 1:
        if pid == os.getpid():
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False


def measure(requests: int = 2000) -> Costs:
    """Submit so many and have them drawn by an instant provider, and see what the servers took for it, and for as many
    heartbeats and ten times as many updates."""
    import tests.servers  # noqa: F401  starts PostgreSQL and Valkey
    from benchmarks.engines import engine
    from tests.support.stack import wait_until

    with tempfile.TemporaryDirectory() as folder, engine(Path(folder), "scaling", 5) as up:
        up.start("web", "dispatcher")
        up.env["PROVIDERS"] = "instant"
        up.start("instant")
        up.wait_ready()
        postmaster = int(up.one("SELECT pg_read_file('postmaster.pid')").split()[0])
        valkey = int(up.redis.info("server")["process_id"])

        def taken() -> tuple[float, float]:
            # What a connection used is counted for the postmaster when it has ended, and for itself before.
            children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
            return _processor_seconds([postmaster, *map(int, children)]), _processor_seconds([valkey])

        body = {"requests": [{"type": "illustration", "prompt": f"A friendly dragon number {n}"} for n in range(100)]}
        before = taken()
        with up.client() as client:
            for _ in range(requests // 100):
                client.post("/batch", json=body).raise_for_status()
        wait_until(lambda: up.completed() >= requests, seconds=300, what="all of them")
        after = taken()
        up.stop("instant")
        with up.client() as client:
            client.post("/batch", json=body).raise_for_status()
        up.stop_all()
        idle = taken()
        up.manage("shell", "-v0", "-c", _BEATS.format(count=requests))
        beaten = taken()
        with up.redis.pubsub() as watching:  # type: ignore[no-untyped-call]
            watching.subscribe("watched")
            for _ in range(10 * requests):
                up.redis.publish("watched", _UPDATE)
                while watching.get_message(ignore_subscribe_messages=True) is None:
                    pass
        told = taken()
    return replace(
        Costs(),
        database=(after[0] - before[0]) / requests,
        broker=(after[1] - before[1]) / requests,
        heartbeat=(beaten[0] - idle[0]) / requests,
        update=(told[1] - beaten[1]) / (10 * requests),
    )


#: What a worker does every ten seconds while it has something to do.
_BEATS: Final = """
from generation.requests import lifecycle, permits
from generation.models import GenerationQueue
from workers.runtime import Runtime
worker = Runtime(slots=5)
claims = [lifecycle.claim(pk, worker=worker.name) for pk in GenerationQueue.objects.values_list("pk", flat=True)[:5]]
for _ in range({count}):
    worker._show_alive()
    permits.extend_leases([(claim.request.pk, claim.number) for claim in claims], worker=worker.name)
"""
#: As long as that of a request that is completed.
_UPDATE: Final = b"x" * 1_500


def table(costs: Costs) -> Iterator[str]:
    """The rows of docs/scaling.md."""
    for workers in (4, 16, 64, 256, 1000, 2500, 10_000):
        shape = Shape(workers=workers)
        found = analyse(shape, costs)
        yield (
            f"| {workers:,} | {workers * shape.slots:,} | {found.rate:,.1f}"
            f" | {found.database:.0%} | {found.broker:.0%} | {connections(shape):,} |"
        )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--measure", action="store_true", help="ask this machine first; takes a minute")
    costs = measure() if parser.parse_args().measure else Costs()
    print(costs)
    print(
        "| workers | slots | images a second | PostgreSQL busy | Valkey busy | connections |\n|--:|--:|--:|--:|--:|--:|"
    )
    for row in table(costs):
        print(row)
    shape, began = Shape(workers=2500), time.perf_counter()
    played = simulate(shape, costs, seconds=60)
    print(f"simulation of {shape.workers} workers: {played} ({time.perf_counter() - began:.0f} s)")


if __name__ == "__main__":
    main()
