"""``python -m config.local.bootstrap``: check, migrate and, on a laptop, create the demo user."""

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path

import django
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import Error, connection

from config import env
from config.startup import begin, lines
from generation.db.session_settings import Kind


def demo_user(kept: Path) -> tuple[str, str] | None:
    """Return name and password of the demo user, creating it in a database without users.

    A generated password is stored in ``kept``, so that a later run can print it again. ``None`` if there is no such
    user, or its password was changed.
    """
    from django.conf import settings
    from django.contrib.auth import get_user_model

    users = get_user_model()
    password = settings.DEMO_PASSWORD or (kept.read_text().strip() if kept.exists() else "")
    if not users.objects.exists():
        if not password:
            password = secrets.token_urlsafe(9)
            kept.touch(mode=0o600)
            kept.write_text(f"{password}\n")
        users.objects.create_superuser(settings.DEMO_USERNAME, password=password)
        return settings.DEMO_USERNAME, password
    user = users.objects.filter(username=settings.DEMO_USERNAME).first()
    return (settings.DEMO_USERNAME, password) if user and password and user.check_password(password) else None


def main() -> None:
    """Check, migrate, and print the demo user's name and password as JSON, or null."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    begin(Kind.MIGRATION)
    try:
        django.setup()
        from django.conf import settings

        # A pool would retry for long and then not tell the reason.
        connection.settings_dict["OPTIONS"].pop("pool", None)
        call_command("migrate", verbosity=0, interactive=False, skip_checks=False)
        on_a_laptop = settings.DEBUG and not env.present("DATABASE_URL")
        found = demo_user(settings.VAR_DIR / "demo_password") if on_a_laptop else None
    except ImproperlyConfigured as fault:
        sys.exit(lines(fault))
    except (SystemCheckError, OSError) as fault:
        sys.exit(f"error: {fault}")
    except Error as fault:
        sys.exit(f"error: the database: {str(fault).partition(chr(10))[0]}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
