"""Meaning of the errors of OpenAI, and of servers and gateways that speak its API.

Their shapes differ: ``{"error": {…}}``, an error within the error, ``{"error": "text"}``, ``{"detail": …}``, or type,
code and message without anything around them.
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
_GONE: Final = (
    "not found",
    "does not exist",
    "no longer",
    "deprecated",
    "decommissioned",
    "retired",
    "shut down",
    "unknown",
)
#: Parameters whose limits differ from model to model. Anything else may be about the prompt.
_OF_THE_MODEL: Final = frozenset(
    {
        *("size", "quality", "output_format", "output_compression", "background", "style", "response_format", "n"),
        *("moderation", "seed", "aspect_ratio", "width", "height", "negative_prompt", "safety_identifier", "stream"),
    }
)
#: The prompt is longer than this model takes.
_TOO_LONG: Final = frozenset({"string_above_max_length", "context_length_exceeded", "prompt_too_long"})
#: Keys of an entry that say whether its image was held back.
_VERDICTS: Final = ("error", "content_filter_results", "content_filter_result", "finish_reason", "finishReason")
_NOTHING: Final = frozenset({"None", "null", "none"})
_DEEPEST: Final = 4
#: Names that any gateway gives to a 4xx of its own, without underscores.
_GENERIC: Final = frozenset(
    {
        *("error", "forbidden", "unauthorized", "accessdenied", "denied", "blocked", "badrequest", "notfound"),
        *("httperror", "httpexception", "forbiddenexception", "accessdeniedexception", "unauthorizedexception"),
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Said:
    """The content of an error: its names, its sentence, and how sure it is that the vendor itself speaks."""

    type: str = ""
    code: str = ""
    param: str = ""
    text: str = ""
    #: It names a type or a code.
    is_named: bool = False
    #: It stands under ``error`` or ``detail``, as all such servers have it.
    is_theirs: bool = False
    #: Objects that may hold a status as a number.
    parts: tuple[object, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        return self.type, self.code, self.text


def status_error(status: int, headers: Mapping[str, str], content: bytes, *, model: str) -> ProviderError:
    """Judge an answer with an error status. ``content`` is its body, of whatever kind."""
    return _judge(status, headers, bodies.read_error(content, headers), model=model)


def error_in(answer: Mapping[str, object], headers: Mapping[str, str], *, model: str) -> ProviderError | None:
    """Judge an error that came with a status of success, by the status that it names or that its words imply.

    An error with neither is final: what the call cost is not known, and a second one may cost the same.
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
    """The values under keys of errors, and the answer itself where it looks like one."""
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
    number = http.request_id(headers)
    wait = http.retry_after(headers)
    said = _read(body)
    detail: dict[str, Any] = {"status": status}
    detail |= {key: word for key in ("type", "code", "param") if (word := name(getattr(said, key)))}
    if refusal := refusals.find(body, status=status):
        return refusals.error(VENDOR, refusal, number=number, **detail)
    if not said.is_theirs and not said.is_named:
        return statuses.page_error(VENDOR, status, retry_after=wait, number=number)
    code, scope, words = _meaning(status, headers, said, model)
    return ProviderError(words, code=code, scope=scope, retry_after=wait, provider_request_id=number, detail=detail)


def _read(body: object) -> _Said:
    """Find the error in whichever shape it comes."""
    parts: list[object] = [body]
    is_theirs = False
    # RFC 9457 has a detail too: gateways write it, and no vendor does.
    keys = ("error",) if {"title", "status"} <= http.mapping(body).keys() else ("error", "detail")
    for _ in range(_DEEPEST):
        inner = next((value for key in keys if (value := http.mapping(parts[-1]).get(key))), None)
        inner = next(iter(inner), None) if isinstance(inner, list) else inner
        if inner is None:
            break
        is_theirs = is_theirs or isinstance(inner, str | dict)
        parts.append(inner)
    last = parts[-1]
    if isinstance(last, str):
        return _Said(text=last, is_theirs=is_theirs, parts=tuple(parts))
    said = http.mapping(last)
    location = http.items(said.get("loc"))  # of FastAPI
    kind, code = _word(said.get("type")), _word(said.get("code"))
    return _Said(
        type=kind,
        code=code,
        param=_word(said.get("param")) or (_word(location[-1]) if location else ""),
        text=str(said.get("message") or said.get("msg") or ""),
        is_named=(is_theirs or bool(said.get("message"))) and (_is_telling(kind) or _is_telling(code)),
        is_theirs=is_theirs,
        parts=tuple(parts),
    )


def _is_telling(word: str) -> bool:
    """Whether a type or code says more than a status does."""
    plain = word.lower().replace("_", "").replace("-", "").replace(" ", "")
    return bool(name(word)) and not plain.isdecimal() and plain not in _GENERIC


def _word(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value not in _NOTHING else ""


def _meaning(
    status: int, headers: Mapping[str, str], said: _Said, model: str
) -> tuple[ErrorCode, ErrorScope | None, str]:
    if status == 402 or said.code in _OUT_OF_CREDIT or said.type in _OUT_OF_CREDIT:
        return ErrorCode.QUOTA_EXHAUSTED, None, "The quota or credit at OpenAI is used up"
    if status in {401, 403}:
        return _not_allowed(status, said, model)
    if _knows_no_model(status, said, model):
        return ErrorCode.MODEL_RETIRED, None, f"OpenAI has no model {model}"
    if statuses.ran_out_of_time(status, said.words):
        return statuses.unanswered(VENDOR)
    # Its own word on whether to try again counts for more than the status.
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
        return statuses.nothing_here(VENDOR, status)
    param = name(said.param)
    # A fault that is not to be tried again says nothing about the prompt either.
    is_limit = param in _OF_THE_MODEL or said.code in _TOO_LONG or statuses.is_limit(said.text)
    return statuses.not_accepted(VENDOR, status, param=param, is_limit=is_limit or status == 413 or is_fault)


def _not_allowed(status: int, said: _Said, model: str) -> tuple[ErrorCode, ErrorScope | None, str]:
    if status == 403 and (
        said.param == "model" or said.code in _NO_SUCH_MODEL or statuses.is_about_model(said.text, model)
    ):
        return ErrorCode.AUTH, ErrorScope.MODEL, f"OpenAI does not allow this account to use the model {model}"
    if status == 403 and not (said.is_theirs and said.is_named) and not statuses.is_about_account(said.text):
        # Gateways write such a 403 for reasons of their own.
        return statuses.not_accepted(VENDOR, status)
    return ErrorCode.AUTH, None, "OpenAI does not accept the key"


def _knows_no_model(status: int, said: _Said, model: str) -> bool:
    if said.code in _NO_SUCH_MODEL or said.type in _NO_SUCH_MODEL:
        return True
    if status not in {400, 404, 410}:
        return False
    text = said.text.lower()
    is_gone = statuses.is_about_model(text, model) and any(words in text for words in _GONE)
    return said.param == "model" or (is_gone and not said.param)
