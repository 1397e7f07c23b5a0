"""``manage.py diffsettings`` without credentials, since its output is pasted into tickets."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.commands import diffsettings

from generation.telemetry.redaction import HIDDEN, SECRET_NAME, SHORTEST_ON_PAGES, Redactor


class Command(diffsettings.Command):
    """Django's command, with settings hidden whose name or value is that of a credential."""

    def handle(self, **options: Any) -> str:
        redact = Redactor(settings.SECRET_VALUES, shortest=SHORTEST_ON_PAGES)
        return "\n".join(map(redact, map(_without_named, (super().handle(**options) or "").splitlines())))


def _without_named(line: str) -> str:
    name, equals, _ = line.partition(" = ")
    return f"{name}{equals}'{HIDDEN}'" if equals and SECRET_NAME.search(name) else line
