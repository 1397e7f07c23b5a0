"""The staff by role, each with a browser of their own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from generation.access import roles


@pytest.fixture
def browser_of(db: None) -> Callable[..., Client]:
    """Sign a user in with a role, or without one."""

    def sign_in(role: str = "", *, name: str = "") -> Client:
        user = User.objects.create(username=name or role or "norole", is_staff=True)
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
