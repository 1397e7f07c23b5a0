"""Replay of the changes that a client missed while disconnected, from the StatusChange rows of all transitions."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.contrib.auth.models import User
from django.db.models import F, Q, QuerySet

from generation.identifiers import REQUEST_ID
from generation.models import StatusChange
from generation.realtime.authentication import in_database
from generation.realtime.topics import Topic
from generation.requests import events
from generation.requests.events import Update
from generation.states import PROGRESS

#: A client that missed more changes than this gets only the current state.
MOST_MISSED: Final = 1_000
#: A change may be committed after a change with a higher primary key: at most this many keys and this time behind.
MAX_COMMIT_LAG: Final = 1_000
_MAX_COMMIT_DELAY: Final = timedelta(seconds=10)
#: Changes per query, which bounds the memory for a client that reads slowly.
_PAGE: Final = 20
_FIELDS: Final = {"requestId": "request", "batchId": "request__batch", "projectId": "request__project_id"}


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a request, and its message to the client."""

    request_id: str
    sequence: int
    text: str


@dataclass(frozen=True, slots=True)
class Missed:
    """The primary keys of the changes after the client's last one, in ascending order.

    ``number`` and ``at`` are the key and the time of that last change.
    """

    numbers: list[int]
    number: int
    at: datetime


def event_id(request_id: str, sequence: int) -> str:
    """Return the event id of one change of a request."""
    return f"{request_id}:{sequence}"


@in_database
def missed(user: User, topics: Collection[Topic], last_event_id: str) -> Missed | None:
    """Return the changes after the one with this event id.

    None if the user cannot have received this id, or if more than ``MOST_MISSED`` changes followed.
    """
    request_id, _, sequence = last_event_id.partition(":")
    if not REQUEST_ID.fullmatch(request_id) or not (sequence.isascii() and sequence.isdigit() and len(sequence) < 10):
        return None
    if (last := _visible(user).filter(request=request_id, sequence=int(sequence)).first()) is None:
        return None
    after = _of(user, topics).filter(pk__gt=last.pk).order_by("pk")
    numbers = list(after.values_list("pk", flat=True)[: MOST_MISSED + 1])
    return Missed(numbers, last.pk, last.at) if len(numbers) <= MOST_MISSED else None


def pages(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yield the keys in pages; read each only when the client has received most of the previous page."""
    for start in range(0, len(numbers), _PAGE):
        yield numbers[start : start + _PAGE]


@in_database
def changes(page: Sequence[int]) -> list[Change]:
    """Return the changes with these keys.

    The message of a request's newest state is complete; that of an earlier state has only the fields of the history.
    """
    return [Change(change.request_id, change.sequence, _message(change)) for change in _numbered(page)]


@in_database
def late_changes(user: User, topics: Collection[Topic], since: Missed) -> list[int]:
    """Return the keys of newest states that :func:`missed` may not have read, since they were committed later.

    Only for projects, whose snapshot is one page: snapshots of requests and batches contain these states.
    """
    projects = [topic for topic in topics if topic.name == "projectId"]
    if not projects:
        return []
    late = _of(user, projects).filter(pk__gt=since.number - MAX_COMMIT_LAG, at__gt=since.at - _MAX_COMMIT_DELAY)
    newest = late.filter(sequence=F("request__sequence")).order_by("pk")
    return list(newest.values_list("pk", flat=True)[:MOST_MISSED])


@in_database
def states(page: Sequence[int]) -> list[Update]:
    """Return the current states of the requests of the changes with these keys."""
    return [events.update_of(change.request) for change in _numbered(page)]


def _numbered(page: Sequence[int]) -> QuerySet[StatusChange]:
    return StatusChange.objects.filter(pk__in=page).select_related("request").order_by("pk")


def _visible(user: User) -> QuerySet[StatusChange]:
    return StatusChange.objects.all() if user.is_staff else StatusChange.objects.filter(request__owner=user)


def _of(user: User, topics: Collection[Topic]) -> QuerySet[StatusChange]:
    watched = Q()
    for name, field in _FIELDS.items():
        if ids := [topic.id for topic in topics if topic.name == name]:
            watched |= Q(**{f"{field}__in": ids})
    return _visible(user).filter(watched)


def _message(change: StatusChange) -> str:
    if change.sequence == change.request.sequence:
        return events.update_of(change.request).text
    data = {
        "requestId": change.request_id,
        "status": change.to_status,
        "progress": PROGRESS[change.to_status],
        "sequence": change.sequence,
    }
    return json.dumps({"type": "update", "requestId": change.request_id, "data": data})
