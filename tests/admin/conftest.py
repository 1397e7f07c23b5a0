"""The staff by role, each with a browser of their own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.apps import apps
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Group, Permission, User
from django.test import Client

from generation import roles


@pytest.fixture
def groups(db: None) -> None:
    """The groups of the migration, which a test with real transactions has swept away."""
    if not Group.objects.filter(name=roles.OPERATOR, permissions__codename="cancel_generationrequest").exists():
        for label in ("admin", "auth", "generation"):
            create_permissions(apps.get_app_config(label), verbosity=0)
        roles.make_groups(Group, Permission)


@pytest.fixture
def browser_of(groups: None) -> Callable[..., Client]:
    """Sign somebody in with a role, or none."""

    def sign_in(role: str = "", *, name: str = "") -> Client:
        user = User.objects.create(username=name or role or "nobody", is_staff=True)
        if role:
            user.groups.add(Group.objects.get(name=role))
        client = Client(raise_request_exception=False)
        client.force_login(user)
        return client

    return sign_in


@pytest.fixture
def viewer(browser_of: Callable[..., Client]) -> Client:
    """May look."""
    return browser_of(roles.VIEWER)


@pytest.fixture
def operator(browser_of: Callable[..., Client]) -> Client:
    """May cancel, retry and pause."""
    return browser_of(roles.OPERATOR)


@pytest.fixture
def administrator(browser_of: Callable[..., Client]) -> Client:
    """May set things as well."""
    return browser_of(roles.ADMINISTRATOR)
