"""What concerns many rows takes them in pages, and misses none at their borders."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone
from rest_framework_simplejwt.token_blacklist.models import OutstandingToken

from generation.db.functions import Now
from generation.db.locks import long_statements
from generation.db.session_settings import LONG_STATEMENT
from generation.management.commands import requeue
from generation.models import GenerationQueue, StatusChange
from generation.queue import dispatch
from generation.realtime import hub
from generation.requests import lifecycle, retention
from generation.requests.claims import AttemptFailure
from tests.support.queries import queries_of
from tests.support.requests import claimed, queued

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("empty_queues")]

PAGE = 2


def pages_of(act: Callable[[], Any]) -> int:
    """Count the statements that read a page."""
    return sum(f"LIMIT {PAGE}" in statement for statement in queries_of(act))


@pytest.mark.parametrize(("rows", "pages"), [(0, 1), (1, 1), (2, 2), (5, 3)])
def test_requeue_reads_ids_in_pages(alice: User, monkeypatch: pytest.MonkeyPatch, rows: int, pages: int) -> None:
    monkeypatch.setattr(requeue, "_PAGE", PAGE)
    failure = AttemptFailure(message="It went wrong", code="auth", retryable=False)
    for _ in range(rows):
        assert lifecycle.fail(claimed(alice), failure)
    out = io.StringIO()
    assert pages_of(lambda: call_command("requeue", "--failed", "auth", stdout=out)) == pages
    assert out.getvalue().count(": queued again") == rows


def test_rows_that_waited_are_woken_in_steps(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_BATCH_SIZE", PAGE)
    for _ in range(5):
        queued(alice)
    GenerationQueue.objects.update(waits_for="openai", available_at=Now() + timedelta(hours=1))
    assert pages_of(lambda: dispatch.make_due("openai")) == 3
    assert not GenerationQueue.objects.exclude(waits_for="").exists()


def test_lost_updates_are_found_in_pages(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_PAGE", PAGE)
    requests = {claimed(alice).request.pk for _ in range(3)}  # two changes each
    look: Any = hub._changed_after
    found: list[Any] = []
    since: int | None = 0
    looks = 0
    while since is not None:
        since, page = look.func(since)
        found += page
        looks += 1
    assert looks == StatusChange.objects.count() // PAGE + 1
    assert {(one.request_id, one.sequence) for one in found} == {(pk, 2) for pk in requests}


def test_expired_sessions_and_tokens_are_deleted_in_steps(alice: User) -> None:
    now, leeway = timezone.now(), timedelta(seconds=10)
    for number, age in enumerate((-60, 5, 20, 20, 20)):
        expired = now - timedelta(seconds=age)
        Session.objects.create(session_key=f"key{number}", expire_date=expired)
        OutstandingToken.objects.create(user=alice, jti=f"jti{number}", token="t", expires_at=expired)
    assert list(retention.delete_expired_sign_ins(leeway=leeway, step=PAGE)) == [2, 2, 2, 1]
    assert [one.session_key for one in Session.objects.all()] == ["key0"]
    assert {one.jti for one in OutstandingToken.objects.all()} == {"jti0", "jti1"}


def test_a_long_statement_has_its_time_in_its_transaction_alone() -> None:
    def limit() -> str:
        with connection.cursor() as cursor:
            cursor.execute("SHOW statement_timeout")
            return str(cursor.fetchone()[0])

    before = limit()
    with long_statements():
        assert limit() == LONG_STATEMENT
    assert limit() == before
    with transaction.atomic():
        with long_statements():
            assert limit() == LONG_STATEMENT
        assert limit() == before
    with pytest.raises(ValueError, match="it failed"), long_statements():
        raise ValueError("it failed")
    assert limit() == before
