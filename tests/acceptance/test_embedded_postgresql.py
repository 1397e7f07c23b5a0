"""The embedded PostgreSQL server: it starts after any end of the run before, and only its owner can read the data."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest

from config.local.postgresql import running_postgresql
from tests.servers import temporary_folder
from tests.support.launcher import bare_environment
from tests.support.stack import ROOT, wait_until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount, and become another user")


@pytest.fixture(scope="module")
def made() -> Path:
    """A folder with a database, of which each test has a copy."""
    folder = temporary_folder() / "made"
    with running(folder):
        pass
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "postgresql"
    subprocess.run(["cp", "-a", made, copy], check=True)
    return copy


@contextmanager
def running(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with running_postgresql(folder, folder.with_name("postgresql.log"), fsync="off") as server:
        yield server


def url_of(folder: Path) -> str:
    return (folder / "url").read_text().strip()


def ask(folder: Path, query: str) -> object:
    with psycopg.connect(url_of(folder)) as connection:
        cursor = connection.execute(query.encode())
        while cursor.nextset():
            pass
        row = cursor.fetchone()
        return row and row[0]


def family_of(server: subprocess.Popen[bytes]) -> list[psutil.Process]:
    parent = psutil.Process(server.pid)
    return [parent, *parent.children()]


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


# --- The next start ---------------------------------------------------------------------------------------------------


def test_the_data_outlive_a_stop(folder: Path) -> None:
    with running(folder), psycopg.connect(url_of(folder)) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 'é' AS word")
    with running(folder):
        assert ask(folder, "SELECT word FROM kept") == "é"
    assert not (folder / "url").exists()


def test_it_starts_after_its_processes_were_killed(folder: Path) -> None:
    with running(folder) as server, closing(psycopg.connect(url_of(folder), autocommit=True)) as busy:
        busy.execute("CREATE TABLE kept AS SELECT 1 AS number")
        # A process of the server that is busy does not notice that its parent is gone.
        busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 1000000000000)")
        is_busy = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()"
        wait_until(lambda: ask(folder, is_busy), what="a busy process")
        left, note = family_of(server), url_of(folder)
        server.kill()
        server.wait()
        with running(folder):
            assert not any(process.is_running() for process in left)
            assert url_of(folder) != note
            assert ask(folder, "SELECT number FROM kept") == 1


def test_a_server_that_still_runs_is_replaced(folder: Path) -> None:
    with running(folder) as orphan:
        left = family_of(orphan)
        with running(folder):
            assert ask(folder, "SELECT 1") == 1
            assert not any(process.is_running() for process in left)


def test_a_number_that_now_belongs_to_another_process_is_no_obstacle(folder: Path) -> None:
    owner = (folder / "data").stat().st_uid
    with subprocess.Popen(["sleep", "600"], user=owner if os.geteuid() == 0 else None) as other:
        lines = [str(other.pid), str(folder / "data"), "1700000000", "5432", "", "127.0.0.1", "1234 5678", "ready   "]
        (folder / "data" / "postmaster.pid").write_text("\n".join(lines))
        with running(folder):
            assert ask(folder, "SELECT 1") == 1
        assert other.poll() is None
        other.kill()


def test_two_servers_run_beside_each_other(folder: Path, made: Path) -> None:
    with running(folder), running(made):
        assert ask(folder, "SHOW data_directory") == str(folder / "data")
        assert ask(made, "SHOW data_directory") == str(made / "data")


# --- What docs/operations.md says -------------------------------------------------------------------------------------


def test_a_dump_is_restored_as_the_page_says(folder: Path, made: Path, tmp_path: Path) -> None:
    section = (ROOT / "docs" / "operations.md").read_text().partition("## The embedded servers")[2]
    dump, restore = re.findall(r"^\$ \.venv/bin/python (-m config\.local\.postgresql pg_.*)$", section, re.MULTILINE)
    with running(folder):
        ask(folder, "CREATE TABLE kept AS SELECT 'é' AS word; SELECT 1")
        programs(folder, dump, tmp_path)
    other = tmp_path / "other" / "postgresql"
    other.parent.mkdir()
    subprocess.run(["cp", "-a", made, other], check=True)
    with running(other):
        programs(other, restore, tmp_path)
        assert ask(other, "SELECT word FROM kept") == "é"


def test_without_a_server_its_programs_say_so(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        programs(folder, "-m config.local.postgresql", tmp_path)
    assert refused.value.stderr == f"error: the embedded PostgreSQL server of {tmp_path} is not running\n"


def programs(folder: Path, command: str, dumps: Path) -> None:
    """Run the command of the page, with its dump in this folder."""
    line = command.replace("database.dump", str(dumps / "database.dump")).split()
    environment = bare_environment(VAR_DIR=str(folder.parent))
    subprocess.run([sys.executable, *line], cwd=ROOT, env=environment, check=True, capture_output=True, text=True)


# --- Odd folders ------------------------------------------------------------------------------------------------------


def test_any_name_of_a_folder_will_do(tmp_path: Path) -> None:
    deep = tmp_path / 'a "laptop\'s" $folder 100%' / "é" / ("x" * 200) / ("y" * 200)
    with running(deep):
        assert ask(deep, "SELECT lower('Ä')") == "ä"


def test_a_folder_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "notes.txt").write_text("mine")
    with (
        pytest.raises(RuntimeError, match="holds no PostgreSQL database: move it away, or set VAR_DIR"),
        running(tmp_path),
    ):
        pass
    assert (tmp_path / "data" / "notes.txt").read_text() == "mine"


@needs_root
def test_a_full_disk_is_named_and_leaves_no_half_made_database(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 20) as disk:
        folder = disk / "postgresql"
        full = r"^the embedded PostgreSQL server cannot be set up in .*: .*No space left on device$"
        with pytest.raises(RuntimeError, match=full), running(folder):
            pass
        assert not list(folder.iterdir())


@needs_root
def test_a_disk_that_has_become_full_is_named(made: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 80) as disk:
        folder = disk / "postgresql"
        subprocess.run(["cp", "-a", made, folder], check=True)
        subprocess.run(["dd", "if=/dev/zero", f"of={disk / 'filler'}", "bs=4k"], stderr=subprocess.DEVNULL, check=False)
        with pytest.raises(RuntimeError, match=r"does not start: .*No space left on device"), running(folder):
            pass
        (disk / "filler").unlink()
        with running(folder):
            assert ask(folder, "SELECT 1") == 1


# --- Other users of the machine ---------------------------------------------------------------------------------------


def test_it_listens_on_one_address_and_asks_for_the_password(folder: Path) -> None:
    with running(folder) as server:
        url = urlsplit(url_of(folder))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", url.port or 0), timeout=5)
        assert {name.laddr.ip for name in psutil.Process(server.pid).net_connections("all")} == {"127.0.0.1"}
        for credentials in ("postgres", "postgres:guess"):
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(f"postgres://{credentials}@127.0.0.1:{url.port}/postgres", passfile="/dev/null")
        seen = Path(f"/proc/{server.pid}/cmdline").read_text() + Path(f"/proc/{server.pid}/environ").read_text()
        assert str(url.password) not in seen
        assert "SECRET_KEY" not in seen


def test_its_log_has_no_word_of_a_statement(folder: Path) -> None:
    with running(folder), psycopg.connect(url_of(folder), autocommit=True) as connection:
        connection.execute("CREATE TABLE words (word text UNIQUE)")
        for _ in range(2):
            try:
                connection.execute("INSERT INTO words VALUES (%s)", ["a secret dragon"])
            except psycopg.errors.UniqueViolation:
                break
    log = folder.with_name("postgresql.log").read_text()
    assert "duplicate key" in log
    assert "dragon" not in log


@needs_root
def test_as_root_it_runs_as_another_user_and_opens_no_folder(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    folder = closed / "postgresql"
    with running(folder) as server:
        assert psutil.Process(server.pid).uids().effective == (folder / "data").stat().st_uid != 0
        for path in (closed, folder, folder / "data"):
            assert path.stat().st_mode & 0o077 == 0, path
        look = ["ls", str(folder / "data")]
        owner = (folder / "data").stat().st_uid
        for user in (owner, 1):
            done = subprocess.run(
                look, user=user, group=1, extra_groups=[], capture_output=True, text=True, check=False
            )
            assert "Permission denied" in done.stderr, done.stderr


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGQUIT], ids=["stopped", "its parent died"])
def test_it_leaves_no_shared_memory(folder: Path, by: signal.Signals) -> None:
    with running(folder) as server:
        segment = (folder / "data" / "postmaster.pid").read_text().split("\n")[6].split()[1]
        files = set(re.findall(r"/dev/shm/PostgreSQL\S*", Path(f"/proc/{server.pid}/maps").read_text()))
        assert segments().issuperset({segment})
        assert files
        server.send_signal(by)
        server.wait(20)
    assert segment not in segments()
    assert not any(Path(file).exists() for file in files)


def segments() -> set[str]:
    return {line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]}
