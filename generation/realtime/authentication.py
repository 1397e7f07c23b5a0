"""Who is at the other end of a socket, by the same tokens as over HTTP."""

from __future__ import annotations

from typing import Any

from asgiref.typing import WebSocketScope
from channels.db import database_sync_to_async
from django.contrib.auth.models import User
from rest_framework_simplejwt.exceptions import AuthenticationFailed

from generation.authentication import BearerAuthentication


@database_sync_to_async
def user_of_token(token: object) -> User | None:
    """The user whom an access token names, or ``None`` where it does not hold."""
    if not isinstance(token, str):
        return None
    authentication = BearerAuthentication()
    try:
        user: User = authentication.get_user(authentication.get_validated_token(token.encode("utf-8", "replace")))
    except AuthenticationFailed:
        return None
    return user


def bearer_token(scope: WebSocketScope | dict[str, Any]) -> str | None:
    """The token in the handshake's ``Authorization`` header. Never one in the address, which servers write to logs."""
    for name, value in scope["headers"]:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return str(value[7:].decode("latin-1").strip())
    return None
