"""What becomes of the staff of a version that had no roles."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client

from generation.access import roles
from tests.admin.pages import REQUESTS

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("groups")]


def migrate() -> None:
    """Go back to before the migration, and to the newest again."""
    MigrationExecutor(connection).migrate([("generation", "0009_metrics")])
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes("generation"))


def made(name: str, *, before: bool = True, **more: bool) -> User:
    """Somebody who joined before the migration that made the roles, or after it."""
    roles_made = MigrationRecorder.Migration.objects.get(app="generation", name="0008_roles_and_search").applied
    joined = roles_made + (timedelta(days=-1) if before else timedelta(days=1))
    user: User = User.objects.create(username=name, date_joined=joined, **more)
    return user


def roles_of(user: User) -> list[str]:
    return sorted(user.groups.values_list("name", flat=True))


def test_who_was_on_the_staff_before_the_roles_becomes_an_operator(client: Client) -> None:
    earlier = made("earlier", is_staff=True)
    client.force_login(earlier)
    assert client.get(REQUESTS).status_code == 403
    migrate()
    migrate()
    assert roles_of(earlier) == [roles.OPERATOR]
    assert client.get(REQUESTS).status_code == 200


def test_a_group_of_ones_own_is_kept_beside_the_role() -> None:
    earlier = made("earlier", is_staff=True)
    earlier.groups.add(Group.objects.create(name="editors"))
    migrate()
    assert roles_of(earlier) == ["editors", roles.OPERATOR]


def test_nobody_else_is_given_one() -> None:
    viewer = made("viewer", is_staff=True)
    viewer.groups.add(Group.objects.get(name=roles.VIEWER))
    others = [
        made("superuser", is_staff=True, is_superuser=True),
        made("client"),
        made("joined-later", before=False, is_staff=True),
    ]
    migrate()
    assert roles_of(viewer) == [roles.VIEWER]
    assert [roles_of(other) for other in others] == [[], [], []]
