"""``python -m tests.fakes.providers --port N [--journal FILE]``: all fake vendors on one port of loopback, or of the
address in ``--host``, and what speaks gRPC on another port of loopback, where stability-sdk is installed."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

from tests.fakes.google import GoogleSignInWire, GoogleWire
from tests.fakes.journal import Journal
from tests.fakes.openai import OpenAIWire
from tests.fakes.server import Server
from tests.fakes.stability import StabilityWire
from tests.fakes.stage import Stage


async def _run(host: str, port: int, grpc_port: int, journal: Journal) -> None:
    stage = Stage(journal)
    server = Server(wires=[OpenAIWire(), StabilityWire(), GoogleWire(), GoogleSignInWire()], stage=stage)
    if find_spec("stability_sdk"):
        from tests.fakes.stability_grpc import GrpcListener

        grpc_port = await GrpcListener(stage).start(grpc_port)
    sys.stdout.write(f"{await server.start(port, host)} {grpc_port}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def _end_with_stdin() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """Prints the ports once it listens, and runs until it is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--grpc-port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--journal", type=Path, help="a file that each finished call is appended to, as JSON lines")
    parser.add_argument("--end-with-stdin", action="store_true", help="end with the process that started it")
    arguments = parser.parse_args()
    if arguments.end_with_stdin:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(arguments.host, arguments.port, arguments.grpc_port, Journal(arguments.journal)))


if __name__ == "__main__":
    main()
