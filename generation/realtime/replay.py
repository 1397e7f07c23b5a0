"""What a client missed while it was away, from the history that every transition writes."""

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

#: Who missed more than this is told the state now and not how it came about.
MOST_MISSED: Final = 1_000
#: A change may be committed after one that has a later number; by these numbers and this time at the most.
OVERTAKEN: Final = 1_000
_OVERTAKEN_BY: Final = timedelta(seconds=10)
#: Changes that are read at once. A client that reads slowly holds no more of them in memory.
_PAGE: Final = 20
_FIELDS: Final = {"requestId": "request", "batchId": "request__batch", "projectId": "request__project_id"}


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a request, and the message that tells it."""

    request_id: str
    sequence: int
    text: str


@dataclass(frozen=True, slots=True)
class Missed:
    """The numbers of the changes after the client's last one, in the order in which they were written. ``number`` and
    ``at`` are those of that last one in the history."""

    numbers: list[int]
    number: int
    at: datetime


def event_id(request_id: str, sequence: int) -> str:
    """The name of one change of a request."""
    return f"{request_id}:{sequence}"


@in_database
def missed(user: User, targets: Collection[Topic], last_event_id: str) -> Missed | None:
    """Return which changes followed the change of this name, or ``None`` if the user cannot have got this name from us
    or if too much followed."""
    request_id, _, sequence = last_event_id.partition(":")
    if not REQUEST_ID.fullmatch(request_id) or not (sequence.isascii() and sequence.isdigit() and len(sequence) < 10):
        return None
    if (last := _visible(user).filter(request=request_id, sequence=int(sequence)).first()) is None:
        return None
    after = _of(user, targets).filter(pk__gt=last.pk).order_by("pk")
    numbers = list(after.values_list("pk", flat=True)[: MOST_MISSED + 1])
    return Missed(numbers, last.pk, last.at) if len(numbers) <= MOST_MISSED else None


def pages(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    """The numbers in pages, each to be read when the client has taken most of the page before."""
    for start in range(0, len(numbers), _PAGE):
        yield numbers[start : start + _PAGE]


@in_database
def changes(page: Sequence[int]) -> list[Change]:
    """The changes of these numbers. The message has everything for a request's newest state, and for an earlier state
    what the history knows."""
    return [Change(change.request_id, change.sequence, _message(change)) for change in _numbered(page)]


@in_database
def late_changes(user: User, targets: Collection[Topic], since: Missed) -> list[int]:
    """The numbers of newest states that :func:`missed` may not have seen, since they were committed while it looked or
    late. Those of requests and batches are in their snapshots, so this is of projects, of which a snapshot is one
    page."""
    projects = [target for target in targets if target.name == "projectId"]
    if not projects:
        return []
    late = _of(user, projects).filter(pk__gt=since.number - OVERTAKEN, at__gt=since.at - _OVERTAKEN_BY)
    newest = late.filter(sequence=F("request__sequence")).order_by("pk")
    return list(newest.values_list("pk", flat=True)[:MOST_MISSED])


@in_database
def states(page: Sequence[int]) -> list[Update]:
    """The present states of the requests that changed with these numbers."""
    return [events.update_of(change.request) for change in _numbered(page)]


def _numbered(page: Sequence[int]) -> QuerySet[StatusChange]:
    return StatusChange.objects.filter(pk__in=page).select_related("request").order_by("pk")


def _visible(user: User) -> QuerySet[StatusChange]:
    return StatusChange.objects.all() if user.is_staff else StatusChange.objects.filter(request__owner=user)


def _of(user: User, targets: Collection[Topic]) -> QuerySet[StatusChange]:
    watched = Q()
    for name, field in _FIELDS.items():
        if ids := [target.id for target in targets if target.name == name]:
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
