"""Which errors of the database are an outage, by their SQLSTATE."""

from __future__ import annotations

import re
from pathlib import Path

import django.db
import psycopg
import pytest
from django.db.utils import DatabaseErrorWrapper
from psycopg import errors

from generation.db.outages import DatabaseUnavailableError, is_outage, raising_unavailable, sqlstate

OUTAGES = {
    "08000": "connection exception",
    "08006": "connection failure",
    "08P01": "protocol violation, which is what PgBouncer says of its own faults",
    "25006": "a standby, or a database that was set read-only",
    "25P03": "the transaction was idle too long",
    "25P04": "the transaction took too long",
    "28P01": "the password is being changed",
    "40001": "serialization failure, or a conflict with recovery",
    "40P01": "deadlock",
    "53100": "the disk is full",
    "53200": "out of memory",
    "53300": "too many connections",
    "55P03": "a lock was not to be had in time",
    "55006": "the database is being copied",
    "57014": "the statement took too long",
    "57P01": "the server is being stopped",
    "57P02": "the server crashed",
    "57P03": "the server is starting",
    "57P04": "the database was dropped",
    "58030": "the disk failed",
}
ROOT = Path(__file__).parents[2]
#: The predicate, the connection that was found cut, and a gauge that is 0 after any error.
ALLOWED = {
    "config/postgresql/base.py",
    "generation/db/outages.py",
}
FAULTS = ("22001", "23505", "25P02", "42601", "42703", "42501", "42P01", "0A000", "26000", "54000", "XX000")


def raised(error: Exception) -> django.db.Error:
    """The error as Django raises it."""
    wrapper = DatabaseErrorWrapper(django.db.connection)
    with pytest.raises(django.db.Error) as caught, wrapper:
        raise error
    return caught.value


def of_state(state: str) -> Exception:
    try:
        return errors.lookup(state)("said the server")
    except KeyError:  # newer than psycopg knows
        error = psycopg.InternalError("said the server")
        error.sqlstate = state
        return error


@pytest.mark.parametrize("state", OUTAGES)
def test_these_states_are_an_outage(state: str) -> None:
    assert is_outage(raised(of_state(state))), OUTAGES[state]
    assert is_outage(of_state(state))


@pytest.mark.parametrize("state", FAULTS)
def test_these_states_are_a_fault_of_the_statement(state: str) -> None:
    assert not is_outage(raised(of_state(state)))


def test_without_a_state_the_class_decides() -> None:
    assert is_outage(raised(psycopg.OperationalError("server closed the connection unexpectedly")))
    assert is_outage(raised(psycopg.InterfaceError("the connection is closed")))
    assert is_outage(django.db.InterfaceError("connection already closed"))
    assert not is_outage(raised(psycopg.ProgrammingError("the query has 0 placeholders but 1 parameters were passed")))
    assert not is_outage(ValueError("not of the database"))
    assert not is_outage(None)
    assert sqlstate(django.db.OperationalError("no cause")) == ""


def test_an_outage_is_raised_as_a_class_of_its_own_and_a_fault_is_not() -> None:
    with pytest.raises(DatabaseUnavailableError) as caught, raising_unavailable():
        raise raised(of_state("57014"))
    assert is_outage(caught.value)
    assert isinstance(caught.value.__cause__, django.db.OperationalError)
    with pytest.raises(django.db.ProgrammingError), raising_unavailable():
        raise raised(of_state("42601"))


def test_nothing_else_decides_by_the_class_of_an_error() -> None:
    """Django's classes are caught where any error of the database is meant, and none is taken for an outage."""
    pattern = re.compile(r"\b(?:OperationalError|InterfaceError)\b")
    found = {
        str(path.relative_to(ROOT))
        for folder in ("config", "generation", "workers")
        for path in (ROOT / folder).rglob("*.py")
        if pattern.search(path.read_text())
    }
    assert found == ALLOWED
