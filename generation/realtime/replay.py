"""What a client missed while it was away, from the history that every transition writes."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.contrib.auth.models import User
from django.db.models import F, Q, QuerySet

from generation import events
from generation.events import Update
from generation.identifiers import REQUEST_ID
from generation.models import StatusChange
from generation.realtime.authentication import in_database
from generation.realtime.targets import Target
from generation.states import PROGRESS

#: Who missed more than this is told the state now and not how it came about.
MOST_MISSED: Final = 1_000
#: A change may be committed after one that has a later number; by these numbers and this time at the most.
OVERTAKEN: Final = 1_000
_OVERTAKEN_BY: Final = timedelta(seconds=10)
_FIELDS: Final = {"requestId": "request", "batchId": "request__batch", "projectId": "request__project_id"}


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a request, and the message that tells it."""

    request_id: str
    sequence: int
    text: str


@dataclass(frozen=True, slots=True)
class Missed:
    """The changes after the client's last one, in the order in which they were written. ``number`` and ``at`` are those
    of that last one in the history."""

    changes: list[Change]
    number: int
    at: datetime


def event_id(request_id: str, sequence: int) -> str:
    """The name of one change of a request."""
    return f"{request_id}:{sequence}"


@in_database
def missed(user: User, targets: Collection[Target], last_event_id: str) -> Missed | None:
    """What followed the change of this name. Of a request's newest state the message has all, of those before it what
    the history knows. ``None`` for a name that the user cannot have got from us, and where too much followed."""
    request_id, _, sequence = last_event_id.partition(":")
    if not REQUEST_ID.fullmatch(request_id) or not (sequence.isascii() and sequence.isdigit() and len(sequence) < 10):
        return None
    if (last := _visible(user).filter(request=request_id, sequence=int(sequence)).first()) is None:
        return None
    after = _of(user, targets).filter(pk__gt=last.pk).order_by("pk")
    changes = list(after[: MOST_MISSED + 1])
    if len(changes) > MOST_MISSED:
        return None
    told = [Change(change.request_id, change.sequence, _message(change)) for change in changes]
    return Missed(told, last.pk, last.at)


@in_database
def overtaken(user: User, targets: Collection[Target], since: Missed) -> list[Update]:
    """The newest states that :func:`missed` may not have seen, since they were committed while it looked or late.
    Those of requests and batches are in their snapshots, so this is of projects, of which a snapshot is one page."""
    projects = [target for target in targets if target.name == "projectId"]
    if not projects:
        return []
    late = _of(user, projects).filter(pk__gt=since.number - OVERTAKEN, at__gt=since.at - _OVERTAKEN_BY)
    newest = late.filter(sequence=F("request__sequence")).order_by("pk")[:MOST_MISSED]
    return [events.update_of(change.request) for change in newest]


def _visible(user: User) -> QuerySet[StatusChange]:
    return StatusChange.objects.all() if user.is_staff else StatusChange.objects.filter(request__owner=user)


def _of(user: User, targets: Collection[Target]) -> QuerySet[StatusChange]:
    watched = Q()
    for name, field in _FIELDS.items():
        if ids := [target.id for target in targets if target.name == name]:
            watched |= Q(**{f"{field}__in": ids})
    return _visible(user).filter(watched).select_related("request")


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
