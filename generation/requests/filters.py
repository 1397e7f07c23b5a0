"""How staff pick requests: conditions as words, which mean the same on a page, in an export and in a bulk action."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from cachetools import TTLCache
from django.contrib.auth.models import User
from django.contrib.postgres.search import SearchQuery, SearchVector
from django.db.models import QuerySet, Subquery
from django.db.models.fields.json import KT

from generation import identifiers
from generation.identifiers import BATCH_ID, oldest_request_id
from generation.models import GenerationAttempt, GenerationRequest
from generation.states import ACTIVE, GenerationType, Priority, Status

Requests = QuerySet[GenerationRequest]

#: The search, as a condition among the others.
SEARCH: Final = "q"
#: The status of requests that are queued or in progress.
ACTIVE_STATUS: Final = "active"
_LONGEST: Final = 255
_WORDS: Final = re.compile(r"\w+")
#: Words are frequent when so many of the newest have them; the answer is remembered for some seconds.
_SAMPLE: Final = 2_000
_FREQUENT: Final = 40
_frequent: Final[TTLCache[tuple[str, ...], bool]] = TTLCache(maxsize=256, ttl=60)
#: The cache changes with each look, since that drops what is too old. It is not held during a query.
_frequent_lock: Final = threading.Lock()
#: The most that are told apart by their ids.
_FEW: Final = 1_000
#: More words than anybody searches for.
_MOST_WORDS: Final = 12
_BEGINNING_OF_ID: Final = re.compile(r"vga_([0-9]{4,16})(_[0-9a-z]*)?", re.ASCII)


def matching(requests: Requests, conditions: Mapping[str, str]) -> Requests:
    """Return the requests that fulfil every condition. A blank value does not count. A name that is not a
    condition, or a value that makes no sense, matches no request: dropping it would act on more than was asked for."""
    for name, value in conditions.items():
        narrow = CONDITIONS.get(name)
        if narrow is None:
            return requests.none()
        if value.strip():
            requests = requests.none() if _is_odd(value) else narrow(requests, value)
    return requests


def known(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters that are conditions and not blank."""
    return {name: value for name in CONDITIONS if (value := parameters.get(name, "")).strip()}


def in_words(conditions: Mapping[str, str]) -> str:
    """The conditions for people, in the order of their names."""
    named = {"search" if name == SEARCH else name: value for name, value in conditions.items()}
    return ", ".join(f"{name} {value}" for name, value in sorted(named.items())) or "no condition"


def period(day: str) -> tuple[datetime, datetime] | None:
    """The beginning and the end of a year, month or day that is written as ``2026``, ``2026-01`` or ``2026-01-31``."""
    if not re.fullmatch(r"\d{4}(-\d\d){0,2}", day, re.ASCII):
        return None
    parts = [int(part) for part in day.split("-")]
    try:
        year, month, day_of_month = [*parts, 1, 1][:3]
        begin = datetime(year, month, day_of_month, tzinfo=UTC)
        match len(parts):
            case 1:
                return begin, begin.replace(year=begin.year + 1)
            case 2:
                return begin, (begin + timedelta(days=31)).replace(day=1)
        return begin, begin + timedelta(days=1)
    except (ValueError, OverflowError):
        return None


def time_of(request_id: str) -> datetime:
    """When a request was submitted, by its id."""
    return datetime.fromtimestamp(int(request_id.split("_")[1]) / 1_000_000, UTC)


def _is_odd(value: str) -> bool:
    return len(value) > _LONGEST or "\0" in value


def _first_id(moment: datetime) -> str:
    return oldest_request_id(int(moment.timestamp() * 1_000_000))


def _moment(value: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(value)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _equal(column: str, choices: Collection[str] = ()) -> Callable[[Requests, str], Requests]:
    def narrow(requests: Requests, value: str) -> Requests:
        value = identifiers.identifier(value)
        return requests.none() if choices and value not in choices else requests.filter(**{column: value})

    return narrow


def _status(requests: Requests, value: str) -> Requests:
    if value == ACTIVE_STATUS:
        return requests.filter(status__in=ACTIVE)
    return requests.filter(status=value) if value in Status.values else requests.none()


def _on(requests: Requests, value: str) -> Requests:
    if (found := period(value)) is None:
        return requests.none()
    begin, end = found
    return requests.filter(pk__gte=_first_id(begin), pk__lt=_first_id(end))


def _after(requests: Requests, value: str) -> Requests:
    moment = _moment(value)
    return requests.filter(pk__gte=_first_id(moment)) if moment else requests.none()


def _before(requests: Requests, value: str) -> Requests:
    moment = _moment(value)
    return requests.filter(pk__lt=_first_id(moment)) if moment else requests.none()


def _owner(requests: Requests, value: str) -> Requests:
    owner = User.objects.filter(username=identifiers.user_name(value)).values_list("pk", flat=True).first()
    return requests.none() if owner is None else requests.filter(owner_id=owner)


def _provider(requests: Requests, value: str) -> Requests:
    """Whose provider, that of any attempt, it was."""
    asked = GenerationAttempt.objects.filter(provider=value)
    # Nothing newer than the newest of them need be looked at, and of the rest nothing that was never claimed: the
    # newest may all be waiting.
    newest = asked.order_by("-request_id").values("request_id")[:1]
    return requests.filter(claims__gt=0, pk__lte=Subquery(newest), pk__in=asked.values("request_id"))


def _error(requests: Requests, value: str) -> Requests:
    failed = requests.filter(status=Status.FAILED)
    return failed.alias(_code=KT("error__code")).filter(_code=value)  # as the index has it


def _search(requests: Requests, value: str) -> Requests:
    """By id or the beginning of one, by batch, by project, or by words of the prompt."""
    text = identifiers.identifier(value)
    if BATCH_ID.fullmatch(text):
        return requests.filter(batch_id=text)
    if beginning := _BEGINNING_OF_ID.fullmatch(text):
        return _beginning_with(requests, text, beginning[1])
    if GenerationRequest.objects.filter(project_id=text).order_by().exists():
        return requests.filter(project_id=text)
    return _with_words(requests, _WORDS.findall(text)[:_MOST_WORDS])


def _beginning_with(requests: Requests, text: str, digits: str) -> Requests:
    # Numbers rather than letters, whose order is another one in another collation.
    first, past = (oldest_request_id(int(f"{number}".ljust(16, "0"))) for number in (int(digits), int(digits) + 1))
    return requests.filter(pk__gte=first, pk__lt=past, pk__startswith=text)


def _with_words(requests: Requests, words: list[str]) -> Requests:
    """Those with every word, from its beginning, in the prompt."""
    if not words:
        return requests.none()
    found = _few_with(tuple(words))
    if found is not None:
        return requests.filter(pk__in=found)
    for word in words:
        requests = requests.filter(prompt__iregex=rf"\m{word}")
    return requests


def _few_with(words: tuple[str, ...]) -> list[str] | None:
    """The ids of all requests with these words, by their index; ``None`` where there are many. Then they are soon met
    on the way from the newest down, while sorting what the index finds would take as long as there are.

    PostgreSQL cannot choose between the two by itself, since it does not know how frequent the beginnings of words are.
    """
    with _frequent_lock:
        if words in _frequent:
            return None
    newest = GenerationRequest.objects.filter(pk__in=GenerationRequest.objects.order_by("-pk").values("pk")[:_SAMPLE])
    for word in words:
        newest = newest.filter(prompt__iregex=rf"\m{word}")
    if newest.order_by()[:_FREQUENT].count() < _FREQUENT:
        query = SearchQuery(" & ".join(f"{word}:*" for word in words), config="simple", search_type="raw")
        rows = GenerationRequest.objects.alias(_words=SearchVector("prompt", config="simple")).filter(_words=query)
        found = list(rows.order_by().values_list("pk", flat=True)[: _FEW + 1])
        if len(found) <= _FEW:
            return found
    with _frequent_lock:
        _frequent[words] = True
    return None


CONDITIONS: Final[Mapping[str, Callable[[Requests, str], Requests]]] = {
    SEARCH: _search,
    "status": _status,
    "priority": _equal("priority", Priority.values),
    "type": _equal("type", GenerationType.values),
    "provider": _provider,
    "error": _error,
    "owner": _owner,
    "project": _equal("project_id"),
    "batch": _equal("batch_id"),
    "on": _on,
    "after": _after,
    "before": _before,
}
