"""More workers, and services that are killed while they work: no request is lost, no image is paid for twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.engine.neighbors import ContainerVendor
from tests.engine.project import Project, note, submit
from tests.support.stack import wait_until

MANY = 200
SOME = 30


def submit_many(client: httpx2.Client, prompts: list[str]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda prompt: submit(client, prompt), prompts))


def assert_all_done(project: Project, prompts: list[str], *, seconds: float) -> None:
    """Until every request of these prompts has ended; all must be completed, each with one image."""
    quoted = ", ".join(f"'{prompt}'" for prompt in prompts)
    query = f"SELECT status, count(*) FROM generation_requests WHERE prompt IN ({quoted}) GROUP BY 1"  # noqa: S608
    wait_until(
        lambda: {status for status, _ in project.sql(query)} <= {"completed", "failed", "cancelled"},
        seconds=seconds,
        what="the end of all requests",
    )
    assert project.sql(query) == [["completed", str(len(prompts))]]


def assert_paid_once(vendor: ContainerVendor, prompts: list[str]) -> None:
    """The prompts that the vendor gets have phrases around them."""
    paid = vendor.paid()
    for prompt in prompts:
        counts = [count for told, count in paid.items() if prompt in told]
        assert sum(counts) == 1, (prompt, counts)


def test_four_workers_do_two_hundred_requests_each_once(
    project: Project, vendor: ContainerVendor, alice: httpx2.Client
) -> None:
    project.up("--no-deps", "--no-recreate", "worker", scale={"worker": 4})
    try:
        vendor.script(default="delay=0.2")
        prompts = [f"Dragon number {number:03} of many" for number in range(MANY)]
        started = time.monotonic()
        submit_many(alice, prompts)
        assert_all_done(project, prompts, seconds=120)
        note(f"{MANY} requests with four workers: {time.monotonic() - started:.1f} s")
        assert_paid_once(vendor, prompts)
        used = "SELECT count(DISTINCT worker) FROM generation_attempts WHERE prompt LIKE '%of many%'"
        assert project.sql(used) == [["4"]]
        assert vendor.max_concurrent > 5  # the slots of one worker
    finally:
        project.up("--no-deps", "worker", scale={"worker": 1})


@pytest.mark.parametrize("service", ["worker", "dispatcher", "realtime", "valkey"])
def test_a_killed_service_loses_nothing_and_pays_nothing_twice(
    project: Project, vendor: ContainerVendor, alice: httpx2.Client, service: str
) -> None:
    def kill_and_start() -> None:
        project.kill(service)
        project.up("--no-deps", service)

    disturb(project, vendor, alice, service, kill_and_start)


def test_a_crashed_worker_is_started_again_by_the_engine(
    project: Project, vendor: ContainerVendor, alice: httpx2.Client
) -> None:
    def crash() -> None:
        before = project.inspect("worker")["RestartCount"]
        project.crash("worker")
        wait_until(lambda: project.inspect("worker")["RestartCount"] > before, seconds=30, what="a restart")

    disturb(project, vendor, alice, "crash", crash)


def test_a_restarted_database_loses_nothing(project: Project, vendor: ContainerVendor, alice: httpx2.Client) -> None:
    def restart() -> None:
        project.compose("restart", "postgres")
        project.wait_ready()

    disturb(project, vendor, alice, "postgres", restart)


def disturb(
    project: Project, vendor: ContainerVendor, client: httpx2.Client, name: str, act: Callable[[], None]
) -> None:
    """Let calls be under way while ``act`` happens, and submit more afterwards."""
    vendor.script(default="hold=1")
    first = [f"Dragon {number:02} before the {name}" for number in range(SOME)]
    submit_many(client, first)
    wait_until(lambda: vendor.stats().active > 0, seconds=30, what="calls under way")
    act()
    vendor.script(default="")
    vendor.release()
    later = [f"Dragon {number:02} after the {name}" for number in range(SOME // 3)]
    submit_many(client, later)
    assert_all_done(project, first + later, seconds=90)
    assert_paid_once(vendor, first + later)
