"""Limits on the open connections of one user and of one IP address, per process."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from django.conf import settings

from generation.access.client_address import address_of

#: Seconds after which a rejected client may try again.
RETRY_AFTER: Final = 30

_open: Counter[tuple[str, Any]] = Counter()


class Slots:
    """The limits that a connection counts against: its IP address at once, and its user after sign-in."""

    def __init__(self) -> None:
        self._taken: set[tuple[str, Any]] = set()

    def take_for_address(self, scope: Any) -> bool:
        """Count the connection for its IP address. Returns False if the limit is reached."""
        return self._take(("address", address_of_scope(scope)), settings.REALTIME_MAX_PER_ADDRESS)

    def take_for_user(self, user_id: int) -> bool:
        """Count the connection for its user, only once for repeated sign-ins. Returns False if the limit is reached."""
        return self._take(("user", user_id), settings.REALTIME_MAX_PER_USER)

    def free(self) -> None:
        """Release all slots when the connection ends."""
        for key in self._taken:
            _open[key] -= 1
            if not _open[key]:
                del _open[key]
        self._taken.clear()

    def _take(self, key: tuple[str, Any], limit: int) -> bool:
        if key in self._taken:
            return True
        if _open[key] >= limit:
            return False
        _open[key] += 1
        self._taken.add(key)
        return True


def address_of_scope(scope: Any) -> str:
    """Return the client's IP address by the rules of the HTTP API."""
    forwarded = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    return address_of((scope.get("client") or ("",))[0], ",".join(forwarded))
