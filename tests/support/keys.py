"""API keys of the tests."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from rest_framework.test import APIClient

from generation.access import api_keys
from generation.models import ApiKey
from generation.states import Scope

EVERYTHING = [Scope.REQUESTS_READ, Scope.REQUESTS_WRITE, Scope.METRICS]


def key_of(owner: User, **columns: Any) -> tuple[ApiKey, str]:
    """Make a key with these columns, by default with all scopes that there is a use for. Return it with its secret."""
    columns = {"name": "tests", "scopes": [str(scope) for scope in EVERYTHING]} | columns
    return api_keys.create(owner, columns, address="127.0.0.1")


def client_with(secret: str) -> APIClient:
    """Return a client that sends the secret, and returns a crash as a 500."""
    return APIClient(headers={"Authorization": f"Bearer {secret}"}, raise_request_exception=False)


def key_client(owner: User, **columns: Any) -> APIClient:
    """Return a client with a new key of the owner."""
    return client_with(key_of(owner, **columns)[1])
