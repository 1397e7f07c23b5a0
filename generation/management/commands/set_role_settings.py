"""The command ``manage.py set_role_settings``: set the timeouts of each kind of process on its database role."""

from __future__ import annotations

from typing import Any

import psycopg
from django.core.management.base import BaseCommand, CommandError

from generation.db import sessions
from generation.db.session_settings import SERVED, SETTINGS, role_statements


class Command(BaseCommand):
    requires_system_checks = ()
    help = (
        "Sets the timeouts of statements, locks and idle transactions on the database role of each kind of process,"
        " logged in as that role. deploy/roles.sh does the same when it creates the roles. New sessions have them."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        if not sessions.has_role_for_each_kind():
            raise CommandError(
                "DATABASE_URL signs every process in as the same role. Its user name must contain {kind}, as in"
                " postgres://vga_{kind}:password@host:5432/name; deploy/roles.sh creates these roles."
            )
        for kind in SERVED:
            name = sessions.role_of(kind)
            try:
                with sessions.session_of(kind) as session:
                    for statement in role_statements(kind):
                        session.execute(statement)
            except psycopg.Error as error:
                raise CommandError(f"{name}: {str(error).strip()}") from None
            self.stdout.write(f"{name}: {', '.join(f'{key} = {value}' for key, value in SETTINGS[kind].items())}")
