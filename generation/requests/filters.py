"""Staff's filters of requests: conditions as text, with the same meaning on a page, in an export and a bulk action."""

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
from generation.states import ACTIVE, Approval, GenerationType, Priority, Status

Requests = QuerySet[GenerationRequest]

#: The condition with the search text.
SEARCH: Final = "q"
#: The decision of requests that are neither approved nor rejected.
UNDECIDED: Final = "none"
#: The status of requests that are queued or in progress.
ACTIVE_STATUS: Final = "active"
_MAX_LENGTH: Final = 255
_WORDS: Final = re.compile(r"\w+")
#: Words are frequent if at least ``_FREQUENT`` of the newest ``_SAMPLE`` prompts have them, or more than ``_FEW``
#: requests in all. That is cached for 60 s.
_SAMPLE: Final = 2_000
_FREQUENT: Final = 40
_frequent: Final[TTLCache[tuple[str, ...], bool]] = TTLCache(maxsize=256, ttl=60)
#: Guards the cache, which drops expired entries also when it is read. Not held during a query.
_frequent_lock: Final = threading.Lock()
#: Maximum number of requests that are filtered by their ids.
_FEW: Final = 1_000
#: Further words of a search are ignored.
_MAX_WORDS: Final = 12
_ID_PREFIX: Final = re.compile(r"vga_([0-9]{4,16})(_[0-9a-z]*)?", re.ASCII)


def matching(requests: Requests, conditions: Mapping[str, str]) -> Requests:
    """Return the requests that fulfill every condition. A blank value is ignored.

    An unknown condition or an invalid value matches no request. Ignoring it would select more than was requested.
    """
    for name, value in conditions.items():
        apply_condition = CONDITIONS.get(name)
        if apply_condition is None:
            return requests.none()
        if value.strip():
            requests = apply_condition(requests, value) if _is_storable(value) else requests.none()
    return requests


def known(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters that are conditions and not blank."""
    return {name: value for name in CONDITIONS if (value := parameters.get(name, "")).strip()}


def in_words(conditions: Mapping[str, str]) -> str:
    """Return the conditions as readable text, in the order of their names."""
    named = {"search" if name == SEARCH else name: value for name, value in conditions.items()}
    return ", ".join(f"{name} {value}" for name, value in sorted(named.items())) or "no condition"


def period(day: str) -> tuple[datetime, datetime] | None:
    """Return start and end of a year, month or day: ``2026``, ``2026-01`` or ``2026-01-31``; None if it is invalid."""
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
    """Return the time at which a request was submitted, from its id."""
    return datetime.fromtimestamp(int(request_id.split("_")[1]) / 1_000_000, UTC)


def _is_storable(value: str) -> bool:
    return len(value) <= _MAX_LENGTH and "\0" not in value


def _first_id(moment: datetime) -> str:
    return oldest_request_id(int(moment.timestamp() * 1_000_000))


def _parse_time(value: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _equal(column: str, choices: Collection[str] = ()) -> Callable[[Requests, str], Requests]:
    def condition(requests: Requests, value: str) -> Requests:
        value = identifiers.identifier(value)
        return requests.none() if choices and value not in choices else requests.filter(**{column: value})

    return condition


def _status(requests: Requests, value: str) -> Requests:
    if value == ACTIVE_STATUS:
        return requests.filter(status__in=ACTIVE)
    return requests.filter(status=value) if value in Status.values else requests.none()


def _approval(requests: Requests, value: str) -> Requests:
    if value == UNDECIDED:
        return requests.filter(approval="")
    return requests.filter(approval=value) if value in Approval.values else requests.none()


def _on(requests: Requests, value: str) -> Requests:
    if (interval := period(value)) is None:
        return requests.none()
    begin, end = interval
    return requests.filter(pk__gte=_first_id(begin), pk__lt=_first_id(end))


def _after(requests: Requests, value: str) -> Requests:
    moment = _parse_time(value)
    return requests.filter(pk__gte=_first_id(moment)) if moment else requests.none()


def _before(requests: Requests, value: str) -> Requests:
    moment = _parse_time(value)
    return requests.filter(pk__lt=_first_id(moment)) if moment else requests.none()


def _owner(requests: Requests, value: str) -> Requests:
    owner = User.objects.filter(username=identifiers.user_name(value)).values_list("pk", flat=True).first()
    return requests.none() if owner is None else requests.filter(owner_id=owner)


def _provider(requests: Requests, value: str) -> Requests:
    """Filter by the provider of any attempt."""
    attempts = GenerationAttempt.objects.filter(provider=value)
    # The first two conditions only save time: a scan from the newest request skips those after the provider's newest
    # attempt, and those that were never claimed, since the newest may all be queued.
    newest = attempts.order_by("-request_id").values("request_id")[:1]
    return requests.filter(claims__gt=0, pk__lte=Subquery(newest), pk__in=attempts.values("request_id"))


def _error(requests: Requests, value: str) -> Requests:
    failed = requests.filter(status=Status.FAILED)
    return failed.alias(_code=KT("error__code")).filter(_code=value)  # the expression of the index


def _search(requests: Requests, value: str) -> Requests:
    """Search by request id or the beginning of one, by batch, by project, or by words of the prompt."""
    text = identifiers.identifier(value)
    if BATCH_ID.fullmatch(text):
        return requests.filter(batch_id=text)
    if prefix := _ID_PREFIX.fullmatch(text):
        return _with_id_prefix(requests, text, prefix[1])
    if GenerationRequest.objects.filter(project_id=text).order_by().exists():
        return requests.filter(project_id=text)
    return _with_words(requests, _WORDS.findall(text)[:_MAX_WORDS])


def _with_id_prefix(requests: Requests, text: str, digits: str) -> Requests:
    # The range is by the digits alone, since the order of letters depends on the collation.
    first, end = (oldest_request_id(int(f"{number}".ljust(16, "0"))) for number in (int(digits), int(digits) + 1))
    return requests.filter(pk__gte=first, pk__lt=end, pk__startswith=text)


def _with_words(requests: Requests, words: list[str]) -> Requests:
    """Return the requests whose prompt has, for each of the words, a word that begins with it."""
    if not words:
        return requests.none()
    ids = _ids_with_words(tuple(words))
    if ids is not None:
        return requests.filter(pk__in=ids)
    for word in words:
        requests = requests.filter(prompt__iregex=rf"\m{word}")
    return requests


def _ids_with_words(words: tuple[str, ...]) -> list[str] | None:
    """Return the ids of all requests with these words from the index, or None if the words are frequent.

    For frequent words, a scan from the newest request soon finds enough, while sorting all matches of the index would
    be slow. PostgreSQL cannot choose between the two, since it has no statistics of word prefixes.
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
        ids = list(rows.order_by().values_list("pk", flat=True)[: _FEW + 1])
        if len(ids) <= _FEW:
            return ids
    with _frequent_lock:
        _frequent[words] = True
    return None


CONDITIONS: Final[Mapping[str, Callable[[Requests, str], Requests]]] = {
    SEARCH: _search,
    "status": _status,
    "approval": _approval,
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
