"""Sessions of each kind of process, and mistakes in their settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from django.db import connection

from generation.db.session_settings import PLACEHOLDER, SETTINGS, Kind, application_name, role


def own_kind() -> Kind:
    """Return the kind of this process."""
    return cast(Kind, connection.settings_dict["KIND"])


def role_of(kind: Kind) -> str:
    """Return the role that a process of this kind signs in as."""
    return role(str(connection.settings_dict["USER_TEMPLATE"]), kind)


def has_role_for_each_kind() -> bool:
    """Return whether DATABASE_URL names a role for each kind of process."""
    return PLACEHOLDER in str(connection.settings_dict["USER_TEMPLATE"])


@contextmanager
def session_of(kind: Kind) -> Iterator[Any]:
    """Sign in as a process of this kind does, and yield the psycopg connection. Raises ``psycopg.Error``."""
    client: Any = connection  # Django's proxy has more than its type says
    signed_in = {"user": role_of(kind), "application_name": application_name(kind)}
    with client.Database.connect(**client.get_connection_params() | signed_in) as session:
        yield session


def differences(kind: Kind, session: Any) -> dict[str, tuple[str, str]]:
    """Return the settings of a session that are not those of the kind: by their names, the value found and the value
    needed. ``session`` has cursors, as Django's connections and psycopg's have."""
    wanted = SETTINGS[kind]
    with session.cursor() as cursor:
        cursor.execute("SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name", [list(wanted)])
        found = dict(cursor.fetchall())
    return {name: (found[name], value) for name, value in wanted.items() if found[name] != value}
