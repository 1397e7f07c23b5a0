"""A pooler of transactions in front of the database: everything works, and statements are not mixed up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from generation.db.session_settings import SERVED, SETTINGS, role
from tests.faults.house import House, built
from tests.support import pgbouncer
from tests.support.pgbouncer import PgBouncer
from tests.support.stack import ROOT

ROLE = "pooled_{kind}"


@pytest.fixture
def pooled(tmp_path: Path) -> Iterator[House]:
    """A house whose processes reach the database through PgBouncer, as docs/scaling.md says."""
    pgbouncer.found()
    roles = [role(ROLE, kind) for kind in SERVED]
    with built(tmp_path, DATABASE_POOLER="true") as house:
        password = urlsplit(house.database_url).password
        for name in roles:
            house.execute(f"DROP ROLE IF EXISTS {name}")
            rights = "pg_read_all_data, pg_write_all_data"
            house.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}' IN ROLE {rights}")
        url = urlsplit(house.database_url)
        house.stack.env["DATABASE_URL"] = urlunsplit(
            url._replace(netloc=url.netloc.replace("postgres:", f"{ROLE}:", 1))
        )
        # Fewer connections than threads, so that each statement of a client may meet another server.
        with PgBouncer(house.database_url, role=ROLE, default_pool_size="4") as bouncer:
            house.stack.env["DATABASE_URL"] = bouncer.url
            assert "wrong settings: idle_in_transaction_session_timeout is 0, not 10s" in doctor(house)
            house.stack.manage("set_role_settings")
            bouncer.reconnect()
            assert "wrong settings" not in doctor(house)
            yield house
            house.stack.stop_all()
            house.assert_whole()
        for name in roles:
            house.execute(f"DROP ROLE {name}")


def doctor(house: House) -> str:
    """What it prints, whatever it finds."""
    command = [sys.executable, "manage.py", "doctor"]
    return subprocess.run(command, cwd=ROOT, env=house.stack.env, capture_output=True, text=True, check=False).stdout


def test_behind_pgbouncer_every_submit_is_kept_as_it_was_sent(pooled: House) -> None:
    house = pooled
    for kind in SERVED:
        with psycopg.connect(role(house.stack.env["DATABASE_URL"], kind)) as connection:
            for name, value in SETTINGS[kind].items():
                assert connection.execute(f"SHOW {name}".encode()).fetchone() == (value,)
    house.stack.start("web", "dispatcher", "worker")
    house.wait_until_up(workers=1)
    assert house.alice.get("/queue/status").status_code == 200  # signed in
    with ThreadPoolExecutor(24) as clients:
        ids = list(clients.map(house.submit, range(240)))
        shown = list(clients.map(lambda one: house.alice.get(f"/status/{one}?imageData=false").json(), ids))
    for number, (request_id, status) in enumerate(zip(ids, shown, strict=True)):
        assert (status["requestId"], status["prompt"]) == (request_id, f"Dragon number {number:06d} in a garden")
    house.wait_all_ended()
    assert house.called_once_each(240)
    house.stack.manage("prune")  # it reads whole tables, without a cursor of the server
