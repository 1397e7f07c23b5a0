"""The command ``manage.py resume_provider``: end the suspension of a provider, after its problem is fixed."""

from __future__ import annotations

from argparse import ArgumentParser
from itertools import chain
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from generation.models import ModelState, ProviderState
from generation.providers import circuit_breaker


class Command(BaseCommand):
    help = "Ends the suspension of a provider that failed, or that asked to wait."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME", help="as in PROVIDERS")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["name"]
        states = (model.objects.values_list("provider", flat=True) for model in (ProviderState, ModelState))
        known = {*settings.PROVIDERS, *chain.from_iterable(states)}
        if name not in known:
            raise CommandError(f"There is no provider {name}; use one of {', '.join(sorted(known))}.")
        if circuit_breaker.close(name):
            self.stdout.write(f"{name} is called again, and the requests that waited for it may start.")
        else:
            self.stdout.write(f"{name} was not suspended.")
