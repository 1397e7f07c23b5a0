"""The permission of a call: a signed-in user, and for an API key the scope that the view asks for."""

from __future__ import annotations

from typing import Any, Final

from rest_framework import permissions
from rest_framework.request import Request

from generation.access.grants import Grant
from generation.api.errors import ScopeMissing

#: Any API key may do this, whatever its scopes are.
ANY_KEY: Final = "any"


class IsAuthenticated(permissions.IsAuthenticated):
    """A view has ``scopes``: for each action the scope that a key needs, or :data:`ANY_KEY`. What is not named there is
    for access tokens and sessions alone."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not super().has_permission(request, view):
            return False
        if not isinstance(request.auth, Grant):
            return True
        action = getattr(view, "action", "")
        if action is None:
            return True  # the view does not have the method, so the answer is 405
        scope = getattr(view, "scopes", {}).get(action)
        if scope is None or scope == ANY_KEY:
            return scope is not None
        if scope not in request.auth.scopes:
            raise ScopeMissing(scope)
        return True
