"""The meaning of HTTP statuses, and the status of an error that comes with status 200."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from generation.providers.error_policy import ErrorScope
from generation.states import ErrorCode
from workers.providers.base import ProviderError

#: The vendor may have received the request, and no answer came in time: it may have been billed. With 499 and 460 a
#: gateway's client closed the connection; 524, 598 and 599 are variants of 504.
UNANSWERED: Final = frozenset({460, 499, 504, 524, 598, 599})
#: A wrong URL, or a gateway without a matching route.
WRONG_ADDRESS: Final = frozenset({404, 405, 410, 421})
_RETRYABLE: Final = frozenset({408, 409, 425})

#: The status that the words of an error imply. The first pattern that matches decides.
_IMPLIED: Final = (
    (
        re.compile(r"insufficient_(?:quota|credit|fund|balance)|billing|payment|out_of_credit|exceeded_your_.*quota"),
        402,
    ),
    (re.compile(r"rate_?limit|too_many_requests|throttl|resource_exhausted|slow_down|quota"), 429),
    (re.compile(r"api_key|unauthenticated|unauthori[sz]ed|authentication|invalid_token"), 401),
    (re.compile(r"permission|forbidden|access_denied"), 403),
    (re.compile(r"model_not_found|not_found|no_such_model|unknown_model"), 404),
    (re.compile(r"deadline|time(?:d)?_?out"), 504),
    (re.compile(r"overload|unavailable|server_error|internal|bad_gateway|at_capacity"), 503),
    (re.compile(r"invalid|bad_request|unsupported|unprocessable|validation"), 400),
)
_STATUS_KEYS: Final = ("status", "status_code", "statusCode", "http_status", "code", "error_code")
_RAN_OUT: Final = re.compile(r"\btime[ds]?[ _-]?out|deadline[ _-]?exceeded|timeout", re.IGNORECASE)
_CONNECTING: Final = re.compile(r"connect", re.IGNORECASE)
#: Words about the caller's key or account, in the error of a server that names no type and no code.
_ACCOUNT: Final = re.compile(
    r"\b(?:api[ _-]?key|key|token|credential|authenticat\w*|authori[sz]\w*|unauthori[sz]ed|organi[sz]ation|account"
    r"|your access|project|billing|subscription|permission|country|region|territory|scope)s?\b",
    re.IGNORECASE,
)
_UNSUPPORTED: Final = re.compile(r"(?:\bnot|n't|\bun)[ -]?support", re.IGNORECASE)
_MODEL: Final = re.compile(r"\b(?:model|engine)s?\b", re.IGNORECASE)


def page_error(vendor: str, status: int, *, retry_after: float | None = None, call_id: str = "") -> ProviderError:
    """Return the error for an answer in another shape than the vendor's: a page of a firewall, a proxy or a gateway.

    Whatever its status, it says nothing about the key, the account or the models.
    """
    code, scope, words = _page_meaning(vendor, status)
    return ProviderError(
        words,
        code=code,
        scope=scope,
        retry_after=retry_after,
        provider_request_id=call_id,
        detail={"status": status},
    )


def _page_meaning(vendor: str, status: int) -> tuple[ErrorCode, ErrorScope | None, str]:
    if status in UNANSWERED:
        return unanswered(vendor)
    if status == 429:
        return ErrorCode.RATE_LIMITED, None, f"{vendor} asks to wait"
    if status in WRONG_ADDRESS:
        words = f"Something other than {vendor} answered (status {status})"
        return ErrorCode.UNAVAILABLE, ErrorScope.REQUEST, words
    if is_fault(status):
        return unavailable(vendor, status)
    words = f"Something before {vendor} does not accept the request (status {status})"
    return ErrorCode.INVALID_REQUEST, ErrorScope.REQUEST, words


def unanswered(vendor: str) -> tuple[ErrorCode, ErrorScope | None, str]:
    """Return the meaning of a time-out of a gateway or of the vendor itself."""
    return ErrorCode.UNKNOWN_OUTCOME, None, f"{vendor} ran out of time, so it is not known whether there is an image"


def unavailable(vendor: str, status: int) -> tuple[ErrorCode, ErrorScope | None, str]:
    """Return the meaning of a temporary fault of the vendor."""
    return ErrorCode.UNAVAILABLE, None, f"{vendor} is not available at the moment (status {status})"


def not_found(vendor: str, status: int) -> tuple[ErrorCode, ErrorScope | None, str]:
    """Return the meaning of an error of the vendor that it serves nothing at this address."""
    return ErrorCode.UNAVAILABLE, ErrorScope.REQUEST, f"{vendor} has nothing at this address (status {status})"


def not_accepted(
    vendor: str, status: int, *, param: str = "", is_limit: bool = False
) -> tuple[ErrorCode, ErrorScope | None, str]:
    """Return the meaning of a rejected request: because of a limit of the model (``is_limit``), or of its content."""
    suffix = f": {param}" if param else ""
    scope = ErrorScope.MODEL if is_limit else ErrorScope.REQUEST
    return ErrorCode.INVALID_REQUEST, scope, f"{vendor} does not accept the request (status {status}{suffix})"


def is_fault(status: int) -> bool:
    """Return whether the same request may succeed later, by the status alone."""
    return status in _RETRYABLE or status >= 500


def ran_out_of_time(status: int, words: Iterable[str]) -> bool:
    """Return whether the vendor received the request but gave no answer in time.

    Some gateways use another status for that: LiteLLM reports the time-out of its call to the vendor as 408.
    """
    if status in UNANSWERED:
        return True
    text = " ".join(words)
    return (status == 408 or status >= 500) and bool(_RAN_OUT.search(text)) and not _CONNECTING.search(text)


def is_about_account(text: str) -> bool:
    """Return whether the text of an error is about the caller's key or account."""
    return bool(_ACCOUNT.search(text))


def is_about_model(text: str, model: str) -> bool:
    """Return whether the text of an error is about one model."""
    return bool(_MODEL.search(text)) or bool(model and model in text)


def is_limit(text: str) -> bool:
    """Return whether the text of an error names a feature that this model or server does not support."""
    return bool(_UNSUPPORTED.search(text))


def implied(errors: Iterable[object], *, around: Mapping[str, object]) -> int:
    """Return the status of an error in an answer with status 200, or 0.

    It is a number in one of the error's objects or in the answer around them, else the status that the words imply.
    """
    parts = [item for error in errors for item in (error if isinstance(error, list) else [error])]
    for part in (*parts, around):
        if not isinstance(part, Mapping):
            continue
        for key in _STATUS_KEYS:
            if 400 <= (status := _status_number(part.get(key))) <= 599:
                return status
    words = [_snake(word) for part in parts for word in _words(part)]
    return next((status for pattern, status in _IMPLIED if any(map(pattern.search, words))), 0)


def _status_number(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"\d{3}", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _words(value: object) -> list[str]:
    if isinstance(value, str):
        return [value[:200]]
    if not isinstance(value, Mapping):
        return []
    return [word[:200] for key, word in value.items() if key not in {"param", "id"} and isinstance(word, str)]


def _snake(text: str) -> str:
    return re.sub(r"[\W_]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text)).lower()
