"""The command ``manage.py doctor``: report problems with their causes, and the commands that fix them."""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

from django.core.management.base import BaseCommand
from django.db import Error

from generation.reports import doctor, statistics
from generation.reports.findings import Finding
from generation.states import WEIGHTS

#: Maximum number of ids shown per finding.
_SHOWN: Final = 3


class Command(BaseCommand):
    help = "Reports problems with their causes, and the commands that fix them. Exits with 1 if there is a problem."

    def handle(self, *args: Any, **options: Any) -> None:
        logging.disable()  # the findings below report each problem once
        try:
            findings = self._report()
        finally:
            logging.disable(logging.NOTSET)
        if findings:
            sys.exit(1)
        self.stdout.write(self.style.SUCCESS("Nothing is stuck."))

    def _report(self) -> list[Finding]:
        try:
            queue = statistics.queue_status()
        except Error:
            self.stdout.write("The queue cannot be read.\n\n")
        else:
            self._describe(queue)
        findings = doctor.findings(sign_in=True)
        for finding in findings:
            self._show(finding)
        return findings

    def _describe(self, queue: dict[str, Any]) -> None:
        waiting = ", ".join(f"{queue['queuedByPriority'][name]} {name}" for name in WEIGHTS)
        workers = "1 worker" if queue["workers"] == 1 else f"{queue['workers']} workers"
        self.stdout.write(f"Queued       {queue['queueLength']} ({waiting})")
        self.stdout.write(f"In progress  {queue['activeRequests']} of {queue['capacity']} slots, {workers}")
        self.stdout.write(f"Oldest       {queue['oldestQueuedAt'] or 'no request is queued'}\n\n")

    def _show(self, finding: Finding) -> None:
        self.stdout.write(self.style.ERROR(finding.what))
        self.stdout.write(f"  why:   {finding.why}")
        self.stdout.write(f"  fix:   {finding.remedy}")
        more = len(finding.ids) - _SHOWN
        lines = [*finding.ids[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        for label, line in zip(["which:", *[""] * _SHOWN], lines, strict=False):
            self.stdout.write(f"  {label:<6} {line}")
        self.stdout.write("")
