"""What every program does first: read the settings, and say in plain lines what is wrong with them."""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured

from generation.db.session_settings import Kind

#: Of `manage.py`: what is not named here is a command.
_COMMANDS: Final = {"dispatch": Kind.DISPATCHER, "migrate": Kind.MIGRATION, "runserver": Kind.WEB}
_kind = Kind.COMMAND
#: Objects made and not yet freed until the collector looks for cycles among them, and how often it looks further.
#: Python's own numbers have it look ten times as often.
_COLLECT_AFTER: Final = (7_000, 20, 20)


def lines(fault: Exception) -> str:
    """One line for each fault, as a program prints it before it gives up."""
    return "\n".join(f"error: {line}" for line in str(fault).splitlines())


def begin(kind: Kind) -> None:
    """Say what this process does, before the settings are read."""
    global _kind
    _kind = kind


def kind() -> Kind:
    """Return what this process does: a command unless it said otherwise."""
    return _kind


def kind_of_command(name: str) -> Kind:
    """Return what ``manage.py NAME`` does."""
    return _COMMANDS.get(name, Kind.COMMAND)


def require_settings(kind: Kind) -> None:
    """End a program of this kind with one line for each fault of the settings, or if there is no database."""
    begin(kind)
    try:
        from config import settings

        require_database(settings.DATABASES["default"])
    except ImproperlyConfigured as fault:
        sys.exit(lines(fault))


def require_database(settings: Mapping[str, Any]) -> None:
    """Raise ``ImproperlyConfigured`` if no database is set and the embedded one is not running."""
    if settings["NAME"] == "":  # Django has None while it makes a database
        raise ImproperlyConfigured(
            "the embedded PostgreSQL server is not running: start it with `make run`, or set DATABASE_URL"
        )


def freeze_gc() -> None:
    """Called once by each process that serves or draws, when it has loaded what it needs: the collector of cycles
    leaves all of that alone from now on. It is some hundred thousand objects, and to go through them again and again
    took at least 7 % of a worker's time."""
    # Not collected first: there were ten objects to be found, and looking took a tenth of a second of the start.
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)
