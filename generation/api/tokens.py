"""The token endpoints of simplejwt, with fields that accept only strings."""

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

from generation.access.authentication import LONGEST_PASSWORD, BearerAuthentication, refuse_invalid_claims
from generation.access.rate_limits import limit_sign_in, remember_sign_in
from generation.api.fields import StringField, UserNameField


class ObtainSerializer(TokenObtainPairSerializer):
    """User name and password, with rate limits on sign-in."""

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
    """A refresh token that can be used once, even by concurrent calls."""

    def blacklist(self) -> Any:
        """Insert the token into the blacklist. Raises ``TokenError`` if it is already there.

        The unique constraint lets one of several concurrent inserts succeed; simplejwt ignores which call created it.
        """
        row_and_created: Any = super().blacklist()  # the stubs declare only the row
        if not row_and_created[1]:
            raise TokenError("Token is blacklisted")
        return row_and_created


class RefreshSerializer(TokenRefreshSerializer):
    """A refresh token, which this call invalidates."""

    token_class = SingleUseRefreshToken
    refresh = StringField(max_length=4096)

    @refuse_invalid_claims()
    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        # simplejwt does not check for a changed password here and would issue an access token that is not accepted.
        BearerAuthentication().get_user(RefreshToken(attrs["refresh"]))
        with transaction.atomic():  # otherwise a failure could blacklist the token without issuing a new pair
            return dict(super().validate(attrs))


class VerifySerializer(TokenVerifySerializer):
    """An access or refresh token of this server."""

    token = StringField(max_length=4096, write_only=True)

    @refuse_invalid_claims()
    def validate(self, attrs: dict[str, Any]) -> dict[Any, Any]:
        BearerAuthentication().get_user(UntypedToken(attrs["token"]))
        try:
            return dict(super().validate(attrs))
        except ValidationError:  # the token is blacklisted: 401, not 400
            raise InvalidToken from None


class ObtainView(TokenObtainPairView):
    """POST /api/token: exchange name and password for an access and a refresh token."""

    serializer_class = ObtainSerializer


class RefreshView(TokenRefreshView):
    """POST /api/token/refresh: exchange a refresh token for a new pair."""

    serializer_class = RefreshSerializer


class VerifyView(TokenVerifyView):
    """POST /api/token/verify: check whether a token is valid."""

    serializer_class = VerifySerializer
