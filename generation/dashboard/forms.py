"""The sign-in form of the pages."""

from __future__ import annotations

from typing import Any, cast

from django.core.exceptions import ValidationError
from django.http import HttpRequest

from generation.access.authentication import BoundedPasswordForm
from generation.access.rate_limits import RateExceeded, limit_sign_in


class SignInForm(BoundedPasswordForm):
    """Username and password, rate-limited together with the token endpoint. ``exceeded`` is set if over the limit."""

    error_messages = {  # noqa: RUF012  as Django's own
        **BoundedPasswordForm.error_messages,
        "invalid_login": "Wrong username or password.",
    }
    exceeded: RateExceeded | None = None

    def __init__(self, request: HttpRequest | None = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(request, *args, **kwargs)
        self.fields["username"].label = "Username"
        for field in self.fields.values():
            field.widget.attrs["required"] = True
        self.fields["username"].widget.attrs |= {"autocapitalize": "none", "spellcheck": "false"}

    def clean(self) -> dict[str, Any]:
        if username := self.cleaned_data.get("username"):
            try:
                limit_sign_in(cast(HttpRequest, self.request), username)
            except RateExceeded as exceeded:
                self.exceeded = exceeded
                wait = exceeded.headers["Retry-After"]
                message = f"Too many attempts. Try again in {wait} {'second' if wait == '1' else 'seconds'}."
                raise ValidationError(message, code="rate_limited") from None
        return super().clean()
