"""The token endpoints: simplejwt's, with fields that take strings and nothing else."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework_simplejwt.exceptions import InvalidToken, TokenError
from rest_framework_simplejwt.serializers import (
    TokenObtainPairSerializer,
    TokenRefreshSerializer,
    TokenVerifySerializer,
)
from rest_framework_simplejwt.tokens import RefreshToken, UntypedToken
from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView, TokenVerifyView

from generation.access.authentication import LONGEST_PASSWORD, BearerAuthentication, odd_claims_refused
from generation.access.rate_limits import limit_sign_in, remember_sign_in
from generation.api.fields import StringField, UserNameField


class ObtainSerializer(TokenObtainPairSerializer):
    """Name and password, as strings and nothing else."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"] = UserNameField(max_length=150, write_only=True)
        self.fields["password"] = StringField(max_length=LONGEST_PASSWORD, write_only=True, trim_whitespace=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        request: Request = self.context["request"]
        limit_sign_in(request._request, attrs["username"])
        pair = dict(super().validate(attrs))
        remember_sign_in(request._request, attrs["username"])
        return pair


class SingleUseRefreshToken(RefreshToken):
    """A refresh token of which only one use succeeds, however many come at once."""

    def blacklist(self) -> Any:
        """Write the token into the blacklist. Raises ``TokenError`` where it is there already: the unique constraint
        lets one of several concurrent inserts pass, and simplejwt does not ask whether it was its own."""
        written: Any = super().blacklist()  # the stubs know of the row alone
        if not written[1]:
            raise TokenError("Token is blacklisted")
        return written


class RefreshSerializer(TokenRefreshSerializer):
    """A refresh token, which is used up by this."""

    token_class = SingleUseRefreshToken
    refresh = StringField(max_length=4096)

    @odd_claims_refused()
    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        # simplejwt overlooks a changed password here, and would hand out an access token that does not hold.
        BearerAuthentication().get_user(RefreshToken(attrs["refresh"]))
        with transaction.atomic():  # or a token could be used up without a new pair
            return dict(super().validate(attrs))


class VerifySerializer(TokenVerifySerializer):
    """Any token of ours."""

    token = StringField(max_length=4096, write_only=True)

    @odd_claims_refused()
    def validate(self, attrs: dict[str, Any]) -> dict[Any, Any]:
        BearerAuthentication().get_user(UntypedToken(attrs["token"]))
        try:
            return dict(super().validate(attrs))
        except ValidationError:  # it was used up, which is no fault of the body
            raise InvalidToken from None


class ObtainView(TokenObtainPairView):
    """POST /api/token: name and password against an access and a refresh token."""

    serializer_class = ObtainSerializer


class RefreshView(TokenRefreshView):
    """POST /api/token/refresh: a refresh token against a new pair."""

    serializer_class = RefreshSerializer


class VerifyView(TokenVerifyView):
    """POST /api/token/verify: whether a token still holds."""

    serializer_class = VerifySerializer
