"""API clients of the test users, which return a crash as a 500."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from tests.api.helpers import client_for


@pytest.fixture
def api(alice: User) -> APIClient:
    """Alice's client."""
    return client_for(alice)


@pytest.fixture
def staff(bob: User) -> APIClient:
    """Bob's client."""
    return client_for(bob)


@pytest.fixture
def stranger(charlie: User) -> APIClient:
    """Charlie's client."""
    return client_for(charlie)


@pytest.fixture
def anonymous(db: None) -> APIClient:
    """A client without a token."""
    return client_for(None)
