"""Statements whose plans PostgreSQL keeps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.utils import NotSupportedError

from generation import prepared, waiting
from generation.models import GenerationQueue, GenerationRequest
from tests.support.requests import queued

pytestmark = [
    pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite plans a statement when it is run"),
    pytest.mark.django_db(transaction=True),
]


def plans(of: str) -> list[int]:
    """How often each plan that this connection keeps was used."""
    query = "SELECT generic_plans + custom_plans FROM pg_prepared_statements WHERE statement LIKE %s"
    with connection.cursor() as cursor:
        cursor.execute(query, [f"%{of}%"])
        return [int(used) for (used,) in cursor.fetchall()]


def test_a_statement_is_planned_once_and_others_are_not_kept(alice: User) -> None:
    request = queued(alice)
    with connection.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")  # what this connection has kept for others
    for _ in range(3):
        assert prepared.get(GenerationRequest, request.pk) == request
        assert GenerationRequest.objects.get(pk=request.pk) == request
    assert plans('FROM "generation_requests"') == [3]


def test_behind_a_pooler_that_cannot_keep_plans_there_are_none(settings: Any) -> None:
    settings.DATABASE_PREPARED_STATEMENTS = False
    assert connection.get_connection_params()["prepare_threshold"] is None


@pytest.fixture
def table() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE of_one_test (name varchar(10))")
        cursor.execute("INSERT INTO of_one_test VALUES ('a cat')")
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE of_one_test")


def read() -> str:
    with prepared.open_cursor() as cursor:
        cursor.execute("SELECT name FROM of_one_test WHERE name LIKE %s", ["a%"])
        return str(cursor.fetchone()[0])


def widen() -> None:
    """Behind the back of psycopg, which forgets its plans at an ALTER of its own connection."""
    with connection.cursor() as cursor:
        cursor.execute("DO $$ BEGIN ALTER TABLE of_one_test ALTER name TYPE varchar(20); END $$")


@pytest.mark.usefixtures("table")
def test_a_plan_outlives_a_migration_that_changes_a_column() -> None:
    assert read() == "a cat"
    widen()
    assert read() == "a cat"


@pytest.mark.usefixtures("table")
def test_in_a_transaction_the_next_one_is_well_again() -> None:
    assert read() == "a cat"
    widen()
    with pytest.raises(NotSupportedError, match="cached plan"), transaction.atomic():
        read()
    assert read() == "a cat"


@pytest.fixture
def long_queue() -> Iterator[None]:
    """Behind the back of those who look whether rows belong to something, and with plans for any parameters at once."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(
            "INSERT INTO generation_queue (request_id, priority_weight, dispatch_count, held, waits_for, queued_at)"
            " SELECT 'vga_' || n, (ARRAY[1000, 100, 10, 1])[n % 4 + 1], 0, false, '', now() - n * interval '1 s'"
            " FROM generate_series(1, 20000) AS n"
        )
        cursor.execute("RESET session_replication_role")
        cursor.execute("ANALYZE generation_queue")
        cursor.execute("SET plan_cache_mode = force_generic_plan")
    yield
    with connection.cursor() as cursor:
        cursor.execute("RESET plan_cache_mode")


@pytest.mark.usefixtures("long_queue")
@pytest.mark.parametrize(("weight", "place"), [(1000, 3), (1000, 400), (100, 300), (1, 4000)])
def test_of_a_long_queue_no_more_is_read_than_is_counted(weight: int, place: int) -> None:
    entry = GenerationQueue.objects.filter(priority_weight=weight).order_by("queued_at")[place]
    more_pressing = GenerationQueue.objects.filter(priority_weight__gt=weight).count()
    assert waiting._counted(entry) == (more_pressing + place if more_pressing + place < waiting.COUNTED else None)
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM pg_prepared_statements WHERE statement LIKE '%COUNT(%generation_queue%LIMIT%'")
        ((name,),) = cursor.fetchall()
        given = [weight, weight, entry.queued_at, entry.queued_at, entry.pk]
        cursor.execute(f"EXPLAIN (ANALYZE) EXECUTE {name}(%s, 500, %s, %s, %s, %s, 500)", given)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Seq Scan" not in plan
    assert all(int(rows) <= 1 for rows in re.findall(r"Rows Removed by Filter: (\d+)", plan)), plan  # the row itself
