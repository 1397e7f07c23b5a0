"""A PostgreSQL server that a test may restart and pause, and a wire to a database that may be pinched off."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from psycopg.conninfo import conninfo_to_dict

from config.local.postgresql import program
from tests.servers import PostgresServer


def tools(url: str) -> dict[str, str]:
    """Return the environment in which PostgreSQL's programs are found and find this server."""
    server = urlsplit(url)
    path = os.pathsep.join([str(program("psql").parent), os.environ["PATH"]])
    return {"PATH": path, "PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGPASSWORD": str(server.password)}


class Postgres(PostgresServer):
    """A server that a test may hurt. ``start`` reads back from the log what was committed."""

    def kill(self) -> None:
        """Stop it without writing anything down, as a loss of power does."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(60)
        self.stop()

    def pause(self) -> None:
        """It still accepts connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on where it was paused."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        parent = self.process.pid
        os.kill(parent, number)  # first, so that it starts no other meanwhile
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), number)


class Wire:
    """Passes on what goes to a database and comes from it. Pinched, it keeps everything back, as a network that drops
    packets does; no side is told."""

    def __init__(self, database_url: str) -> None:
        to: dict[str, Any] = conninfo_to_dict(database_url)
        self._to = str(to.get("host", "127.0.0.1")), int(to.get("port") or 5432)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._flows = threading.Event()
        self._flows.set()
        self._ends: list[socket.socket] = [self._listener]
        here = f"{to.get('user', '')}:{to.get('password', '')}@127.0.0.1:{self._listener.getsockname()[1]}"
        #: The database, through the wire.
        self.url = urlunsplit(urlsplit(database_url)._replace(netloc=here, query=""))

    def pinch(self) -> None:
        """Let nothing through."""
        self._flows.clear()

    def release(self) -> None:
        """Let through what was kept back, and all that follows."""
        self._flows.set()

    def __enter__(self) -> Wire:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flows.set()
        for end in self._ends:
            with contextlib.suppress(OSError):  # its other end has hung up
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed at the end
            while True:
                client, _ = self._listener.accept()
                server = self._connect()
                self._ends += [client, server]
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=[source, target], daemon=True).start()

    def _connect(self) -> socket.socket:
        host, port = self._to
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):  # either end may hang up at any time
            while data := source.recv(65536):
                self._flows.wait()
                target.sendall(data)
            self._flows.wait()
            target.shutdown(socket.SHUT_WR)
