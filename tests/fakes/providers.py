"""``python -m tests.fakes.providers --port N [--journal FILE]``: all fake vendors on one port of loopback."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import threading
from pathlib import Path

from tests.fakes.google import GoogleSignInWire, GoogleWire
from tests.fakes.journal import Journal
from tests.fakes.openai import OpenAIWire
from tests.fakes.server import Server


async def _run(port: int, journal: Journal) -> None:
    server = Server(wires=[OpenAIWire(), GoogleWire(), GoogleSignInWire()], journal=journal)
    sys.stdout.write(f"{await server.start(port)}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def _end_with_stdin() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """Prints the port once it listens, and runs until it is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--journal", type=Path, help="a file that each finished call is appended to, as JSON lines")
    parser.add_argument("--end-with-stdin", action="store_true", help="end when whoever started it does")
    arguments = parser.parse_args()
    if arguments.end_with_stdin:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(arguments.port, Journal(arguments.journal)))


if __name__ == "__main__":
    main()
