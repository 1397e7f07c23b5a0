"""The rights of an API key. A call by access token or session has no grant: it may do all that its user may."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from django.contrib.auth.models import User

from generation.models import ApiKey
from generation.states import WEIGHTS

_GRANT: Final = "_api_key_grant"


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """The rights of an API key. ``models`` and ``projects`` name all that is allowed; None allows everything. A blank
    ``max_priority`` or ``rate`` is no limit."""

    key_id: str
    scopes: frozenset[str]
    models: tuple[str, ...] | None
    projects: tuple[str, ...] | None
    max_priority: str
    rate: str
    daily_budget: Decimal | None
    max_active: int | None
    expires_at: datetime | None

    @classmethod
    def of(cls, key: ApiKey) -> Grant:
        """Read a key's row."""
        return cls(
            key_id=key.pk,
            scopes=frozenset(key.scopes),
            models=None if key.allowed_models is None else tuple(key.allowed_models),
            projects=None if key.allowed_projects is None else tuple(key.allowed_projects),
            max_priority=key.max_priority,
            rate=key.rate,
            daily_budget=key.daily_budget,
            max_active=key.max_active,
            expires_at=key.expires_at,
        )

    def allows_project(self, project_id: str) -> bool:
        """Return whether requests of the project may be seen and submitted."""
        return self.projects is None or project_id in self.projects

    def allows_priority(self, priority: str) -> bool:
        """Return whether requests of the priority may be submitted."""
        return not self.max_priority or WEIGHTS[priority] <= WEIGHTS[self.max_priority]


class NotAllowedError(Exception):
    """The API key does not allow a model, a project or a priority: ``path`` names it in the body of a submit."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


def limited_user(user: User, grant: Grant) -> User:
    """Return a copy of the user that has no rights of staff and carries the grant."""
    limited = User.__new__(User)  # copy.copy() takes five times as long
    no_permissions: dict[str, object] = dict.fromkeys(
        ("_perm_cache", "_user_perm_cache", "_group_perm_cache"), frozenset()
    )
    limited.__dict__ = (
        user.__dict__
        | {"_state": copy.copy(user._state), "is_staff": False, "is_superuser": False, _GRANT: grant}
        | no_permissions
    )
    return limited


def grant_of(user: User) -> Grant | None:
    """Return the grant of the API key by which the user calls, or None."""
    grant: Grant | None = user.__dict__.get(_GRANT)
    return grant


def key_id_of(user: User) -> str | None:
    """Return the id of the API key by which the user calls, or None."""
    grant = grant_of(user)
    return grant.key_id if grant else None


def projects_of(user: User) -> tuple[str, ...] | None:
    """Return the only projects that the user's API key may see, or None if there is no such limit."""
    grant = grant_of(user)
    return grant.projects if grant else None
