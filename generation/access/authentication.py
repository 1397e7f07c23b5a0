"""Who calls: by token, with the cases closed in which a well-signed but odd one is a fault of ours, or by the session
of the pages; and what all ways to sign in have in common."""

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
from generation.access.rate_limits import remember_sign_in
from generation.caching import ttl_cache

#: What looking up a user or a token raises for claims that are missing or of the wrong type, or a user who is gone;
#: ``OSError`` is what the C library says of a year beyond its calendar.
_ODD_CLAIMS: Final = (TypeError, KeyError, ValueError, OverflowError, OSError, DataError, ObjectDoesNotExist)

#: Seconds for which a token's signature and the user are known to this process without another look. Whoever is shut
#: out, or gets another password or other rights, is treated as before for no longer than that.
_TRUSTED_FOR: Final = 2

#: How far another machine's clock may differ where a token says when it begins and ends to hold.
LEEWAY: Final = cast(timedelta, settings.SIMPLE_JWT["LEEWAY"])

#: Hashing a longer one is work that somebody else chose for us.
LONGEST_PASSWORD: Final = 4096


class BoundedPasswordForm(AuthenticationForm):
    """Name and password. A password beyond the bound is wrong and not hashed."""

    def clean_username(self) -> str:
        return identifiers.user_name(str(self.cleaned_data["username"]))  # Django leaves a long one as it is

    def clean_password(self) -> str:
        password = str(self.cleaned_data["password"])
        if len(password) > LONGEST_PASSWORD:
            raise self.get_invalid_login_error()
        return password

    def confirm_login_allowed(self, user: User) -> None:
        super().confirm_login_allowed(user)
        remember_sign_in(cast(HttpRequest, self.request), self.cleaned_data["username"])


@contextmanager
def odd_claims_refused() -> Iterator[None]:
    """Whatever the claims of a token run into here, the token does not hold. Raises ``InvalidToken``."""
    try:
        yield
    except _ODD_CLAIMS:
        raise InvalidToken from None


class _Users:
    """Where simplejwt looks for the user, at every call. Each call has an object of its own, since the rights that are
    looked up stay with it."""

    DoesNotExist = User.DoesNotExist

    def __init__(self) -> None:
        self.objects = self

    def get(self, *, id: Any) -> User:
        """Raises ``User.DoesNotExist``, and whatever ``int`` raises."""
        return copy.copy(_cached_user(int(id)))


@ttl_cache(seconds=_TRUSTED_FOR, maxsize=4096)
def _cached_user(pk: int) -> User:
    return User.objects.get(pk=pk)


class BearerAuthentication(JWTAuthentication):
    """The access token in ``Authorization: Bearer``."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.user_model: Any = _Users()

    def get_raw_token(self, header: bytes) -> bytes | None:
        scheme, space, token = header.partition(b" ")
        # simplejwt compares to the letter, but a scheme is the same in any case (RFC 9110).
        return super().get_raw_token(scheme.capitalize() + space + token)

    @odd_claims_refused()
    def get_validated_token(self, raw_token: bytes) -> Token:
        token = _validated(raw_token)
        token.check_exp(current_time=datetime.now(UTC))  # it may have expired since
        return token

    @odd_claims_refused()
    def get_user(self, validated_token: Token) -> Any:
        user = super().get_user(validated_token)
        # True, 1.0 and " 1" are 1 as well.
        if str(user.pk) != str(validated_token[api_settings.USER_ID_CLAIM]):
            raise InvalidToken
        return user


_validated: Final = ttl_cache(seconds=_TRUSTED_FOR, maxsize=4096)(JWTAuthentication().get_validated_token)


class PageAuthentication(SessionAuthentication):
    """The session of our own pages. A browser adds its cookie whoever asks, so what changes something needs the pages'
    CSRF token as well."""
