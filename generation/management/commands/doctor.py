"""``manage.py doctor``: one page on what is stuck, why, and the command that mends it."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand

from generation import diagnosis, statistics
from generation.states import WEIGHTS


class Command(BaseCommand):
    help = "Says what is stuck, why, and the command that mends it. Exits with 1 where something is."

    def handle(self, *args: Any, **options: Any) -> None:
        queue = statistics.queue_status()
        waiting = ", ".join(f"{queue['queuedByPriority'][name]} {name}" for name in WEIGHTS)
        self.stdout.write(f"Queued       {queue['queueLength']} ({waiting})")
        slots, workers = queue["capacity"], queue["workers"]
        self.stdout.write(f"In progress  {queue['activeRequests']} of {slots} slots, {workers} workers")
        self.stdout.write(f"Oldest       {queue['oldestQueuedAt'] or 'nothing waits'}\n\n")
        found = diagnosis.findings()
        for finding in found:
            self.stdout.write(self.style.ERROR(finding.what))
            self.stdout.write(f"  why:   {finding.why}")
            self.stdout.write(f"  mend:  {finding.remedy}\n\n")
        if found:
            sys.exit(1)
        self.stdout.write(self.style.SUCCESS("Nothing is stuck."))
