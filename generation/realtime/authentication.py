"""Who is at the other end: by a token, as over HTTP, or by the session of our own pages."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, ParamSpec, TypeVar
from urllib.parse import SplitResult, urlsplit

from channels.db import DatabaseSyncToAsync
from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.http import HttpRequest, parse_cookie
from django.http.request import validate_host
from django.utils.http import is_same_domain
from rest_framework_simplejwt.exceptions import AuthenticationFailed, InvalidToken, TokenError

from generation.access.authentication import LEEWAY, BearerAuthentication
from generation.db.functions import Now

P = ParamSpec("P")
T = TypeVar("T")

#: Looks into the database that may be under way at once in one process; more would only wait for each other.
_threads: Final = ThreadPoolExecutor(4, "realtime-database")


def in_database(look: Callable[P, T]) -> Callable[P, Any]:
    """An awaitable form of a function that reads the database. Channels' own would give all of them one thread."""
    return DatabaseSyncToAsync(look, thread_sensitive=False, executor=_threads)


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody who has signed in, until ``expires_at`` (seconds since 1970). ``session_key`` is empty for a token."""

    user: User
    expires_at: float
    session_key: str = ""

    @property
    def seconds_left(self) -> float:
        """Until it expires."""
        return self.expires_at - time.time()


class ForeignOriginError(Exception):
    """A page that is not ours has brought along somebody's cookie."""


@in_database
def of_token(token: object) -> Identity | None:
    """The user whom an access token names, or ``None`` where it does not hold."""
    if not isinstance(token, str):
        return None
    authentication = BearerAuthentication()
    try:
        valid = authentication.get_validated_token(token.encode("utf-8", "replace"))
        expires_at = float(valid["exp"]) + LEEWAY.total_seconds()
        return Identity(authentication.get_user(valid), expires_at)
    except (AuthenticationFailed, InvalidToken, TokenError):
        return None


@in_database
def of_session(key: str) -> Identity | None:
    """The user of a session that goes on, or ``None``."""
    request = HttpRequest()
    request.session = SessionStore(key)
    user = get_user(request)
    if not user.is_authenticated:
        return None
    return Identity(user, request.session.get_expiry_date().timestamp(), key)


def headers_of(scope: Any) -> dict[str, str]:
    """The headers of an ASGI scope, by their names in small letters."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def bearer_token(headers: Mapping[str, str]) -> str | None:
    """The token in the ``Authorization`` header. Never one in the address, which servers write to logs."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def session_key(headers: Mapping[str, str]) -> str:
    """The session's key, where its cookie may count; else an empty one.

    A browser adds the cookie whoever asks, so it counts for our own pages alone. A client that names no origin is no
    page, and has a token. For pages of ``CORS_ALLOWED_ORIGINS`` it does not count; a browser adds it to their WebSocket
    where both have one site. Raises :class:`ForeignOriginError`.
    """
    key = parse_cookie(headers.get("cookie", "")).get(settings.SESSION_COOKIE_NAME, "")
    if not key:
        return ""
    origin = headers.get("origin")
    if origin is None:
        # A page's own GET names no origin; the browser says so, and no page can make it say so.
        return key if headers.get("sec-fetch-site") == "same-origin" else ""
    if not is_allowed(origin, host=headers.get("host", "")):
        if origin in settings.CORS_ALLOWED_ORIGINS:
            return ""
        raise ForeignOriginError
    return key


def is_allowed(origin: str, *, host: str) -> bool:
    """Whether pages of this origin are ours: what clients reach us by, what is trusted by name, and the host itself on
    whatever port, since on a laptop the pages have another one than live updates."""
    try:
        asked, here = urlsplit(origin), urlsplit(f"//{host}")
    except ValueError:
        return False
    if asked.scheme not in {"http", "https"} or not asked.hostname:
        return False
    for trusted in (settings.PUBLIC_BASE_URL, *settings.CSRF_TRUSTED_ORIGINS):
        known = urlsplit(trusted)
        if known.scheme == asked.scheme and is_same_domain(asked.netloc, known.netloc.replace("*.", ".", 1)):
            return True
    is_as_safe = asked.scheme == "https" or settings.PUBLIC_BASE_URL.startswith("http://")
    return is_as_safe and asked.hostname == here.hostname and validate_host(_host(here), settings.ALLOWED_HOSTS)


def _host(address: SplitResult) -> str:
    """As ``ALLOWED_HOSTS`` has it, without the port."""
    return f"[{address.hostname}]" if ":" in str(address.hostname) else str(address.hostname)


@in_database
def revoked(identities: Collection[Identity]) -> list[Identity]:
    """Those who may not go on: deactivated, with a new password or other rights, or signed out. Two queries for all."""
    users = {user.pk: user for user in User.objects.filter(pk__in={one.user.pk for one in identities})}
    keys = {one.session_key for one in identities if one.session_key}
    sessions = set(Session.objects.filter(pk__in=keys, expire_date__gt=Now()).values_list("pk", flat=True))
    return [
        one
        for one in identities
        if not _is_as_before(one.user, users.get(one.user.pk)) or (one.session_key and one.session_key not in sessions)
    ]


def _is_as_before(then: User, now: User | None) -> bool:
    return now is not None and now.is_active and (then.password, then.is_staff) == (now.password, now.is_staff)
