"""What every program does first: read the settings, and say in plain lines what is wrong with them."""

from __future__ import annotations

import sys

from django.core.exceptions import ImproperlyConfigured


def lines(fault: Exception) -> str:
    """One line for each fault, as a program prints it before it gives up."""
    return "\n".join(f"error: {line}" for line in str(fault).splitlines())


def require_settings() -> None:
    """End the program with one line for each fault where the settings cannot be used."""
    try:
        from config import settings  # noqa: F401  reading them is the check
    except ImproperlyConfigured as fault:
        sys.exit(lines(fault))
