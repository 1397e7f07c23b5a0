"""The start of every program: read the settings, and report mistakes in plain lines."""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured

from generation.db.session_settings import Kind

#: Commands of `manage.py` with a kind of their own.
_COMMANDS: Final = {
    "deliver": Kind.DELIVERER,
    "dispatch": Kind.DISPATCHER,
    "migrate": Kind.MIGRATION,
    "runserver": Kind.WEB,
}
_kind = Kind.COMMAND
#: Thresholds of the garbage collector. With Python's own it would run ten times as often.
_COLLECT_AFTER: Final = (7_000, 20, 20)


def lines(fault: Exception) -> str:
    """Return one line for each mistake, as a program prints it before it exits."""
    return "\n".join(f"error: {line}" for line in str(fault).splitlines())


def begin(kind: Kind) -> None:
    """Set the kind of this process, before the settings are read."""
    global _kind
    _kind = kind


def kind() -> Kind:
    """Return the kind of this process: a command if :func:`begin` was not called."""
    return _kind


def kind_of_command(name: str) -> Kind:
    """Return the kind of ``manage.py NAME``."""
    return _COMMANDS.get(name, Kind.COMMAND)


def require_settings(kind: Kind) -> None:
    """Exit with one line for each mistake in the settings, or if there is no database."""
    begin(kind)
    try:
        from config import settings

        require_database(settings.DATABASES["default"])
    except ImproperlyConfigured as fault:
        sys.exit(lines(fault))


def require_database(settings: Mapping[str, Any]) -> None:
    """Raise ``ImproperlyConfigured`` if no database is set and the embedded one is not running."""
    if settings["NAME"] == "":  # Django has None while it creates a database
        raise ImproperlyConfigured(
            "the embedded PostgreSQL server is not running: start it with `make run`, or set DATABASE_URL"
        )


def freeze_gc() -> None:
    """Exempt all present objects from garbage collection. Each serving process calls it once after loading: traversing
    some hundred thousand objects again and again took at least 7 % of a worker's time."""
    # Without a collection first: it found ten objects and took 0.1 s of the start.
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)
