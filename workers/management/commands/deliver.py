"""The command ``manage.py deliver``: the deliverer process."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import uvloop
from django.core.management.base import BaseCommand

from workers import metrics_server
from workers.deliverer import Deliverer
from workers.processes import end_soon


class Command(BaseCommand):
    # The checks run with the migrations; without them this process starts faster.
    requires_system_checks = ()
    help = "Sends webhooks, until it is stopped."

    def handle(self, *args: Any, **options: Any) -> None:
        uvloop.run(_deliver())


async def _deliver() -> None:
    deliverer = Deliverer()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        deliverer.stop()
        end_soon()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    metrics_server.serve(deliverer.is_alive)
    await deliverer.run()
