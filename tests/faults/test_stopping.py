"""Processes that are told to stop while a server that they need is gone or silent. They end by themselves, long before
the engine would kill them, so that a deployment can be changed or moved while a server is away."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.faults.house import House, built
from tests.servers import temporary_folder
from tests.support.postgres import Postgres
from tests.support.stack import wait_until
from tests.support.valkey import Valkey

PROCESSES = ["web", "realtime", "worker", "dispatcher", "deliverer"]
#: The shortest grace period of docker-compose.yml.
GRACE = 15.0


@pytest.fixture(scope="module")
def postgres() -> Postgres:
    """A server that may be hurt, since no other test uses it."""
    return Postgres(temporary_folder())


class Breakable:
    """The broker or the database of a house, which is gone or silent during a block."""

    def __init__(self, house: House, postgres: Postgres, server: str, state: str) -> None:
        one: Postgres | Valkey = postgres if server == "database" else house.valkey
        self._break, self._repair = (one.pause, one.resume) if state == "silent" else (one.kill, one.start)

    def __enter__(self) -> None:
        self._break()

    def __exit__(self, *_: object) -> None:
        self._repair()


def assert_end(house: House, *names: str) -> None:
    """Tell the processes to stop, and wait for their ends."""
    for name in names:
        house.stack.signal(name, signal.SIGTERM)
    started = time.monotonic()
    running = set(names)
    while running and time.monotonic() < started + GRACE:
        running = {name for name in running if not house.stack.has_ended(name)}
        time.sleep(0.02)
    assert not running


servers = pytest.mark.parametrize("server", ["broker", "database"])
states = pytest.mark.parametrize("state", ["gone", "silent"])


@states
@servers
def test_processes_end_while_a_server_is_away(postgres: Postgres, tmp_path: Path, server: str, state: str) -> None:
    with built(tmp_path, server=postgres.url) as house:
        house.stack.start(*PROCESSES)
        house.wait_until_up(workers=1)
        house.stack.wait_ready()
        with Breakable(house, postgres, server, state):
            time.sleep(3)  # in which each process notices, and tries to connect again
            assert_end(house, *PROCESSES)


@states
@servers
def test_processes_end_that_were_started_while_a_server_is_away(
    postgres: Postgres, tmp_path: Path, server: str, state: str
) -> None:
    with built(tmp_path, server=postgres.url) as house, Breakable(house, postgres, server, state):
        house.stack.start(*PROCESSES)
        time.sleep(6)  # in which each process imports its modules, and tries to connect
        assert [name for name in PROCESSES if house.stack.has_ended(name)] == []
        assert_end(house, *PROCESSES)


@states
def test_a_worker_ends_while_the_broker_is_away_and_stores_its_image(
    postgres: Postgres, tmp_path: Path, state: str
) -> None:
    with built(tmp_path, server=postgres.url) as house:
        house.stack.start("web", "worker", "dispatcher")
        house.wait_until_up(workers=1)
        house.provider.script(default="hold=1")
        request_id = house.submit(1)
        wait_until(lambda: house.provider.stats().active == 1, what="a call")
        with Breakable(house, postgres, "broker", state):
            time.sleep(3)
            house.stack.signal("worker", signal.SIGTERM)
            house.provider.release()
            assert_end(house, "worker")
            assert house.status(request_id) == "completed"
        assert house.provider.stats().count == 1
