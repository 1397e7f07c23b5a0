"""PgBouncer with the configuration of the compose file, in front of a server of the tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from types import TracebackType

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from config.local.valkey import free_port
from generation.db.session_settings import SERVED, Kind
from generation.db.session_settings import role as role_of
from tests.servers import temporary_folder
from tests.support.stack import ROOT, wait_until


def found() -> str:
    """The program; skips the test where there is none."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if program is None:
        pytest.skip("there is no pgbouncer: install it (apt-get install pgbouncer)")
    return program


class PgBouncer:
    """Leads every client to one database as the role that it signs in as. ``role`` may have ``{kind}`` in it, and
    ``settings`` replace those of the file."""

    def __init__(self, database_url: str, *, role: str, **settings: str) -> None:
        server = conninfo_to_dict(database_url)
        self._as_user = ["-u", "nobody"] if os.geteuid() == 0 else []  # it does not run as root
        self.port = free_port()
        self.url = f"postgres://{role}@127.0.0.1:{self.port}/visual_generation"
        self._folder = temporary_folder()
        block = (ROOT / "deploy" / "pgbouncer" / "pgbouncer.ini").read_text()
        host = " ".join(f"{name}={server[name]}" for name in ("host", "port", "dbname"))
        text = re.sub(r"host=postgres port=5432 dbname=\w+", lambda _: host, block)
        # Only the port and how clients sign in differ from that file.
        changes = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self.port),
            "auth_type": "trust",
            "admin_users": "admin",
        } | settings
        for name, value in changes.items():
            text, times = re.subn(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.MULTILINE)
            text += "" if times else f"{name} = {value}\n"
        users = self._folder / "userlist.txt"
        names = ("admin", *(role_of(role, kind) for kind in SERVED))
        # For the server: here, clients need none.
        users.write_text("".join(f'"{name}" "{server["password"]}"\n' for name in names))
        users.chmod(0o644)
        text = re.sub(r"^auth_file = .*$", f"auth_file = {users}", text, flags=re.MULTILINE)
        self.ini = self._folder / "pgbouncer.ini"
        self.ini.write_text(text)
        self.ini.chmod(0o644)
        self.log = self._folder / "pgbouncer.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PgBouncer:
        command = [found(), *self._as_user, str(self.ini)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_until(self._answers, what="PgBouncer")
        except AssertionError as error:
            self._stop()
            raise AssertionError(self.log.read_text()) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def reconnect(self) -> None:
        """Have it sign in to the server again, as its administrator does after a change of roles."""
        address = f"postgres://admin@127.0.0.1:{self.port}/pgbouncer"
        # Its console knows the simple protocol alone.
        with psycopg.connect(address, autocommit=True, cursor_factory=psycopg.ClientCursor) as console:
            console.execute("RECONNECT")

    def _stop(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "it ended"
        try:
            with psycopg.connect(role_of(self.url, Kind.COMMAND)) as connection:
                return connection.execute("SELECT 1").fetchone() == (1,)
        except psycopg.OperationalError:
            return False
