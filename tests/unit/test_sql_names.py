"""Names in SQL against the models."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured

from generation.db import names, queries

TABLES = {model._meta.db_table: model for model in apps.get_app_config("generation").get_models()}


@pytest.mark.parametrize("sql", queries.ALL.values(), ids=queries.ALL)
def test_hot_statements_fit_the_models(sql: str) -> None:
    assert names.mistakes(sql, TABLES) == []


def test_every_hot_statement_is_checked_and_named() -> None:
    texts = {sql for name, sql in vars(queries).items() if name.isupper() and str(sql).startswith("/*")}
    assert texts == set(queries.ALL.values())
    assert all(sql.startswith(f"/* {name.removesuffix(' unlocked')} */\n") for name, sql in queries.ALL.items())


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT id FROM generation_requests", []),
        ("SELECT id FROM generation_request", ["no table generation_request", "no column id"]),
        ("SELECT idd FROM generation_requests", ["no column idd"]),
        ("SELECT request.id, request.lease FROM generation_requests AS request", ["no column lease"]),
        ("UPDATE generation_queue SET weight = 1", ["no column weight"]),
        ("SELECT 'any words' FROM generation_queue WHERE held = %(nothing)s", []),
        (
            "SELECT request.held FROM generation_requests AS request CROSS JOIN generation_queue",
            ["no column held in generation_requests"],
        ),
        (
            "UPDATE generation_requests SET status = '', held = TRUE FROM generation_queue",
            ["no column held in generation_requests"],
        ),
        (
            "INSERT INTO generation_pauses (scope, value, reason, held) SELECT '', '', '', held FROM generation_queue",
            ["no column held in generation_pauses"],
        ),
        ("/* any words */ DELETE FROM generation_queue", []),
        ("WITH front AS (SELECT request_id FROM generation_queue) SELECT request_id FROM front", []),
        ("INSERT INTO generation_pauses (scope, reason) SELECT 'type', ''", ["generation_pauses needs value"]),
        ("INSERT INTO generation_pauses (scope, value, reason) SELECT 'type', '', ''", []),
    ],
)
def test_mistakes_in_names_are_found(sql: str, expected: list[str]) -> None:
    assert names.mistakes(sql, TABLES) == expected


def test_a_process_does_not_start_with_a_name_that_is_gone() -> None:
    sql = queries.FIND.replace("traceparent", "trace_parent")
    with pytest.raises(ImproperlyConfigured, match="find: no column trace_parent"):
        names.check({"find": sql}, TABLES.values())
