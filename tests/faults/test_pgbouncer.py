"""A pooler of transactions in front of the database: everything works, and statements are not mixed up."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from tests.faults.house import House, built
from tests.support import pgbouncer
from tests.support.pgbouncer import PgBouncer

ROLE = "pooled"


@pytest.fixture
def pooled(tmp_path: Path) -> Iterator[House]:
    """A house whose processes reach the database through PgBouncer, as docs/scaling.md says."""
    pgbouncer.found()
    with built(tmp_path, DATABASE_POOLER="true") as house:
        house.execute(f"DROP ROLE IF EXISTS {ROLE}")
        house.execute(f"CREATE ROLE {ROLE} LOGIN IN ROLE pg_read_all_data, pg_write_all_data")
        url = urlsplit(house.database_url)
        house.stack.env["DATABASE_URL"] = urlunsplit(
            url._replace(netloc=url.netloc.replace("postgres:", f"{ROLE}:", 1))
        )
        house.stack.manage("set_role_settings")
        # Fewer connections than threads, so that each statement of a client may meet another server.
        with PgBouncer(house.database_url, role=ROLE, default_pool_size="4") as bouncer:
            house.stack.env["DATABASE_URL"] = bouncer.url
            yield house
            house.stack.stop_all()
            house.assert_whole()
        house.execute(f"DROP ROLE {ROLE}")


def test_behind_pgbouncer_every_submit_is_kept_as_it_was_sent(pooled: House) -> None:
    house = pooled
    with psycopg.connect(house.stack.env["DATABASE_URL"]) as connection:
        for name, value in {"idle_in_transaction_session_timeout": "10s", "lock_timeout": "20s", "jit": "off"}.items():
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
