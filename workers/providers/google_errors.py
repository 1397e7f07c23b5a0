"""The meaning of Google's errors, of the Developer API and of Vertex AI."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from generation.providers.error_policy import ErrorScope
from generation.states import ErrorCode
from workers.providers import bodies, http, refusals, statuses
from workers.providers.base import ProviderError
from workers.providers.support import name

VENDOR: Final = "Google"

_DELAY: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
#: The message for exhausted credit, which has no code of its own.
_NO_CREDIT: Final = re.compile(r"credits? (?:are|is) depleted", re.IGNORECASE)
#: A model in a message: ``models/…``, also at the end of a resource name of Vertex AI.
_NAMES_MODEL: Final = re.compile(r"\bmodels?/[\w.-]+|\bmodel\b", re.IGNORECASE)
#: The field in a message without details.
_FIELD: Final = re.compile(r"'((?:generation_?config|safety_?settings)[\w.\[\]]{0,60})'", re.IGNORECASE)
#: Prefixes of fields whose limits differ from model to model; all others are about the prompt.
_MODEL_FIELDS: Final = ("generation", "image_config", "imageConfig", "safety", "response", "tools")
#: The HTTP status of each name in the body, for errors with status 200.
_STATUSES: Final = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNKNOWN": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


def status_error(status: int, headers: Mapping[str, str], content: bytes, *, model: str = "") -> ProviderError:
    """Return the error for an answer with an error status. ``content`` is its body, of any type."""
    return _judge(status, headers, bodies.read_error(content, headers), model=model)


def error_in(answer: Mapping[str, object], headers: Mapping[str, str], *, model: str) -> ProviderError | None:
    """Return the error in an answer with a status of success, by the status that it contains or that its words imply.

    An error without either is final, since the call may have been billed, and another one may be, too.
    """
    value = answer.get("error")
    if not value:
        return None
    error = http.mapping(value)
    named = _STATUSES.get(str(error.get("status")), 0)
    status = named or statuses.implied([error or value], around=answer) or 400
    return _judge(status, headers, answer, model=model)


def _judge(status: int, headers: Mapping[str, str], body: object, *, model: str) -> ProviderError:
    error = http.mapping(http.mapping(body).get("error"))
    details = [http.mapping(item) for item in http.items(error.get("details"))]
    detail: dict[str, Any] = {"status": status}
    quotas = [quota for entry in details for quota in _quotas(entry)]
    message = str(error.get("message") or "")
    in_message = _FIELD.search(message)
    known = {
        "type": name(error.get("status")),
        "code": _first(name(entry.get("reason")) for entry in details),
        "param": _first(field for entry in details for field in _fields(entry))
        or (name(in_message[1]) if in_message else ""),
        "quota": _first(quota for quota in quotas if "PerDay" in quota) or _first(quotas),
    }
    detail |= {key: word for key, word in known.items() if word}
    call_id = _first(name(entry.get("requestId")) for entry in details)
    wait = next(filter(None, map(_delay, details)), None) or http.retry_after(headers)
    if refusal := refusals.find(body, status=status):
        return refusals.error(VENDOR, refusal, call_id=call_id, **detail)
    # Google's own errors have a status in words. Compatible servers send at least the number and a message.
    if not (known["type"] or (message and isinstance(error.get("code"), int))):
        return statuses.page_error(VENDOR, status, retry_after=wait, call_id=call_id)
    code, scope, words = _meaning(status, detail, message, model)
    return ProviderError(words, code=code, scope=scope, retry_after=wait, provider_request_id=call_id, detail=detail)


def _meaning(
    status: int, detail: Mapping[str, Any], message: str, model: str
) -> tuple[ErrorCode, ErrorScope | None, str]:
    kind, reason, param = (detail.get(key, "") for key in ("type", "code", "param"))
    if status == 429:
        return _limit_exceeded(detail.get("quota", ""), message)
    if reason.startswith("BILLING_") or status == 402:
        return ErrorCode.QUOTA_EXHAUSTED, None, "Google Cloud does not bill the project, so it does not serve it"
    # An invalid key has status 400.
    if status in {401, 403} or reason.startswith("API_KEY_"):
        return _not_allowed(status, kind, reason, message, model)
    if status == 400 and kind == "FAILED_PRECONDITION":
        return ErrorCode.AUTH, None, "Google does not serve this account, or not from here"
    if status in {404, 410} and (_NAMES_MODEL.search(message) or (model and model in message)):
        return ErrorCode.MODEL_RETIRED, None, "Google has no such model, or not in this location"
    if kind in {"DEADLINE_EXCEEDED", "CANCELLED"} or statuses.ran_out_of_time(status, (message,)):
        return statuses.unanswered(VENDOR)
    if statuses.is_fault(status):
        return statuses.unavailable(VENDOR, status)
    if status in statuses.WRONG_ADDRESS:
        return statuses.not_found(VENDOR, status)
    is_limit = param.startswith(_MODEL_FIELDS) or statuses.is_limit(message)
    is_limit = is_limit or kind == "OUT_OF_RANGE" or status == 413
    return statuses.not_accepted(VENDOR, status, param=param, is_limit=is_limit)


def _limit_exceeded(quota: str, message: str) -> tuple[ErrorCode, ErrorScope | None, str]:
    words = "The quota or credit at Google is used up"
    if _NO_CREDIT.search(message):
        return ErrorCode.QUOTA_EXHAUSTED, None, words
    if "PerDay" in quota:
        return ErrorCode.QUOTA_EXHAUSTED, ErrorScope.MODEL if "PerModel" in quota else None, words
    return ErrorCode.RATE_LIMITED, None, "Google asks to wait"


def _not_allowed(
    status: int, kind: str, reason: str, message: str, model: str
) -> tuple[ErrorCode, ErrorScope | None, str]:
    # A missing role affects all models, although the message names one.
    is_one_model = _NAMES_MODEL.search(message) or (model and model in message)
    if status == 403 and is_one_model and reason != "IAM_PERMISSION_DENIED":
        return ErrorCode.AUTH, ErrorScope.MODEL, f"Google does not allow this account to use the model {model}".rstrip()
    if not kind and not reason and not statuses.is_about_account(message):
        # Gateways send such an error for reasons of their own.
        return statuses.not_accepted(VENDOR, status)
    return ErrorCode.AUTH, None, "Google does not accept the key or account"


def _quotas(entry: Mapping[str, object]) -> Iterator[str]:
    """Yield the quotas that a QuotaFailure or an ErrorInfo names."""
    for violation in map(http.mapping, http.items(entry.get("violations"))):
        yield name(violation.get("quotaId"))
    yield name(http.mapping(entry.get("metadata")).get("quota_limit"))


def _fields(entry: Mapping[str, object]) -> Iterator[str]:
    """Yield the invalid fields that a BadRequest names."""
    for violation in map(http.mapping, http.items(entry.get("fieldViolations"))):
        yield name(violation.get("field"))


def _first(names: Iterable[str]) -> str:
    return next(filter(None, names), "")


def _delay(entry: Mapping[str, object]) -> float | None:
    """Return the seconds of a RetryInfo, or None."""
    delay = entry.get("retryDelay")
    match = _DELAY.fullmatch(delay) if isinstance(delay, str) else None
    return float(match[1]) if match else None
