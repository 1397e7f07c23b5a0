"""Running the hot statements: their plans are kept, and rows become instances."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.utils import NotSupportedError

from generation.db import execution, queries
from generation.models import GenerationRequest
from generation.requests import selectors
from generation.requests.rows import read_request
from tests.support.requests import completed, queued

pytestmark = pytest.mark.django_db(transaction=True)


def uses_of_plans(name: str) -> list[int]:
    """Return how often each plan that this connection keeps for the statement was used."""
    query = "SELECT generic_plans + custom_plans FROM pg_prepared_statements WHERE statement LIKE %s"
    with connection.cursor() as cursor:
        cursor.execute(query, [f"/* {name} */%"])
        return [int(used) for (used,) in cursor.fetchall()]


def test_a_hot_statement_is_planned_once_and_others_are_not_kept(alice: User) -> None:
    request = queued(alice)
    with connection.cursor() as cursor:
        # What this connection has kept for others. psycopg overlooks this command if the same text has run before while
        # it had nothing prepared, so the text is not that of the product.
        cursor.execute("DEALLOCATE ALL -- for a test")
    for _ in range(3):
        assert selectors.any_request(request.pk) == request
        assert GenerationRequest.objects.get(pk=request.pk) == request
    assert uses_of_plans("find") == [3]


def test_behind_a_pooler_that_cannot_keep_plans_there_are_none(settings: Any) -> None:
    settings.DATABASE_PREPARED_STATEMENTS = False
    assert connection.get_connection_params()["prepare_threshold"] is None


def test_a_row_becomes_what_the_orm_reads(alice: User) -> None:
    request = completed(alice, metadata={"seed": 7, "title": "Æ"}, project_id="book")
    row = execution.fetch_one(queries.FIND, {"request": request.pk, "owner": alice.pk})
    assert row is not None
    found, expected = read_request(row), GenerationRequest.objects.get(pk=request.pk)
    for field in GenerationRequest._meta.concrete_fields:
        assert getattr(found, field.attname) == getattr(expected, field.attname), field.name
        assert type(getattr(found, field.attname)) is type(getattr(expected, field.attname)), field.name
    assert not found.get_deferred_fields()


def test_columns_that_are_not_the_models_are_refused() -> None:
    with pytest.raises(ValueError, match="not the columns"):
        execution.instances(GenerationRequest, "id, owner_id")


@pytest.fixture
def table() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE of_one_test (name varchar(10))")
        cursor.execute("INSERT INTO of_one_test VALUES ('a cat')")
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE of_one_test")


def read() -> str:
    row = execution.fetch_one("SELECT name FROM of_one_test WHERE name LIKE %(like)s", {"like": "a%"})
    assert row is not None
    return str(row[0])


def widen() -> None:
    """Change the column without psycopg's notice, which forgets its plans at an ALTER of its own connection."""
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
