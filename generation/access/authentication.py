"""Authentication by bearer token and by the session of the pages, and the form that all sign-ins share."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from django.conf import settings
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.models import User
from django.core.exceptions import ObjectDoesNotExist
from django.db import DataError
from django.http import HttpRequest
from rest_framework.authentication import SessionAuthentication
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.exceptions import InvalidToken
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.tokens import Token

from generation import identifiers
from generation.access import api_keys
from generation.access.client_address import client_address
from generation.access.grants import grant_of, limited_user
from generation.access.rate_limits import remember_sign_in
from generation.caching import ttl_cache

#: Errors of looking up a token or user whose claims are missing or of the wrong type, or whose user is deleted.
#: ``OSError`` comes from the C library for a year beyond its calendar.
_CLAIM_ERRORS: Final = (TypeError, KeyError, ValueError, OverflowError, OSError, DataError, ObjectDoesNotExist)

#: Seconds for which this process caches a token's signature and its user. A deactivated user, a changed password and
#: changed permissions take effect after at most this time.
_CACHE_SECONDS: Final = 2

#: Tolerated difference between clocks when a token's validity is checked.
LEEWAY: Final = cast(timedelta, settings.SIMPLE_JWT["LEEWAY"])

#: Characters. Longer passwords are refused before hashing, which would cost processor time at a client's will.
LONGEST_PASSWORD: Final = 4096


class BoundedPasswordForm(AuthenticationForm):
    """Sign-in form that rejects over-long passwords before hashing them."""

    def clean_username(self) -> str:
        return identifiers.user_name(str(self.cleaned_data["username"]))  # Django does not normalize a long one

    def clean_password(self) -> str:
        password = str(self.cleaned_data["password"])
        if len(password) > LONGEST_PASSWORD:
            raise self.get_invalid_login_error()
        return password

    def confirm_login_allowed(self, user: User) -> None:
        super().confirm_login_allowed(user)
        remember_sign_in(cast(HttpRequest, self.request), self.cleaned_data["username"])


@contextmanager
def refuse_invalid_claims() -> Iterator[None]:
    """Raise ``InvalidToken`` for any error that a token's claims cause in the block."""
    try:
        yield
    except _CLAIM_ERRORS:
        raise InvalidToken from None


class _Users:
    """The manager in which simplejwt looks the user up. Each call gets its own copy, since Django caches permissions on
    the object."""

    DoesNotExist = User.DoesNotExist

    def __init__(self) -> None:
        self.objects = self

    def get(self, *, id: Any) -> User:
        """Return the user. Raises ``User.DoesNotExist``, ``ValueError`` and ``TypeError``."""
        found = _cached_user(int(id))
        copied = User.__new__(User)  # copy.copy() takes five times as long
        copied.__dict__ = found.__dict__ | {"_state": copy.copy(found._state)}
        return copied


@ttl_cache(seconds=_CACHE_SECONDS, maxsize=4096)
def _cached_user(pk: int) -> User:
    return User.objects.get(pk=pk)


def key_user(raw_token: bytes, *, address: str) -> User | None:
    """Return the owner of an API key, as the key limits them; None for another kind of token. Raises
    ``InvalidToken``."""
    secret = raw_token.decode("latin-1")
    if not api_keys.is_secret(secret):
        return None
    found = api_keys.find(secret, address=address)
    if found is None:
        raise InvalidToken
    return limited_user(found.owner, found.grant)


class BearerAuthentication(JWTAuthentication):
    """Authentication by the access token or the API key in ``Authorization: Bearer``."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.user_model: Any = _Users()

    def authenticate(self, request: Any) -> tuple[Any, Any] | None:
        """Return the user with the token or the grant. Raises ``InvalidToken``, the same for a key and a token."""
        header: bytes | None = self.get_header(request)
        raw_token = self.get_raw_token(header) if header else None
        if raw_token is None:
            return None
        if (found := key_user(raw_token, address=client_address(request._request))) is not None:
            return found, grant_of(found)
        token = self.get_validated_token(raw_token)
        return self.get_user(token), token

    def get_raw_token(self, header: bytes) -> bytes | None:
        scheme, space, token = header.partition(b" ")
        # simplejwt compares case-sensitively, but schemes are case-insensitive (RFC 9110).
        return super().get_raw_token(scheme.capitalize() + space + token)

    @refuse_invalid_claims()
    def get_validated_token(self, raw_token: bytes) -> Token:
        token = _validated(raw_token)
        token.check_exp(current_time=datetime.now(UTC))  # it may have expired since
        return token

    @refuse_invalid_claims()
    def get_user(self, validated_token: Token) -> Any:
        user = super().get_user(validated_token)
        # True, 1.0 and " 1" are 1 as well.
        if str(user.pk) != str(validated_token[api_settings.USER_ID_CLAIM]):
            raise InvalidToken
        return user


_validated: Final = ttl_cache(seconds=_CACHE_SECONDS, maxsize=4096)(JWTAuthentication().get_validated_token)


class PageAuthentication(SessionAuthentication):
    """Authentication by the session of our pages. A browser sends its cookie from any site, so calls that change
    something need the pages' CSRF token as well."""
