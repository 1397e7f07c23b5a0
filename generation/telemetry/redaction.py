"""Hide credentials in log lines, debug pages and printed settings."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

HIDDEN: Final = "[hidden]"
#: Shorter secrets would match inside harmless words, in log lines and on debug pages.
_SHORTEST_IN_LOGS: Final = 8
SHORTEST_ON_PAGES: Final = 4
#: Names of settings whose whole value is a credential.
SECRET_NAME: Final = re.compile(r"API|AUTH|TOKEN|KEY|SECRET|PASS|SIGNATURE|HTTP_COOKIE|DSN|CREDENTIAL", re.IGNORECASE)
#: The user name and password in any URL.
_URL_CREDENTIALS: Final = re.compile(r"(?<=://)[^/\s@\"'<>]*@")
_QUERY_CREDENTIALS: Final = re.compile(
    r"(?<=[?&;])((?:\w*password|pwd|key|api_key|token|secret|signature)=)[^&\s\"'<>]+", re.IGNORECASE
)
#: The secret part of our own API keys; the part before it names the key.
_API_KEY: Final = re.compile(r"(vgsk_[0-9A-Za-z]{8}_)[0-9A-Za-z]{20,}")
#: The secret of a webhook.
_WEBHOOK_SECRET: Final = re.compile(r"(whsec_)[0-9A-Za-z+/]{20,}=*")

#: The values of a row in an error of PostgreSQL, such as prompts and addresses with tokens; up to a line's end, which
#: JSON escapes.
_ROW: Final = re.compile(r"(DETAIL: +)(?:Failing row contains \(.*?\)|.*?)\.(?=\\n|[\n\"']|$)", re.DOTALL)


class Redactor:
    """Hides the given secrets, our own API keys, secrets of webhooks, the values of rows in errors of PostgreSQL, and
    the credentials in URLs, in any quoting."""

    def __init__(self, secrets: Iterable[str], *, shortest: int = _SHORTEST_IN_LOGS) -> None:
        long_enough = {secret for secret in secrets if len(secret) >= shortest}
        forms = {form for secret in long_enough for form in _forms(secret)}
        self._forms = sorted(forms, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for form in self._forms:
            if form in text:
                text = text.replace(form, HIDDEN)
        if "vgsk_" in text:
            text = _API_KEY.sub(rf"\1{HIDDEN}", text)
        if "whsec_" in text:
            text = _WEBHOOK_SECRET.sub(rf"\1{HIDDEN}", text)
        if "DETAIL:" in text:
            text = _ROW.sub(rf"\1{HIDDEN}", text)
        if "://" not in text:
            return text
        return _QUERY_CREDENTIALS.sub(rf"\1{HIDDEN}", _URL_CREDENTIALS.sub(f"{HIDDEN}@", text))


def _forms(secret: str) -> set[str]:
    written = {secret, repr(secret)[1:-1], quote(secret, safe="")}
    return written | {html.escape(form) for form in written}
