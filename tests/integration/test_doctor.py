"""``manage.py doctor``: what it finds, and that the command which it names fixes it."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection

from generation import caching
from generation.db.functions import Now
from generation.models import GenerationQueue, GenerationRequest, ProviderModel, WorkerProcess
from generation.providers import circuit_breaker
from generation.reports import statistics
from generation.requests import lifecycle, permits
from generation.states import ProcessKind, Status
from tests.support.batches import batch_of
from tests.support.broker import lose_all_messages, messages
from tests.support.requests import claimed, in_status, queued
from tests.support.stack import ROOT, closed_port, empty_database

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("empty_queues")]

LONG_AGO = timedelta(minutes=2)


@pytest.fixture(autouse=True)
def _processes(db: None) -> None:
    """One of each is up."""
    WorkerProcess.objects.create(name="worker-1", slots=5)
    WorkerProcess.objects.create(name="dispatcher-1", slots=0, kind=ProcessKind.DISPATCHER)


def doctor() -> tuple[int, str]:
    """Its exit code and its page."""
    caching.clear_all()
    out = io.StringIO()
    try:
        call_command("doctor", stdout=out, no_color=True)
    except SystemExit as end:
        return int(str(end.code)), out.getvalue()
    return 0, out.getvalue()


def the_finding() -> str:
    """The one thing that it finds."""
    code, page = doctor()
    assert code == 1
    assert page.count("why:") == 1, page
    return page


def fix(page: str) -> None:
    """Do what it says, after which nothing is wrong."""
    found = re.search(r"fix:   manage\.py ([^;\n]+)", page)
    assert found, page
    call_command(*shlex.split(found[1]), stdout=io.StringIO())
    code, page = doctor()
    assert (code, page.splitlines()[-1]) == (0, "Nothing is stuck."), page


def test_in_a_healthy_house_nothing_is_stuck(alice: User) -> None:
    for status in Status:
        in_status(alice, status)
    code, page = doctor()
    assert code == 0
    assert page.splitlines() == [
        "Queued       1 (0 urgent, 0 high, 1 normal, 0 low)",
        "In progress  1 of 5 slots, 1 worker",
        f"Oldest       {statistics.queue_status()['oldestQueuedAt']}",
        "",
        "Nothing is stuck.",
    ]


def test_a_request_of_a_lost_worker_is_rescued(alice: User) -> None:
    lost, held = claimed(alice), claimed(alice)
    GenerationRequest.objects.filter(pk=lost.request.pk).update(lease_expires_at=Now() - LONG_AGO)
    page = the_finding()
    assert "In progress without a worker: 1" in page
    assert lost.request.pk in page
    assert held.request.pk not in page
    fix(page)
    assert GenerationRequest.objects.get(pk=lost.request.pk).status == Status.QUEUED


def test_a_due_request_that_was_not_sent_is_sent(alice: User) -> None:
    request = queued(alice)
    lose_all_messages()
    GenerationQueue.objects.update(available_at=Now() - LONG_AGO, dispatched_at=None, redispatch_at=None)
    page = the_finding()
    assert "Due for over a minute and not sent: 1" in page
    assert request.pk in page
    fix(page)
    assert messages() == {"normal": [request.pk]}


def test_requests_behind_a_full_queue_are_not_stuck(alice: User, settings: Any) -> None:
    settings.DISPATCH_WINDOW = 1
    for _ in range(2):
        queued(alice)
    GenerationQueue.objects.update(available_at=Now() - LONG_AGO)
    assert doctor()[0] == 0


def test_a_message_not_taken_by_idle_workers_is_sent_again(alice: User) -> None:
    ids = [queued(alice).pk for _ in range(5)]
    lose_all_messages()
    # It was sent so often that the next time is long in coming.
    later = Now() + timedelta(minutes=5)
    GenerationQueue.objects.update(
        available_at=Now() - LONG_AGO, dispatched_at=Now() - LONG_AGO, redispatch_at=later, dispatch_count=9
    )
    page = the_finding()
    assert "not started, although workers are idle: 5" in page
    assert all(one in page for one in ids[:3])
    assert "and 2 more" in page
    fix(page)
    assert messages() == {"normal": ids}


def test_messages_waiting_while_all_workers_are_busy_are_not_stuck(alice: User) -> None:
    WorkerProcess.objects.filter(kind=ProcessKind.WORKER).update(slots=1)
    claimed(alice)
    queued(alice)
    GenerationQueue.objects.update(available_at=Now() - LONG_AGO, dispatched_at=Now() - LONG_AGO)
    assert doctor()[0] == 0


def test_a_request_that_lost_its_queue_row_gets_one_and_is_sent(alice: User) -> None:
    ids = {queued(alice).pk for _ in range(2)}
    lose_all_messages()
    GenerationQueue.objects.all().delete()
    page = the_finding()
    assert "Queued without a queue row: 2" in page
    fix(page)
    assert set(messages()["normal"]) == ids


def test_a_batch_with_unfilled_slots_goes_on(alice: User) -> None:
    batch, ids = batch_of(alice, 3, limit=2)
    lose_all_messages()
    GenerationQueue.objects.update(
        held=True, available_at=Now() - LONG_AGO, dispatched_at=None, redispatch_at=None, dispatch_count=0
    )
    page = the_finding()
    assert "Batches that wait although none of their requests runs: 1" in page
    assert batch.pk in page
    fix(page)
    assert messages() == {"normal": ids[:2]}


@pytest.mark.parametrize(
    ("kind", "said", "remedy"),
    [
        (ProcessKind.WORKER, "No worker is up", "start a worker"),
        (ProcessKind.DISPATCHER, "No dispatcher is up", "manage.py dispatch"),
    ],
)
def test_a_process_that_is_missing_is_named_with_its_last_heartbeat(kind: str, said: str, remedy: str) -> None:
    WorkerProcess.objects.filter(kind=kind).update(seen_at=Now() - timedelta(hours=1))
    page = the_finding()
    assert said in page
    assert re.search(r"the last heartbeat was at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", page)
    assert remedy in page
    WorkerProcess.objects.filter(kind=kind).delete()
    assert "none has ever run" in the_finding()


def test_without_redis_that_is_the_finding_and_not_what_follows_from_it(alice: User, no_broker: None) -> None:
    queued(alice)
    GenerationQueue.objects.update(available_at=Now() - LONG_AGO)
    page = the_finding()
    assert "Redis cannot be reached" in page
    assert "Connection refused" in page
    caching.clear_all()


def test_a_storage_that_cannot_be_written_is_told_with_its_reason(settings: Any, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    settings.MEDIA_ROOT = in_the_way / "media"
    page = the_finding()
    assert "Images cannot be stored" in page
    assert "Not a directory" in page


def test_sessions_without_their_time_outs_are_found() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0; SET lock_timeout = 0")  # as where a pooler passes nothing on
        try:
            page = the_finding()
        finally:
            cursor.execute("RESET ALL")
    assert "Sessions of the command process have the wrong settings: statement_timeout is 0, not 10min, " in page
    assert "lock_timeout is 0, not 10s\n" in page
    assert "create a role for each kind of process with deploy/roles.sh" in page
    with pytest.raises(CommandError, match="as the same role"):
        call_command("set_role_settings")
    assert doctor()[0] == 0


# --- Providers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "why", "advice"),
    [
        ("auth", "The provider rejected the API key", "Check the provider's key in the settings"),
        ("quota_exhausted", "The provider's quota or credit is used up", "Add credit at the provider"),
        ("unavailable", "The provider is unreachable or has a server error", "status page"),
    ],
)
def test_doctor_names_an_open_breaker_its_remedy_and_the_requests_waiting(
    alice: User, code: str, why: str, advice: str
) -> None:
    for _ in range(circuit_breaker.FAILURES_TO_OPEN):
        circuit_breaker.failed("openai", code, wait=timedelta(0))
    waiting = claimed(alice)
    assert lifecycle.release(waiting, delay=timedelta(minutes=9), waits_for="openai")
    page = the_finding()
    assert re.search(r"openai is suspended until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", page)
    assert why in page
    assert advice in page
    assert waiting.request.pk in page
    fix(page)
    assert not circuit_breaker.is_open("openai")
    assert GenerationQueue.objects.filter(available_at__lte=Now(), waits_for="").exists()


def test_a_short_rate_limit_is_no_alarm_and_a_long_one_is() -> None:
    circuit_breaker.failed("openai", "rate_limited", wait=timedelta(seconds=30))
    assert doctor()[0] == 0
    circuit_breaker.failed("openai", "rate_limited", wait=timedelta(minutes=5))
    fix(the_finding())


def test_a_model_that_is_set_aside_is_named_with_the_reason() -> None:
    for _ in range(circuit_breaker.ANSWERS_TO_SET_ASIDE):
        circuit_breaker.failed("openai", "model_retired", model="gpt-image-2")
    page = the_finding()
    assert "openai does not serve gpt-image-2; it is not used until" in page
    fix(page)
    assert doctor()[0] == 0
    assert not circuit_breaker.unserved_models()


def resume(name: str) -> str:
    out = io.StringIO()
    call_command("resume_provider", name, stdout=out)
    return out.getvalue()


def test_a_provider_with_a_closed_breaker_is_not_resumed(settings: Any) -> None:
    assert resume("clipart") == "clipart was not suspended.\n"
    with pytest.raises(CommandError, match="There is no provider midjourney; use one of clipart"):
        resume("midjourney")


@pytest.fixture
def openai_with(settings: Any) -> Callable[..., None]:
    """OpenAI is configured, and its usual model has these values."""
    settings.PROVIDERS, settings.PROVIDER_MODELS = ["openai"], {"openai": "gpt-image-2"}
    # What else ends is not what these tests are about.
    ProviderModel.objects.update(shutdown_date=None)

    def change(name: str = "gpt-image-2", **values: Any) -> None:
        ProviderModel.objects.filter(name=name).update(**values)
        caching.clear_all()

    return change


def in_days(days: int) -> date:
    return datetime.now(UTC).date() + timedelta(days=days)


def flare() -> ProviderModel:
    return ProviderModel.objects.get(name="gpt-image-2.5-flare")


def test_a_usual_model_that_ends_soon_is_told_with_its_successor(openai_with: Callable[..., None]) -> None:
    openai_with(shutdown_date=in_days(30), successor=flare())
    page = the_finding()
    assert f"The model gpt-image-2 of openai is retired on {in_days(30)}" in page
    assert "gpt-image-2.5-flare is used instead from then on" in page
    assert "set OPENAI_IMAGE_MODEL=gpt-image-2.5-flare" in page


def test_a_model_that_ends_later_or_is_unused_needs_no_warning(openai_with: Callable[..., None]) -> None:
    openai_with(shutdown_date=in_days(31))
    openai_with("gpt-image-2.6-flare", shutdown_date=in_days(2))
    assert doctor()[0] == 0


@pytest.mark.parametrize("over", [{"shutdown_date": date(2026, 1, 1)}, {"enabled": False}])
def test_a_usual_model_that_is_retired_is_told(openai_with: Callable[..., None], over: dict[str, Any]) -> None:
    openai_with(successor=flare(), **over)
    page = the_finding()
    assert "The model gpt-image-2 of openai is retired, and the settings name it" in page
    assert "set OPENAI_IMAGE_MODEL=gpt-image-2.5-flare" in page


def test_a_model_that_ends_without_a_successor_wants_one(openai_with: Callable[..., None]) -> None:
    openai_with(shutdown_date=in_days(3))
    page = the_finding()
    assert "requests that name it are rejected" in page
    assert "enter a successor of gpt-image-2 in the admin" in page


def test_a_model_that_clients_name_is_told_before_its_end_and_not_after_it(
    openai_with: Callable[..., None], alice: User
) -> None:
    claim = claimed(alice)
    deadline = timedelta(minutes=1)
    permits.begin_call(claim, provider="openai", model="gpt-image-2.6-flare", prompt="", deadline=deadline)
    openai_with("gpt-image-2.6-flare", shutdown_date=in_days(2), successor=flare())
    assert "let clients name gpt-image-2.5-flare" in the_finding()
    openai_with("gpt-image-2.6-flare", shutdown_date=in_days(0))
    assert doctor()[0] == 0


# --- Where the tables cannot be read: a process of its own, as at night -----------------------------------------------


def manage(*arguments: str, url: str) -> tuple[int, str]:
    environment = os.environ | {"DATABASE_URL": url, "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout


def test_without_a_database_it_says_so_and_why(tmp_path: Path) -> None:
    code, page = manage("doctor", url=f"postgres://user:a-password@127.0.0.1:{closed_port()}/none")
    assert code == 1
    assert "The database cannot be reached" in page
    assert "Connection refused" in page
    assert "a-password" not in page
    assert "No worker" not in page


def test_missing_migrations_are_told_and_the_command_brings_them() -> None:
    with empty_database() as url:
        code, page = manage("doctor", url=url)
        assert code == 1
        assert re.search(r"Migrations that are not applied: \d+", page)
        assert "fix:   manage.py migrate\n" in page
        assert manage("migrate", "-v0", url=url)[0] == 0
        assert "Migrations" not in manage("doctor", url=url)[1]
