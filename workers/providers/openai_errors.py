"""The meaning of errors of OpenAI, and of compatible servers and gateways.

Their shapes differ: ``{"error": {…}}``, an error within the error, ``{"error": "text"}``, ``{"detail": …}``, or type,
code and message at the top level.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from generation.providers.error_policy import ErrorScope
from generation.states import ErrorCode
from workers.providers import bodies, http, refusals, statuses
from workers.providers.base import ProviderError
from workers.providers.support import name

VENDOR: Final = "OpenAI"

_OUT_OF_CREDIT: Final = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_credits"}
)
_NO_SUCH_MODEL: Final = frozenset(
    {
        "model_not_found",
        "invalid_model",
        "unknown_model",
        "model_deprecated",
        "no_such_model",
        "DeploymentNotFound",
        "deployment_not_found",
    }
)
_RETIRED_PHRASES: Final = (
    "not found",
    "does not exist",
    "no longer",
    "deprecated",
    "decommissioned",
    "retired",
    "shut down",
    "unknown",
)
#: Parameters whose limits differ from model to model. Other errors may be about the prompt.
_MODEL_PARAMS: Final = frozenset(
    {
        *("size", "quality", "output_format", "output_compression", "background", "style", "response_format", "n"),
        *("moderation", "seed", "aspect_ratio", "width", "height", "negative_prompt", "safety_identifier", "stream"),
    }
)
#: Codes for a prompt that is too long for the model.
_TOO_LONG: Final = frozenset({"string_above_max_length", "context_length_exceeded", "prompt_too_long"})
#: Keys of an entry that tell whether its image was withheld.
_VERDICTS: Final = ("error", "content_filter_results", "content_filter_result", "finish_reason", "finishReason")
_NOTHING: Final = frozenset({"None", "null", "none"})
_MAX_DEPTH: Final = 4
#: Names that gateways use for a 4xx of their own, without underscores.
_GENERIC: Final = frozenset(
    {
        *("error", "forbidden", "unauthorized", "accessdenied", "denied", "blocked", "badrequest", "notfound"),
        *("httperror", "httpexception", "forbiddenexception", "accessdeniedexception", "unauthorizedexception"),
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _ErrorContent:
    """The content of an error: its names, its text, and evidence that it comes from the vendor itself."""

    type: str = ""
    code: str = ""
    param: str = ""
    text: str = ""
    #: It has a specific type or code.
    is_named: bool = False
    #: It was under ``error`` or ``detail``, as in all compatible servers.
    has_vendor_shape: bool = False
    #: Objects that may contain a status as a number.
    parts: tuple[object, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        return self.type, self.code, self.text


def status_error(status: int, headers: Mapping[str, str], content: bytes, *, model: str) -> ProviderError:
    """Return the error for an answer with an error status. ``content`` is its body, of any type."""
    return _judge(status, headers, bodies.read_error(content, headers), model=model)


def error_in(answer: Mapping[str, object], headers: Mapping[str, str], *, model: str) -> ProviderError | None:
    """Return the error in an answer with a status of success, by the status that it contains or that its words imply.

    An error without either is final, since the call may have been billed, and another one may be, too.
    """
    parts = list(_errors(answer))
    if not parts:
        return None
    inner = _read(answer).parts[1:]
    return _judge(statuses.implied([*inner, *parts], around=answer) or 400, headers, answer, model=model)


def refusal_in(answer: Mapping[str, object]) -> refusals.Refusal | None:
    """Return the refusal in an answer with a status of success: in its error, or in the ratings of its entries."""
    parts = [*_errors(answer)]
    for item in http.items(answer.get("data")):
        entry = http.mapping(item)
        parts += [{key: entry[key]} for key in _VERDICTS if entry.get(key)]
    return refusals.find(parts, status=200)


def _errors(answer: Mapping[str, object]) -> Iterator[object]:
    """Yield the values under keys of errors, and the answer itself if it looks like an error."""
    for key in ("error", "errors", "detail"):
        if value := answer.get(key):
            yield value
    for item in http.items(answer.get("data")):
        if value := http.mapping(item).get("error"):
            yield value
    has_words = any(isinstance(answer.get(key), str) and answer[key] for key in ("message", "error_message", "msg"))
    if has_words and not answer.get("data"):
        yield answer


def _judge(status: int, headers: Mapping[str, str], body: object, *, model: str) -> ProviderError:
    call_id = http.request_id(headers)
    wait = http.retry_after(headers)
    error = _read(body)
    detail: dict[str, Any] = {"status": status}
    detail |= {key: word for key in ("type", "code", "param") if (word := name(getattr(error, key)))}
    if refusal := refusals.find(body, status=status):
        return refusals.error(VENDOR, refusal, call_id=call_id, **detail)
    if not error.has_vendor_shape and not error.is_named:
        return statuses.page_error(VENDOR, status, retry_after=wait, call_id=call_id)
    code, scope, words = _meaning(status, headers, error, model)
    return ProviderError(words, code=code, scope=scope, retry_after=wait, provider_request_id=call_id, detail=detail)


def _read(body: object) -> _ErrorContent:
    """Find the error in any of the shapes."""
    parts: list[object] = [body]
    has_vendor_shape = False
    # RFC 9457 has a detail, too, but only gateways use that format.
    keys = ("error",) if {"title", "status"} <= http.mapping(body).keys() else ("error", "detail")
    for _ in range(_MAX_DEPTH):
        inner = next((value for key in keys if (value := http.mapping(parts[-1]).get(key))), None)
        inner = next(iter(inner), None) if isinstance(inner, list) else inner
        if inner is None:
            break
        has_vendor_shape = has_vendor_shape or isinstance(inner, str | dict)
        parts.append(inner)
    last = parts[-1]
    if isinstance(last, str):
        return _ErrorContent(text=last, has_vendor_shape=has_vendor_shape, parts=tuple(parts))
    error = http.mapping(last)
    location = http.items(error.get("loc"))  # FastAPI's field for the parameter
    kind, code = _word(error.get("type")), _word(error.get("code"))
    return _ErrorContent(
        type=kind,
        code=code,
        param=_word(error.get("param")) or (_word(location[-1]) if location else ""),
        text=str(error.get("message") or error.get("msg") or ""),
        is_named=(has_vendor_shape or bool(error.get("message"))) and (_is_specific(kind) or _is_specific(code)),
        has_vendor_shape=has_vendor_shape,
        parts=tuple(parts),
    )


def _is_specific(word: str) -> bool:
    """Return whether a type or code has more information than a status."""
    plain = word.lower().replace("_", "").replace("-", "").replace(" ", "")
    return bool(name(word)) and not plain.isdecimal() and plain not in _GENERIC


def _word(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value not in _NOTHING else ""


def _meaning(
    status: int, headers: Mapping[str, str], error: _ErrorContent, model: str
) -> tuple[ErrorCode, ErrorScope | None, str]:
    if status == 402 or error.code in _OUT_OF_CREDIT or error.type in _OUT_OF_CREDIT:
        return ErrorCode.QUOTA_EXHAUSTED, None, "The quota or credit at OpenAI is used up"
    if status in {401, 403}:
        return _not_allowed(status, error, model)
    if _is_unknown_model(status, error, model):
        return ErrorCode.MODEL_RETIRED, None, f"OpenAI has no model {model}"
    if statuses.ran_out_of_time(status, error.words):
        return statuses.unanswered(VENDOR)
    # OpenAI's own advice on retries overrides the status.
    advice = headers.get("x-should-retry", "").lower()
    if status == 429:
        if advice == "false":
            return ErrorCode.QUOTA_EXHAUSTED, None, "OpenAI refuses further calls"
        return ErrorCode.RATE_LIMITED, None, "OpenAI asks to wait"
    is_fault = statuses.is_fault(status)
    if advice == "true" or (advice != "false" and is_fault):
        code, scope, words = statuses.unavailable(VENDOR, status)
        return code, scope if is_fault else ErrorScope.REQUEST, words
    if status in statuses.WRONG_ADDRESS:
        return statuses.not_found(VENDOR, status)
    param = name(error.param)
    # A fault that must not be retried counts as a limit, since it says nothing about the prompt either.
    is_limit = param in _MODEL_PARAMS or error.code in _TOO_LONG or statuses.is_limit(error.text)
    return statuses.not_accepted(VENDOR, status, param=param, is_limit=is_limit or status == 413 or is_fault)


def _not_allowed(status: int, error: _ErrorContent, model: str) -> tuple[ErrorCode, ErrorScope | None, str]:
    if status == 403 and (
        error.param == "model" or error.code in _NO_SUCH_MODEL or statuses.is_about_model(error.text, model)
    ):
        return ErrorCode.AUTH, ErrorScope.MODEL, f"OpenAI does not allow this account to use the model {model}"
    if status == 403 and not (error.has_vendor_shape and error.is_named) and not statuses.is_about_account(error.text):
        # Gateways send such a 403 for reasons of their own.
        return statuses.not_accepted(VENDOR, status)
    return ErrorCode.AUTH, None, "OpenAI does not accept the key"


def _is_unknown_model(status: int, error: _ErrorContent, model: str) -> bool:
    if error.code in _NO_SUCH_MODEL or error.type in _NO_SUCH_MODEL:
        return True
    if status not in {400, 404, 410}:
        return False
    text = error.text.lower()
    is_retired = statuses.is_about_model(text, model) and any(phrase in text for phrase in _RETIRED_PHRASES)
    return error.param == "model" or (is_retired and not error.param)
