"""The time-outs of each kind of process, beside what they have to be shorter or longer than."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from config.settings import HEARTBEAT_INTERVAL, LEASE
from generation.db.session_settings import LONG_STATEMENT, SERVED, SETTINGS, Kind
from workers import dispatcher, runtime

_UNITS = {"s": 1, "min": 60, "": 1}
_NGINX = (Path(__file__).parents[2] / "deploy" / "nginx.conf").read_text()


def seconds(value: str) -> float:
    found = re.fullmatch(r"(\d+)(s|min|)", value)
    assert found, value
    return int(found[1]) * _UNITS[found[2]]


def limit(kind: Kind, name: str) -> float:
    return seconds(SETTINGS[kind][f"{name}_timeout"])


@pytest.mark.parametrize("kind", SERVED)
def test_no_session_keeps_locks_or_runs_without_end(kind: Kind) -> None:
    assert 0 < limit(kind, "lock") < limit(kind, "statement")
    assert 0 < limit(kind, "idle_in_transaction_session") < LEASE.total_seconds() / 2


@pytest.mark.parametrize("name", ["lock", "statement"])
def test_a_heartbeat_that_timed_out_leaves_time_for_another(name: str) -> None:
    trusted = runtime._LEASE_SHARE * LEASE.total_seconds()
    assert HEARTBEAT_INTERVAL.total_seconds() + limit(Kind.WORKER, name) + runtime._HEARTBEAT_RETRY < trusted


@pytest.mark.parametrize("kind", [Kind.WEB, Kind.REALTIME])
def test_a_client_is_answered_before_the_proxy_gives_up(kind: Kind) -> None:
    patience = min(int(found) for found in re.findall(r"proxy_read_timeout (\d+)s", _NGINX))
    assert 3 * limit(kind, "statement") < patience


def test_a_long_statement_does_not_make_a_dispatcher_look_stuck() -> None:
    assert limit(Kind.DISPATCHER, "statement") < seconds(LONG_STATEMENT) < dispatcher._STUCK_AFTER


def test_a_migration_stops_waiting_before_what_waits_behind_it() -> None:
    assert limit(Kind.MIGRATION, "lock") < min(limit(kind, "lock") for kind in SERVED)
    assert limit(Kind.MIGRATION, "statement") == 0
    assert timedelta(seconds=limit(Kind.MIGRATION, "idle_in_transaction_session")) >= timedelta(seconds=30)
