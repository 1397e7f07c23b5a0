"""A role for each kind of process: its sessions, its time-outs, and what follows when one is reached."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import httpx2
import psycopg
import pytest

from generation.db.session_settings import SERVED, SETTINGS, Kind, application_name
from tests.faults.house import House, built
from tests.servers import temporary_folder
from tests.support.postgres import Postgres, tools
from tests.support.stack import PASSWORD, ROOT, wait_until

PROCESSES = (Kind.WEB, Kind.REALTIME, Kind.WORKER, Kind.DISPATCHER)
EXPORT = "/admin/generation/generationrequest/export/"
ROWS = 3_500
SECRET = "it's a secret"
_FILL = f"""
from django.contrib.auth.models import User
from generation.models import GenerationRequest
bob = User.objects.get(username="bob")
GenerationRequest.objects.bulk_create(
    GenerationRequest(id=f"vga_{{10**15 + number}}_{{'x' * 18}}", owner=bob, type="cover", prompt="A dragon",
        priority="normal", max_attempts=1)
    for number in range({ROWS})
)
GenerationRequest.objects.update(status="failed", error={{"code": "auth"}}, completed_at="2026-01-01T00:00:00Z")
"""


class Server:
    """A PostgreSQL server with the roles of ``deploy/roles.sh``, whose log has each statement and its application."""

    def __init__(self) -> None:
        self._folder = temporary_folder()
        self.postgres = Postgres(self._folder)
        self.execute(
            "ALTER SYSTEM SET log_line_prefix = '<%a> '",
            "ALTER SYSTEM SET log_statement = 'all'",
            "SELECT pg_reload_conf()",
        )
        self.make_roles()
        # The tables of the tests belong to the superuser, and not to vga_owner, who would grant this.
        self.execute("GRANT pg_read_all_data, pg_write_all_data TO vga_app")

    def execute(self, *statements: str) -> None:
        with psycopg.connect(self.postgres.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def make_roles(self) -> None:
        secrets = temporary_folder()
        for name in ("postgres_owner_password", "postgres_app_password"):
            (secrets / name).write_text(f"{SECRET}\n")
        given = tools(self.postgres.url) | {"SECRETS_DIR": str(secrets), "POSTGRES_DB": "postgres"}
        subprocess.run(["sh", ROOT / "deploy" / "roles.sh"], env=given, check=True)

    def log(self) -> str:
        return (self._folder / "postgresql.log").read_text()


def signing_in(url: str, role: str) -> str:
    """Return the address with one of the roles."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{role}:{quote(SECRET)}@{parts.hostname}:{parts.port}"))


@pytest.fixture(scope="module")
def server() -> Server:
    return Server()


@pytest.fixture
def house(server: Server, tmp_path: Path) -> Iterator[House]:
    """A house whose processes sign in as ``vga_{kind}``; nothing runs in it yet."""
    with built(tmp_path, server=server.postgres.url, LEASE_MS="30000", WEB_WORKERS="1") as house:
        house.stack.env["DATABASE_URL"] = signing_in(house.database_url, "vga_{kind}")
        yield house


@pytest.fixture
def running(house: House) -> House:
    """All processes, and what a submit needs."""
    house.stack.start(*PROCESSES)
    house.wait_until_up(workers=1)
    house.wait_for(house.submit(0), "completed")
    return house


def subscribe(house: House) -> httpx2.Response:
    """Ask the realtime process, which reads the database to sign in and to find what is watched."""
    headers = {"Authorization": house.alice.headers["Authorization"]}
    url = f"http://127.0.0.1:{house.stack.realtime_port}/api/visual-generation/events"
    with httpx2.stream("GET", url, params={"projectId": "p"}, headers=headers, timeout=20) as answer:
        if answer.status_code != 200:
            answer.read()
        return answer


def manage(house: House, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=house.stack.env, capture_output=True, text=True, check=False)


def test_every_process_names_its_sessions_and_signs_in_as_its_role(running: House) -> None:
    assert subscribe(running).status_code == 200
    query = "SELECT DISTINCT application_name, usename FROM pg_stat_activity WHERE datname = current_database()"
    wanted = {(f"vga-{kind}", f"vga_{kind}") for kind in PROCESSES}

    def found() -> bool:
        return wanted <= {(row["application_name"], row["usename"]) for row in running.rows(query)}

    wait_until(found, what="sessions of every kind")


def test_a_lock_that_is_not_had_in_time_does_no_harm(running: House, server: Server) -> None:
    house, before = running, len(server.log())
    house.provider.script("hold")
    held = house.submit(1)
    house.wait_for_calls(2)

    def all_gave_up() -> bool:
        given_up = set(re.findall(r"<([\w-]+)> ERROR:  canceling statement due to lock timeout", server.log()[before:]))
        return {application_name(kind) for kind in PROCESSES} <= given_up

    # Whatever the processes read or write of requests and of processes has to wait for this.
    everything = "LOCK TABLE generation_requests, generation_workers, auth_user IN ACCESS EXCLUSIVE MODE"
    with ThreadPoolExecutor(2) as clients, house.holding(everything):
        answers = clients.submit(house.try_submit, 2), clients.submit(subscribe, house)
        for answer in (one.result() for one in answers):
            assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable"), answer.text
            assert int(answer.headers["Retry-After"]) > 0
        wait_until(all_gave_up, seconds=30, what="a lock timeout of every process")
    house.provider.release()
    assert house.wait_for(held, "completed") == "completed"
    house.wait_for(house.submit(3), "completed")
    assert house.counts_of_calls() == {0: 1, 1: 1, 3: 1}
    assert [name for name in PROCESSES if house.stack.has_ended(name)] == []
    house.assert_whole()


def test_a_statement_that_takes_too_long_is_answered_with_503(house: House, server: Server) -> None:
    house.execute(
        "CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF NEW.prompt LIKE '%000007%' THEN PERFORM pg_sleep(60); END IF; RETURN NEW; END $$"
    )
    house.execute("CREATE TRIGGER nap BEFORE INSERT ON generation_requests FOR EACH ROW EXECUTE FUNCTION nap()")
    server.execute("ALTER ROLE vga_web SET statement_timeout = '1s'")
    try:
        house.stack.start("web")
        house.wait_until_up()
        answer = house.try_submit(7)
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable"), answer.text
        assert int(answer.headers["Retry-After"]) > 0
        assert 1 <= answer.elapsed.total_seconds() < 10
        assert "<vga-web> ERROR:  canceling statement due to statement timeout" in server.log()
        house.submit(8)
        # doctor signs in as each kind of process, and says what is wrong with whose sessions.
        done = manage(house, "doctor")
        assert done.returncode == 1
        assert "Sessions of the web process have the wrong settings: statement_timeout is 1s, not 10s\n" in done.stdout
        assert "wrong settings" not in done.stdout.replace("of the web process have the wrong settings", "", 1)
        assert "manage.py set_role_settings" in done.stdout
    finally:
        house.stack.manage("set_role_settings")
    assert "wrong settings" not in manage(house, "doctor").stdout


def test_doctor_names_a_role_that_is_missing_and_the_script_makes_it(house: House, server: Server) -> None:
    server.execute("DROP ROLE vga_realtime")
    page = manage(house, "doctor").stdout
    assert "The realtime process cannot sign in to the database as vga_realtime" in page
    assert "run deploy/roles.sh again" in page
    server.make_roles()
    page = manage(house, "doctor").stdout
    assert "sign in" not in page
    assert "wrong settings" not in page


@pytest.mark.parametrize("kind", SERVED)
def test_a_session_has_the_settings_of_its_kind(server: Server, kind: Kind) -> None:
    with psycopg.connect(signing_in(server.postgres.url, f"vga_{kind}")) as connection:
        found = {name: connection.execute(f"SHOW {name}".encode()).fetchone() for name in SETTINGS[kind]}
    assert found == {name: (value,) for name, value in SETTINGS[kind].items()}


def test_a_migration_whose_table_is_in_use_is_tried_again(house: House, server: Server) -> None:
    environment = house.stack.env | {"DATABASE_URL": house.database_url}
    command = [sys.executable, "manage.py", "migrate", "--no-input"]
    pipe = subprocess.PIPE
    with house.holding("LOCK TABLE django_migrations IN ACCESS EXCLUSIVE MODE"):
        migrating = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)
        assert migrating.stderr is not None
        assert migrating.stderr.readline() == "A table is in use. Trying again.\n"
    assert "No migrations to apply" in migrating.communicate(timeout=60)[0]
    assert migrating.returncode == 0


def test_many_rows_are_read_by_pages_and_without_a_cursor_of_the_server(house: House, server: Server) -> None:
    house.stack.manage("shell", "-v0", "-c", _FILL)
    house.stack.start("web")
    house.wait_until_up()
    before = len(server.log())
    with httpx2.Client(base_url=house.stack.base_url, timeout=60) as client:
        form = client.get("/admin/login/").text
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form)
        assert token
        body = {"csrfmiddlewaretoken": token[1], "username": "bob", "password": PASSWORD}
        assert client.post("/admin/login/", data=body).status_code == 302
        export = client.get(EXPORT)
    assert len(export.text.splitlines()) == ROWS + 1
    assert manage(house, "prune").returncode == 0
    log = server.log()[before:]
    pages = re.findall(r"<vga-web> LOG: .*FROM \"generation_requests\" .*LIMIT 1000", log)
    assert len(pages) == ROWS // 1000 + 2  # the last is empty
    assert "<vga-command> LOG:  statement" in log
    assert not re.search(r"\bDECLARE\b|\bFETCH\b", log)
