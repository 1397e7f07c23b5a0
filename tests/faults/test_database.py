"""PostgreSQL restarted, paused, cut off, full: accepted requests are made once, and no process has to be restarted."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx2
import pytest

from tests.faults.house import House, built, lasting
from tests.servers import temporary_folder
from tests.support.postgres import Postgres, Wire
from tests.support.stack import PASSWORD, wait_until

#: Longer than the database is away in a test, so that no call is broken off and each is counted once.
LONG_LEASE = "15000"


@pytest.fixture(scope="module")
def postgres() -> Postgres:
    """A server that may be hurt, since no other test uses it."""
    return Postgres(temporary_folder())


@contextmanager
def running(folder: Path, *processes: str, server: str = "", **settings: str) -> Iterator[House]:
    """A house in which the web process, a dispatcher and these run; all of them outlive the test."""
    with built(folder, server=server, **settings) as house:
        names = ["web", "dispatcher", *processes]
        house.stack.start(*names)
        house.wait_until_up(workers=sum(name.startswith("worker") for name in processes))
        house.alice.get("/queue/status").raise_for_status()  # signed in
        yield house
        assert [name for name in names if house.stack.has_ended(name)] == []
        house.assert_whole(media=folder / "var" / "media")


class Submits:
    """One dragon after the other, and what was answered."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._over = threading.Event()
        self.answers: dict[int, httpx2.Response] = {}

    def run(self) -> None:
        number = 0
        while not self._over.wait(0.05):
            self.answers[number] = self._house.try_submit(number)
            number += 1

    def stop(self) -> None:
        self._over.set()

    def assert_answered(self) -> None:
        """Accepted, or told in the one shape of errors to come again, and soon enough for a client."""
        for answer in self.answers.values():
            if answer.status_code != 200:
                assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable"), answer.text
                assert int(answer.headers["Retry-After"]) > 0
            assert answer.elapsed.total_seconds() < 10

    def assert_drawn_once(self) -> None:
        """What was accepted is there and was called for once; what was refused may be there, and then so as well."""
        accepted = {number for number, answer in self.answers.items() if answer.status_code == 200}
        assert accepted
        calls = self._house.counts_of_calls()
        assert {number: calls[number] for number in accepted} == dict.fromkeys(accepted, 1)
        assert set(calls.values()) == {1}
        rows = self._house.rows("SELECT id, status FROM generation_requests")
        assert {row["status"] for row in rows} == {"completed"}
        ids = {str(answer.json()["requestId"]) for answer in self.answers.values() if answer.status_code == 200}
        assert ids <= {row["id"] for row in rows}


@contextmanager
def submitting(house: House) -> Iterator[Submits]:
    """While this lasts, dragons are submitted."""
    submits = Submits(house)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(submits.run)
        try:
            yield submits
        finally:
            submits.stop()
        done.result(60)


# --- Away -------------------------------------------------------------------------------------------------------------


def test_a_database_killed_under_load_loses_and_doubles_nothing(tmp_path: Path, postgres: Postgres) -> None:
    with running(tmp_path, "worker", "worker:2", server=postgres.url, LEASE_MS=LONG_LEASE) as house:
        house.provider.script(default="delay=0.3")
        with submitting(house) as submits:
            for round_ in range(1, 4):
                house.wait_for_calls(10 * round_, seconds=60)
                postgres.kill()
                postgres.start()
        house.wait_all_ended(seconds=120)
        submits.assert_answered()
        submits.assert_drawn_once()


def test_after_an_outage_work_goes_on_as_soon_as_the_database_is_back(tmp_path: Path, postgres: Postgres) -> None:
    with running(tmp_path, "worker", server=postgres.url) as house:
        house.submit(1)
        house.wait_all_ended()
        postgres.kill()
        over = time.monotonic() + lasting(8, full=60)
        while time.monotonic() < over:
            answer = house.try_submit(2)
            assert answer.status_code == 503
        postgres.start()
        wait_until(lambda: house.try_submit(3).status_code == 200, seconds=20, what="an accepted submit")
        house.wait_all_ended()


def test_a_database_that_is_read_only_after_a_failover_is_waited_for(tmp_path: Path) -> None:
    with running(tmp_path, "worker", "realtime", LEASE_MS="60000") as house:
        house.provider.script("hold", default="delay=0.1")
        request_id = house.submit(1)
        house.wait_for_calls(1)
        name = house.rows("SELECT current_database() AS name")[0]["name"]
        house.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        house.cut()
        answers = [house.try_submit(2), house.try_submit(3, headers={"Idempotency-Key": "key"})]
        answers += [house.alice.delete(f"/cancel/{request_id}"), _sign_in(house)]
        for answer in answers:
            assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable"), answer.text
            assert int(answer.headers["Retry-After"]) > 0
        assert house.alice.get(f"/status/{request_id}").status_code == 200  # it can be read
        assert httpx2.get(f"{house.stack.base_url}/readyz").json()["checks"]["database"] == "unreachable"
        house.provider.release()
        house.wait_for_log("worker", "read-only transaction")
        # A transaction says so itself, since the session that changes it back is one of those.
        house.execute(f"BEGIN READ WRITE; ALTER DATABASE {name} RESET default_transaction_read_only; COMMIT")
        house.wait_for(request_id, "completed", seconds=60)
        wait_until(lambda: house.try_submit(4).status_code == 200, what="an accepted submit")
        house.wait_all_ended()
        assert house.counts_of_calls() == {1: 1, 4: 1}
        for process in ("web", "worker", "dispatcher", "realtime"):
            assert "Traceback" not in house.stack.log(process)


def _sign_in(house: House) -> httpx2.Response:
    """Sign in on the pages, which no view of the API stands behind."""
    with httpx2.Client(base_url=house.stack.base_url) as client:
        token = client.get("/sign-in").cookies["csrftoken"]
        form = {"username": "alice", "password": PASSWORD, "csrfmiddlewaretoken": token}
        return client.post("/sign-in", data=form)


def submit_alone(house: House, number: int) -> httpx2.Response:
    """Submit a dragon in a transaction, and so on a connection, of its own."""
    return house.try_submit(number, headers={"Idempotency-Key": f"dragon-{number}"})


# --- Cut --------------------------------------------------------------------------------------------------------------


def test_connections_cut_repeatedly_lose_and_double_nothing(tmp_path: Path) -> None:
    with running(tmp_path, "worker", "worker:2", LEASE_MS=LONG_LEASE) as house:
        house.provider.script(default="delay=0.3")
        with submitting(house) as submits:
            house.wait_for_calls(10)
            over = time.monotonic() + lasting(5, full=20)
            while time.monotonic() < over:
                house.cut()
                time.sleep(0.3)
            house.wait_for_calls(house.provider.stats().count + 10, seconds=60)
        house.wait_all_ended(seconds=120)
        submits.assert_answered()
        submits.assert_drawn_once()


def test_connections_cut_while_idle_cost_no_client_an_error(tmp_path: Path) -> None:
    with running(tmp_path) as house, ThreadPoolExecutor(12) as clients:
        # Requests that wait for a lock at the same time make the pool grow.
        with house.holding("LOCK TABLE generation_requests"):
            waiting = [clients.submit(submit_alone, house, number) for number in range(10)]
            blocked = (
                "SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%submit%'"
            )
            wait_until(lambda: house.rows(blocked)[0]["n"] == 10, what="ten connections")
        assert {submit.result().status_code for submit in waiting} == {200}
        assert house.cut("state = 'idle'") >= 10
        assert [house.try_submit(number).status_code for number in range(10, 20)] == [200] * 10


def test_an_end_that_cannot_be_written_twice_is_written_the_third_time(tmp_path: Path) -> None:
    with running(tmp_path, "worker", LEASE_MS="60000") as house:
        house.provider.script("delay=1")
        request_id = house.submit(1)
        house.wait_for_calls(1)
        with house.locked("generation_requests", "id", request_id):
            for _ in range(2):
                house.wait_for_blocked()
                assert house.cut("wait_event_type = 'Lock' AND query LIKE '%UPDATE%'") == 1
            house.wait_for_blocked()
        house.wait_for(request_id, "completed")
        assert len(house.calls(1)) == 1
        assert house.rows("SELECT attempts FROM generation_requests")[0]["attempts"] == 1


# --- Full -------------------------------------------------------------------------------------------------------------


def test_fewer_connections_than_threads_cause_waits_and_lose_nothing(tmp_path: Path, postgres: Postgres) -> None:
    with built(tmp_path, server=postgres.url, LEASE_MS=LONG_LEASE) as house:
        house.execute("DROP ROLE IF EXISTS narrow")
        url = urlsplit(house.database_url)
        rights = f"PASSWORD '{url.password}' CONNECTION LIMIT 4 IN ROLE pg_read_all_data, pg_write_all_data"
        house.execute(f"CREATE ROLE narrow LOGIN {rights}")
        narrow = urlunsplit(url._replace(netloc=url.netloc.replace("postgres:", "narrow:", 1)))
        house.provider.script(default="delay=0.1")
        # Each process gets one, and then there is one to fight for.
        house.stack.start("web", DATABASE_URL=narrow)
        house.wait_until_up()
        house.alice.get("/queue/status").raise_for_status()
        house.stack.start("dispatcher", DATABASE_URL=narrow)
        house.stack.start("worker", DATABASE_URL=narrow)
        house.wait_until_up(workers=1)
        submits = Submits(house)
        with ThreadPoolExecutor(20) as clients:
            submits.answers = dict(enumerate(clients.map(lambda number: submit_alone(house, number), range(100))))
        assert "too many connections for role" in (house.stack.logs / "web.log").read_text()
        house.wait_all_ended(seconds=120)
        submits.assert_answered()
        submits.assert_drawn_once()
        house.assert_whole(media=tmp_path / "var" / "media")


# --- Paused -----------------------------------------------------------------------------------------------------------


def cut_off_worker(house: House, wire: Wire, **settings: str) -> None:
    """A worker with one slot: who is cut off with its slot taken takes no more messages."""
    house.stack.start("worker", DATABASE_URL=wire.url, MAX_CONCURRENT_REQUESTS="1", **settings)
    house.wait_until_up(workers=1)


def wait_for_log(house: House, name: str, words: str) -> None:
    """Until the process has written this."""
    log = house.stack.logs / f"{name}.log"
    wait_until(lambda: words in log.read_text(), seconds=60, what=words)


def test_a_worker_that_cannot_renew_its_lease_ends_its_call_in_time(tmp_path: Path) -> None:
    with running(tmp_path, LEASE_MS="5000") as house, Wire(house.database_url) as wire:
        cut_off_worker(house, wire)
        house.provider.script("hang")
        request_id = house.submit(1)
        house.wait_for_calls(1)
        house.stack.start("worker:2")
        house.wait_until_up(workers=2)
        wire.pinch()
        house.wait_for(request_id, "completed", seconds=60)
        broken_off, repeated = house.calls(1)
        assert broken_off.ended is not None
        assert broken_off.ended <= repeated.started
        wire.release()
        # It is the same process that goes on with the next.
        house.stack.stop("worker:2")
        house.wait_for(house.submit(2), "completed", seconds=60)
        assert not house.stack.has_ended("worker")


def test_an_end_that_comes_after_the_lease_changes_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as house, Wire(house.database_url) as wire:
        cut_off_worker(house, wire)
        house.provider.script("hold;status=503", "hold")
        request_id = house.submit(1)
        house.wait_for_calls(1)
        wire.pinch()
        house.provider.release()
        house.stack.start("worker:2")
        house.wait_for_calls(2, seconds=60)
        # Another claim is at its call when the first one's end, that it failed and is to be retried, comes through.
        wire.release()
        wait_for_log(house, "worker", "claim-void")
        row = house.rows("SELECT status, claims FROM generation_requests")[0]
        assert row == {"status": "in-progress", "claims": 2}
        house.provider.release()
        house.wait_for(request_id, "completed")
        assert len(house.calls(1)) == 2


@pytest.mark.parametrize("planned", [True, False], ids=["while it plans", "while it runs"])
def test_a_worker_cut_off_while_it_ends_a_claim_has_ended_it(tmp_path: Path, planned: bool) -> None:
    with running(tmp_path) as house, Wire(house.database_url) as wire:
        cut_off_worker(house, wire, DATABASE_PREPARED_STATEMENTS=str(planned).lower())
        house.provider.script("hold")
        request_id = house.submit(1)
        house.wait_for_calls(1)
        with house.holding("LOCK TABLE generation_status_changes"):
            house.provider.release()
            wait_until(lambda: house.rows(_BLOCKED_WRITES), what="the history's turn")
            wire.pinch()
        # The end is one statement, which the server carries out whether or not a client hears of it. Where a connection
        # has it for the first time, it is planned before it is sent: then the image's receipt is found.
        if not planned:
            house.wait_for(request_id, "completed")
        wire.release()
        house.wait_for(request_id, "completed", seconds=60)
        house.wait_for(house.submit(2), "completed", seconds=60)
        assert house.status(request_id) == "completed"
        assert len(house.calls(1)) == 1


def test_a_database_pause_beyond_a_lease_causes_no_concurrent_second_call(tmp_path: Path, postgres: Postgres) -> None:
    with running(tmp_path, "worker", "worker:2", server=postgres.url) as house:
        house.provider.script("hang", default="delay=0.1")
        request_id = house.submit(1)
        house.wait_for_calls(1)
        postgres.pause()
        wait_until(lambda: house.provider.stats().active == 0, seconds=60, what="the end of the call")
        postgres.resume()
        house.wait_for(request_id, "completed", seconds=60)
        broken_off, repeated = house.calls(1)
        assert broken_off.disconnected
        assert broken_off.ended is not None
        assert broken_off.ended <= repeated.started


# --- Before the commit ------------------------------------------------------------------------------------------------


def test_a_web_process_killed_before_its_commit_leaves_nothing_behind(tmp_path: Path) -> None:
    key = {"Idempotency-Key": "once"}
    with running(tmp_path, "worker") as house:
        # The request, its queue row and the key are written, and its history waits for the lock.
        with house.holding("LOCK TABLE generation_status_changes"):
            submit = threading.Thread(target=_submit_in_vain, args=[house, key])
            submit.start()
            wait_until(lambda: house.rows(_BLOCKED_WRITES), what="the history's turn")
            house.stack.stop("web", by=signal.SIGKILL)
            submit.join(20)
        left = """SELECT id FROM generation_requests UNION ALL SELECT request_id FROM generation_queue
            UNION ALL SELECT key FROM generation_idempotency_keys"""
        house.stack.start("web")
        house.wait_until_up()
        assert house.rows(left) == []
        answer = house.try_submit(1, headers=key)
        assert answer.status_code == 200
        assert "Idempotent-Replayed" not in answer.headers
        assert house.try_submit(1, headers=key).headers["Idempotent-Replayed"] == "true"
        house.wait_all_ended()
        assert house.counts_of_calls() == {1: 1}
        assert len(house.rows(left)) == 2


_BLOCKED_WRITES = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ '^/. (submit|end) '"


def _submit_in_vain(house: House, key: dict[str, str]) -> None:
    with contextlib.suppress(httpx2.TransportError):
        house.try_submit(1, headers=key)
