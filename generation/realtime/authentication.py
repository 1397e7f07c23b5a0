"""Authentication of live connections: by access token, as over HTTP, or by the session of this site's pages."""

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

from generation.access import api_keys
from generation.access.authentication import LEEWAY, BearerAuthentication
from generation.access.grants import grant_of, limited_user
from generation.db.functions import Now
from generation.states import Scope

P = ParamSpec("P")
T = TypeVar("T")

#: The expiry of an API key without one.
_NEVER: Final = float("inf")
#: Four concurrent database reads per process; more would only wait for each other.
_threads: Final = ThreadPoolExecutor(4, "realtime-database")


def in_database(read: Callable[P, T]) -> Callable[P, Any]:
    """Wrap a function that reads the database as an awaitable. Channels' own wrapper runs all of them in one thread."""
    return DatabaseSyncToAsync(read, thread_sensitive=False, executor=_threads)


@dataclass(frozen=True, slots=True)
class Identity:
    """A signed-in user, until ``expires_at`` (seconds since 1970, UTC). ``session_key`` is empty without a session,
    and ``digest`` without an API key."""

    user: User
    expires_at: float
    session_key: str = ""
    digest: str = ""

    @property
    def seconds_left(self) -> float:
        """Return the seconds until it expires; negative afterwards."""
        return self.expires_at - time.time()


class ForeignOriginError(Exception):
    """A page of a foreign origin sent a session cookie."""


class ScopeMissingError(Exception):
    """The API key may not see requests."""


@in_database
def of_token(token: object, address: str) -> Identity | None:
    """Return the identity of an access token or an API key, or None if it is not valid. Raises
    :class:`ScopeMissingError`."""
    if not isinstance(token, str):
        return None
    if api_keys.is_secret(token):
        return _of_key(token, address)
    authentication = BearerAuthentication()
    try:
        valid = authentication.get_validated_token(token.encode("utf-8", "replace"))
        expires_at = float(valid["exp"]) + LEEWAY.total_seconds()
        return Identity(authentication.get_user(valid), expires_at)
    except (AuthenticationFailed, InvalidToken, TokenError):
        return None


def _of_key(secret: str, address: str) -> Identity | None:
    found = api_keys.find(secret, address=address)
    if found is None:
        return None
    if Scope.REQUESTS_READ not in found.grant.scopes:
        raise ScopeMissingError
    expires_at = found.valid_until.timestamp() if found.valid_until else _NEVER
    return Identity(limited_user(found.owner, found.grant), expires_at, digest=api_keys.digest(secret))


@in_database
def of_session(key: str) -> Identity | None:
    """Return the identity of an active session, or None."""
    request = HttpRequest()
    request.session = SessionStore(key)
    user = get_user(request)
    if not user.is_authenticated:
        return None
    return Identity(user, request.session.get_expiry_date().timestamp(), key)


def headers_of(scope: Any) -> dict[str, str]:
    """Return the headers of an ASGI scope, by lowercase name."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def bearer_token(headers: Mapping[str, str]) -> str | None:
    """Return the token in the ``Authorization`` header, or None. A token in the URL is ignored: servers log URLs."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def session_key(headers: Mapping[str, str]) -> str:
    """Return the key of the session cookie if it may be used, else an empty string. Raises ForeignOriginError.

    Browsers add the cookie to calls of every page, so it is accepted only from this site's own pages. A client that
    sends no Origin is not a page and uses a token. The cookie is ignored for pages of ``CORS_ALLOWED_ORIGINS``: a
    browser adds it to their WebSockets if both are on the same site.
    """
    key = parse_cookie(headers.get("cookie", "")).get(settings.SESSION_COOKIE_NAME, "")
    if not key:
        return ""
    origin = headers.get("origin")
    if origin is None:
        # A same-origin GET sends no Origin, but Sec-Fetch-Site, which only the browser can set.
        return key if headers.get("sec-fetch-site") == "same-origin" else ""
    if not is_allowed(origin, host=headers.get("host", "")):
        if origin in settings.CORS_ALLOWED_ORIGINS:
            return ""
        raise ForeignOriginError
    return key


def is_allowed(origin: str, *, host: str) -> bool:
    """Return whether an origin is this site's own.

    Own are ``PUBLIC_BASE_URL``, ``CSRF_TRUSTED_ORIGINS``, and the called host on any port, since on a laptop the pages
    have another port than live updates.
    """
    try:
        page, called = urlsplit(origin), urlsplit(f"//{host}")
    except ValueError:
        return False
    if page.scheme not in {"http", "https"} or not page.hostname:
        return False
    for url in (settings.PUBLIC_BASE_URL, *settings.CSRF_TRUSTED_ORIGINS):
        trusted = urlsplit(url)
        if trusted.scheme == page.scheme and is_same_domain(page.netloc, trusted.netloc.replace("*.", ".", 1)):
            return True
    is_as_safe = page.scheme == "https" or settings.PUBLIC_BASE_URL.startswith("http://")
    return is_as_safe and page.hostname == called.hostname and validate_host(_host(called), settings.ALLOWED_HOSTS)


def _host(url: SplitResult) -> str:
    """Return the host without the port, in the form of ``ALLOWED_HOSTS``: IPv6 addresses in brackets."""
    return f"[{url.hostname}]" if ":" in str(url.hostname) else str(url.hostname)


@in_database
def revoked(identities: Collection[Identity]) -> list[Identity]:
    """Return the identities that are no longer valid, in three queries for all.

    Revoked by deactivation, deletion, a new password, a change of ``is_staff``, or sign-out; those of API keys by
    deactivation, or by the end or a change of the key.
    """
    users = {user.pk: user for user in User.objects.filter(pk__in={identity.user.pk for identity in identities})}
    keys = {identity.session_key for identity in identities if identity.session_key}
    sessions = set(Session.objects.filter(pk__in=keys, expire_date__gt=Now()).values_list("pk", flat=True))
    found = api_keys.find_all([identity.digest for identity in identities if identity.digest])

    def is_valid(identity: Identity) -> bool:
        if identity.digest:
            return found.get(identity.digest) == grant_of(identity.user)
        is_signed_in = not identity.session_key or identity.session_key in sessions
        return is_signed_in and _is_unchanged(identity.user, users.get(identity.user.pk))

    return [identity for identity in identities if not is_valid(identity)]


def _is_unchanged(then: User, now: User | None) -> bool:
    return now is not None and now.is_active and (then.password, then.is_staff) == (now.password, now.is_staff)
