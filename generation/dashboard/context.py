"""What every page needs: the signed-in user and the common context."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest


def user_of(request: HttpRequest) -> User:
    """Return the signed-in user."""
    if not isinstance(request.user, User):  # login_required refuses anonymous users
        raise PermissionDenied
    return request.user


def common() -> dict[str, Any]:
    """Return the context of every page: the address of its WebSocket, if it is not at the page's own origin."""
    return {
        "realtime_base": settings.REALTIME_BASE_URL,
        "realtime_port": settings.REALTIME_PORT if settings.REALTIME_HAS_ITS_PORT else "",
    }
