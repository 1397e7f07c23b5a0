"""``manage.py set_role_settings``: what a pooler does not pass on, set for the role in the database."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection

from generation.session_settings import SETTINGS, role_statements


class Command(BaseCommand):
    requires_system_checks = ()
    help = (
        "Sets the time-outs of statements, locks and idle transactions for the role of DATABASE_URL. Behind a pooler,"
        " such as PgBouncer with DATABASE_POOLER=true, sessions have them from nowhere else. New sessions have them."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        if connection.vendor != "postgresql":
            raise CommandError("Only PostgreSQL has roles.")
        try:
            with connection.cursor() as cursor:
                for statement in role_statements():
                    cursor.execute(statement)
        except DatabaseError as error:
            raise CommandError(f"the database: {error}") from None
        for name, value in SETTINGS.items():
            self.stdout.write(f"{name} = {value}")
