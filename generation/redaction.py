"""Credentials hidden in text that people or tools may see: log lines, debug pages, printed settings."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

HIDDEN: Final = "[hidden]"
#: Shorter secrets would be found inside harmless words.
_SHORTEST_SECRET: Final = 8
#: Names of settings that hold nothing but a credential.
SECRET_NAME: Final = re.compile(r"API|AUTH|TOKEN|KEY|SECRET|PASS|SIGNATURE|HTTP_COOKIE|DSN|CREDENTIAL", re.IGNORECASE)
#: The user name and password of any URL, whether or not they are ours.
_URL_CREDENTIALS: Final = re.compile(r"(?<=://)[^/\s@\"'<>]*@")


class Redactor:
    """Hides the given secrets, and the credentials in URLs, however the text quotes them."""

    def __init__(self, secrets: Iterable[str]) -> None:
        long_enough = {secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}
        forms = {form for secret in long_enough for form in _forms(secret)}
        self._forms = sorted(forms, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for form in self._forms:
            if form in text:
                text = text.replace(form, HIDDEN)
        return _URL_CREDENTIALS.sub(f"{HIDDEN}@", text) if "://" in text else text


def _forms(secret: str) -> set[str]:
    written = {secret, repr(secret)[1:-1], quote(secret, safe="")}
    return written | {html.escape(form) for form in written}
