"""The command ``manage.py dispatch``: the dispatcher process."""

from __future__ import annotations

import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from workers import dispatcher, metrics_server
from workers.processes import end_soon


class Command(BaseCommand):
    # The checks run with the migrations; without them this process starts faster.
    requires_system_checks = ()
    help = "Sends the messages of queued requests, until it is stopped."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="make one pass and print its counts")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["once"]:
            done = dispatcher.run_once()
            self.stdout.write(", ".join(f"{name} {count}" for name, count in done.items()))
            return
        liveness = dispatcher.Liveness()
        metrics_server.serve(liveness)
        stopping = threading.Event()

        def stop(*_: object) -> None:
            stopping.set()
            end_soon()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        dispatcher.run_forever(stopping, liveness)
