"""``manage.py doctor``: one page on what is stuck, why, and the command that mends it."""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

from django.core.management.base import BaseCommand
from django.db import Error

from generation.reports import doctor, statistics
from generation.states import WEIGHTS

#: Ids that are shown of one finding.
_SHOWN: Final = 3


class Command(BaseCommand):
    help = "Says what is stuck, why, and the command that mends it. Exits with 1 where something is."

    def handle(self, *args: Any, **options: Any) -> None:
        logging.disable()  # whatever is wrong is told below, once
        try:
            found = self._look()
        finally:
            logging.disable(logging.NOTSET)
        if found:
            sys.exit(1)
        self.stdout.write(self.style.SUCCESS("Nothing is stuck."))

    def _look(self) -> list[doctor.Finding]:
        try:
            queue = statistics.queue_status()
        except Error:
            self.stdout.write("The queue cannot be looked at.\n\n")
        else:
            self._describe(queue)
        found = doctor.findings(sign_in=True)
        for finding in found:
            self._show(finding)
        return found

    def _describe(self, queue: dict[str, Any]) -> None:
        waiting = ", ".join(f"{queue['queuedByPriority'][name]} {name}" for name in WEIGHTS)
        workers = "1 worker" if queue["workers"] == 1 else f"{queue['workers']} workers"
        self.stdout.write(f"Queued       {queue['queueLength']} ({waiting})")
        self.stdout.write(f"In progress  {queue['activeRequests']} of {queue['capacity']} slots, {workers}")
        self.stdout.write(f"Oldest       {queue['oldestQueuedAt'] or 'nothing waits'}\n\n")

    def _show(self, finding: doctor.Finding) -> None:
        self.stdout.write(self.style.ERROR(finding.what))
        self.stdout.write(f"  why:   {finding.why}")
        self.stdout.write(f"  mend:  {finding.remedy}")
        more = len(finding.ids) - _SHOWN
        lines = [*finding.ids[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        for label, line in zip(["which:", *[""] * _SHOWN], lines, strict=False):
            self.stdout.write(f"  {label:<6} {line}")
        self.stdout.write("")
