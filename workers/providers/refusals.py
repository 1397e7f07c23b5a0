"""Recognize refusals by safety systems, in the variants of vendors, their SDKs and gateways."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from generation.states import ErrorCode
from workers.providers.base import ProviderError
from workers.providers.support import name

#: Bounds of the search, since an error is small and a large text has no more information.
_MAX_NODES: Final = 500
_MAX_DEPTH: Final = 10
_MAX_LENGTH: Final = 8000
_MAX_TEXT: Final = 32_000

#: Codes, types, reasons and exception classes of refusals, in snake case.
_NAMES: Final = re.compile(
    r"content_(?:policy|filter|moderat|safety|violat|block|reject|restrict|manage|flag|prohibit|refus)"
    r"|(?:prohibited|disallowed|forbidden|illegal|unsafe|harmful|inappropriate|sensitive|offensive|adult)_content"
    r"|moderat(?:ion|ed)|responsible_?ai|safety|unsafe|nsfw"
    r"|policy_violat|violat\w*_polic|(?:usage|use)_polic"
    r"|(?:prompt|input|output|image|response|request|generation)_?(?:was_|is_)?"
    r"(?:block|flag|reject|refus|filter|unsafe|prohibit|moderat|recitat)"
    r"|(?:block|reject|refus|filter|flag)\w*_(?:prompt|content|input|output|image|generation)"
    r"|blocklist|guardrail|inspection_failed|sensitive_(?:word|info|data)|(?:^|_)(?:refusal|refused|flagged|recitation)\b"
    r"|prohibited_(?:word|use|image|prompt)|jailbreak|model_armor|(?:^|_)spii(?:_|$)|risk_control"
)
_ACCOUNT_NAMES: Final = re.compile(
    r"^(?:api_key|security|location|org|organization|vpc|account|consumer|billing|resource|iam|network|ip)_"
)
#: Names that match but are about an account, a setting, or a safety system that is out of order.
_OTHER_NAMES: Final = re.compile(
    _ACCOUNT_NAMES.pattern + r"|safety_(?:settings?|identifier|tolerance|level)|connection|content_filter_error"
    r"|(?:moderation|safety|guardrail|filter)\w*_(?:unavailable|timeout|down|outage)$"
)
#: Sentences of refusals, in lower case.
_SENTENCES: Final = re.compile(
    r"safety (?:system|filter|guideline|polic|check|reason|standard|threshold|guardrail|measure|violation|concern)"
    r"|content (?:polic|filter|moderation|management polic|guideline|safety|restriction|standard|violation)"
    r"|(?:usage|use|acceptable[- ]use|community|ai) (?:polic|guideline|standard)"
    r"|violat\w*[^.]{0,80}(?:polic|guideline|terms|practice|standard|rules|guardrail)"
    r"|responsible[ _-]?ai|moderation (?:system|filter|polic|check|layer|model|guideline|reason)"
    r"|\b(?:(?:prompt|input|image|output|content|response|generation|text|word|message)s?|request)\b[^.]{0,60}"
    r"\b(?:was|were|is|are|been|being|got)\b(?:(?!\bnot\b)[^.]){0,30}\b(?:flagged|blocked|filtered|censored|moderated|disallowed"
    r"|deemed|inappropriate|unsafe|harmful|(?<!case )(?<!case-)sensitive)"
    r"|\b(?:prompt|input|output|image|content)s? (?:flagged|blocked|filtered|moderated)"
    r"|(?:harmful|unsafe|inappropriate|explicit|sexual|prohibited|disallowed|offensive|sensitive|objectionable|forbidden)"
    r" (?:content|material|word|term|image|prompt|imagery|generation|text|topic)"
    r"|filtered (?:word|term|content)|\bnsfw\b|invalid prompts? detected|prohibited (?:one or more )?word"
    r"|(?:flagged|blocked|filtered|rejected|refused) (?:by|due to|because of|for|as)[^.]{0,40}"
    r"(?:safety|polic|content|moderat|filter|guardrail|prohibited)"
)
#: Sentences about an account that was closed, unless they are also about a prompt or an image.
_ACCOUNT: Final = re.compile(
    r"\b(?:account|organi[sz]ation|access (?:was|has been)|suspended|deactivated|banned|api[ _-]?key|billing"
    r"|service control|refer+er|ip address|client application|restriction)"
)
_CONTENT: Final = re.compile(r"\b(?:prompt|image|picture|input|output|generated)")
#: Sentences that the safety system, or the whole service, is out of order.
_OUT_OF_ORDER: Final = re.compile(r"unavailable|temporar|try again later|timed? ?out|overload|out of service")
_OUTPUT: Final = re.compile(
    r"(?:generated|output|resulting|produced) (?:image|picture|content)|image output|images? generated"
    r"|\b(?:images?|outputs?|responses?|generations?) (?:was|were|has been|have been) "
    r"(?:flagged|blocked|filtered|moderated)"
)
_OUTPUT_NAME: Final = re.compile(
    r"(?:^|_)output(?:_|$)|image_(?:safety|prohibited|recitation)|(?:response|image)_filtered"
)
_PROMPT: Final = re.compile(r"\b(?:prompt|input|your request)\b")
#: OpenAI's type of a refusal. Other errors of a request have the same type, but they have a code, too.
_USER_ERROR: Final = "image_generation_user_error"
#: Names within a sentence: words with an underscore or with a capital letter inside.
_TOKEN: Final = re.compile(r"\b[A-Za-z][a-z0-9]*(?:[_A-Z][A-Za-z0-9]*)+")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_LISTED: Final = re.compile(r"(?:safety_violations|categories|reasons)\s*[=:]\s*\[([^\]]{1,200})\]")
#: Keys of texts that repeat the request or name fields, which say nothing about a refusal.
_ECHO_KEYS: Final = frozenset(
    {
        *("prompt", "negative_prompt", "input", "flagged_input", "revised_prompt", "contents", "user", "request"),
        *("param", "loc", "field", "@type", "domain", "url", "instance", "ctx"),
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A refusal of the ``input`` or the ``output`` by a safety system, with the categories that the vendor names."""

    stage: str = "input"
    categories: Sequence[str] = ()


def error(vendor: str, refusal: Refusal, *, call_id: str = "", **detail: Any) -> ProviderError:
    """Return the error for a refusal."""
    categories = list(refusal.categories)
    suffix = f" ({', '.join(categories)})" if categories else ""
    is_output = refusal.stage == "output"
    return ProviderError(
        f"{vendor}'s safety system refused the {'image' if is_output else 'prompt'}{suffix}",
        code=ErrorCode.REFUSED_OUTPUT if is_output else ErrorCode.REFUSED_INPUT,
        provider_request_id=call_id,
        detail={**detail, "stage": refusal.stage, "categories": categories},
    )


def find(body: object, *, status: int) -> Refusal | None:
    """Return the refusal in an error's JSON, at any depth, or None.

    With 401 and 429 only names count, since sentences about policies are then about the account or the rate.
    """
    strings = list(_strings(body))
    parameters = {text for key, text in strings if key == "param"}
    texts = [text for key, text in strings if key not in _ECHO_KEYS]
    names = [text for text in texts if name(text)] + [
        token for text in texts if not name(text) for token in _TOKEN.findall(text)
    ]
    sentences = [text for text in texts if not name(text)]
    has_code = any(key == "code" and not text.isdecimal() for key, text in strings)
    is_refused = any(is_refusal(word) for word in names if word not in parameters)
    is_refused = is_refused or (_USER_ERROR in names and not has_code)
    is_refused = is_refused and not (status >= 500 and any(map(_is_out_of_order, sentences)))
    is_about_account = any(_ACCOUNT_NAMES.search(_snake(word)) for word in names)
    if not is_refused and status not in {401, 429} and not is_about_account:
        is_refused = any(speaks_of_refusal(text, status=status) for text in sentences)
    categories = _categories(body)
    if not is_refused and not (categories and status != 429 and _has_verdict(body)):
        return None
    categories = list(dict.fromkeys(categories + _listed(sentences)))
    return Refusal(stage=_stage(body, names, sentences), categories=categories)


def is_refusal(word: str) -> bool:
    """Return whether a code, type or reason is that of a refusal."""
    snake = _snake(word)
    return bool(_NAMES.search(snake)) and not _OTHER_NAMES.search(snake)


def speaks_of_refusal(text: str, *, status: int = 400) -> bool:
    """Return whether a sentence says that a safety system refused something."""
    lower = text[:_MAX_LENGTH].lower()
    if not _SENTENCES.search(lower):
        return False
    if _ACCOUNT.search(lower) and not _CONTENT.search(lower):
        return False
    return not (status >= 500 and _is_out_of_order(lower))


def _snake(word: str) -> str:
    return _CAMEL.sub("_", word).lower().replace("-", "_").replace(".", "_")


def _is_out_of_order(text: str) -> bool:
    return bool(_OUT_OF_ORDER.search(text.lower()))


def _nodes(body: object) -> Iterator[tuple[str, object]]:
    """Yield every value with its key, level by level, including those of JSON within a string."""
    level: list[tuple[str, object]] = [("", body)]
    count = 0
    for _ in range(_MAX_DEPTH):
        next_level: list[tuple[str, object]] = []
        for key, value in level:
            count += 1
            if count > _MAX_NODES:
                return
            yield key, value
            if isinstance(value, str) and value[:1] in {"{", "["} and len(value) <= _MAX_LENGTH:
                next_level.append((key, _parse_json(value)))
            elif isinstance(value, Mapping):
                next_level += [(str(inner), child) for inner, child in value.items()]
            elif isinstance(value, list):
                next_level += [(key, child) for child in value]
        level = next_level


def _parse_json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _strings(body: object) -> Iterator[tuple[str, str]]:
    remaining = _MAX_TEXT
    for key, value in _nodes(body):
        if isinstance(value, str) and remaining > 0:
            yield key, value[: min(remaining, _MAX_LENGTH)]
            remaining -= len(value)


def _categories(body: object) -> list[str]:
    """Return the names under ``categories`` and ``reasons``, and of the ratings that caused the refusal."""
    values: list[object] = []
    for key, value in _nodes(body):
        if key in {"categories", "reasons"} and isinstance(value, str):
            values.append(value)
        elif key == "categories" and isinstance(value, Mapping):
            values += [inner for inner, is_cause in value.items() if is_cause is True]
        elif isinstance(value, Mapping) and _is_withheld(value):
            values.append(value.get("category", key))
    return [word for item in values if (word := name(item))]


def _has_verdict(body: object) -> bool:
    """Return whether a rating itself says that content was withheld."""
    return any(
        key == "flagged_input" or (isinstance(value, Mapping) and _is_withheld(value)) for key, value in _nodes(body)
    )


def _is_withheld(rating: Mapping[str, object]) -> bool:
    return rating.get("filtered") is True or rating.get("blocked") is True


def _listed(sentences: Sequence[str]) -> list[str]:
    lists = [match[1] for text in sentences if (match := _LISTED.search(text[:_MAX_LENGTH]))]
    return [word for items in lists for part in re.split(r"[,\s'\"]+", items) if (word := name(part))]


def _stage(body: object, names: Sequence[str], sentences: Sequence[str]) -> str:
    for key, value in _nodes(body):
        if key in {"moderation_stage", "stage"} and value in {"input", "output"}:
            return str(value)
    if any(_OUTPUT_NAME.search(_CAMEL.sub("_", word).lower()) for word in names):
        return "output"
    text = " ".join(sentences)[:_MAX_LENGTH].lower()
    return "output" if _OUTPUT.search(text) and not _PROMPT.search(text) else "input"
