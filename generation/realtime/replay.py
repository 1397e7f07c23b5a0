"""What a client missed while it was away, from the history that every transition writes."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Final

from django.contrib.auth.models import User
from django.db.models import Q

from generation import events
from generation.identifiers import REQUEST_ID
from generation.models import StatusChange
from generation.realtime.authentication import in_database
from generation.realtime.targets import Target
from generation.states import PROGRESS

#: Who missed more than this is told the state now and not how it came about.
MOST_MISSED: Final = 1_000
_FIELDS: Final = {"requestId": "request", "batchId": "request__batch", "projectId": "request__project_id"}


def event_id(request_id: str, sequence: int) -> str:
    """The name of one change of a request."""
    return f"{request_id}:{sequence}"


@in_database
def missed(user: User, targets: Collection[Target], last_event_id: str) -> list[tuple[str, str]]:
    """The changes after the one of this name, each with its name and its message, in the order in which they were
    written. Of a request's newest state the message has all, of those before it what the history knows. Nothing for a
    name that the user cannot have got from us."""
    request_id, _, sequence = last_event_id.partition(":")
    if not REQUEST_ID.fullmatch(request_id) or not (sequence.isascii() and sequence.isdigit() and len(sequence) < 10):
        return []
    visible = StatusChange.objects.all() if user.is_staff else StatusChange.objects.filter(request__owner=user)
    if (last := visible.filter(request=request_id, sequence=int(sequence)).first()) is None:
        return []
    watched = Q()
    for name, field in _FIELDS.items():
        if ids := [target.id for target in targets if target.name == name]:
            watched |= Q(**{f"{field}__in": ids})
    after = visible.filter(watched, pk__gt=last.pk).select_related("request").order_by("pk")
    changes = list(after[: MOST_MISSED + 1])
    if len(changes) > MOST_MISSED:
        return []
    return [(event_id(change.request_id, change.sequence), _message(change)) for change in changes]


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
