"""Redis emptied, restarted, paused, away: submits are answered, and everything runs once."""

from __future__ import annotations

import contextlib
import signal
import threading
import time

import httpx
import pytest

from tests.faults.house import House


@pytest.fixture
def with_worker(house: House) -> House:
    house.stack.start("worker")
    house.wait_until_up(workers=1)
    return house


def test_what_was_in_an_emptied_redis_is_sent_again(with_worker: House) -> None:
    house = with_worker
    house.provider.script(default="delay=0.2")
    for number in range(50):
        house.submit(number)
    house.wait_for_calls(2)
    with house.valkey.client() as client:
        client.flushall()
    house.wait_all_ended()
    assert all(len(house.calls(number)) == 1 for number in range(50))


def test_a_redis_that_restarts_empty_while_tasks_run_costs_nothing(with_worker: House) -> None:
    house = with_worker
    house.provider.script(default="delay=0.5")
    for number in range(30):
        house.submit(number)
    for round_ in range(1, 4):
        house.wait_for_calls(3 * round_)
        house.valkey.kill()
        house.valkey.start()
    house.wait_all_ended()
    assert not house.stack.has_ended("worker")
    assert house.provider.stats().count == 30


def test_submits_are_answered_while_redis_does_not_answer(with_worker: House) -> None:
    house = with_worker
    house.submit(0)
    house.wait_all_ended()
    house.valkey.pause()
    longest = 0.0
    for number in range(1, 21):
        begun = time.monotonic()
        house.submit(number)
        longest = max(longest, time.monotonic() - begun)
    house.valkey.resume()
    assert longest < 5
    house.wait_all_ended()
    assert house.provider.stats().count == 21


def test_submits_are_answered_while_redis_is_away(with_worker: House) -> None:
    house = with_worker
    house.valkey.kill()
    for number in range(10):
        house.submit(number)
    house.valkey.start()
    house.wait_all_ended()
    assert house.provider.stats().count == 10


def test_a_redis_that_takes_nothing_more_is_as_one_that_is_away(with_worker: House) -> None:
    house = with_worker
    with house.valkey.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1mb")
        for number in range(10):
            house.submit(number)
        client.config_set("maxmemory", "0")
    house.wait_all_ended()
    assert house.provider.stats().count == 10


def test_connections_that_are_cut_again_and_again_double_nothing(with_worker: House) -> None:
    house = with_worker
    house.provider.script(default="delay=0.3")
    with house.valkey.client() as client:
        for number in range(20):
            house.submit(number)
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    house.wait_all_ended()
    assert house.provider.stats().count == 20


def test_a_web_process_killed_between_commit_and_publish_loses_nothing(with_worker: House) -> None:
    house = with_worker
    house.submit(0)
    house.wait_all_ended()
    # A paused Redis holds the web process right behind its commit.
    house.valkey.pause()
    submit = threading.Thread(target=_submit_in_vain, args=[house])
    submit.start()
    house.wait_for_row(2)
    house.stack.stop("web", by=signal.SIGKILL)
    submit.join(20)
    house.valkey.resume()
    house.stack.start("web")
    house.wait_until_up()
    house.wait_all_ended()
    assert house.provider.stats().count == 2


def _submit_in_vain(house: House) -> None:
    with contextlib.suppress(httpx.TransportError):
        house.submit(1)
