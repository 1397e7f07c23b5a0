"""The command ``manage.py check_counters``: compare the counters with the tables, and correct them."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from generation.db import counter_checks, counters


class Command(BaseCommand):
    help = "Compares the counters with the tables. Exits with 1 if they differ and --fix is not given."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--fix", action="store_true", help="correct the counters; processes may run meanwhile")

    def handle(self, *args: Any, **options: Any) -> None:
        found = counter_checks.differences(fix=options["fix"])
        for difference in found:
            self.stdout.write(str(difference))
        if not found:
            self.stdout.write(self.style.SUCCESS("The counters agree with the tables."))
        elif options["fix"]:
            counters.fold()
            self.stdout.write(self.style.SUCCESS(f"Corrected {len(found)} counters."))
        else:
            self.stdout.write(f"{len(found)} counters differ; correct them with: manage.py check_counters --fix")
            sys.exit(1)
