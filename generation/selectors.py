"""What can be read, always within what the reader may see."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Q, QuerySet

from generation.clock import Now
from generation.identifiers import REQUEST_ID
from generation.models import GenerationQueue, GenerationRequest, WorkerProcess

#: Seconds that one request is taken to last, as long as nothing better is known.
SECONDS_PER_REQUEST: Final = 30
#: Nobody needs the place in a longer queue to the last digit, and counting it costs more the longer it is.
_FURTHEST_PLACE: Final = 10_000
#: A worker that missed this many heartbeats is not up.
_MISSED_HEARTBEATS: Final = 3


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """Where a queued request stands: ``position`` from 1, ``estimated_wait`` in seconds."""

    position: int
    estimated_wait: int


def visible_to(user: User) -> QuerySet[GenerationRequest]:
    """The requests that the user may see: one's own, and for staff all."""
    requests = GenerationRequest.objects.all()
    return requests if user.is_staff else requests.filter(owner=user)


def find_request(request_id: str, *, among: QuerySet[GenerationRequest]) -> GenerationRequest | None:
    """The request of this id, if it is among these. What cannot be an id is not looked up."""
    return among.filter(pk=request_id).first() if REQUEST_ID.fullmatch(request_id) else None


def queue_place(request_id: str) -> QueuePlace | None:
    """The place in the queue, or ``None`` for what is not queued (any more)."""
    entry = GenerationQueue.objects.filter(pk=request_id).first()
    if entry is None:
        return None
    earlier = Q(queued_at__lt=entry.queued_at) | Q(queued_at=entry.queued_at, pk__lt=entry.pk)
    ahead = GenerationQueue.objects.filter(
        Q(priority_weight__gt=entry.priority_weight) | Q(priority_weight=entry.priority_weight) & earlier
    )
    position = ahead[:_FURTHEST_PLACE].count() + 1
    return QueuePlace(position=position, estimated_wait=position * SECONDS_PER_REQUEST)


def live_workers() -> QuerySet[WorkerProcess]:
    """The workers whose heartbeat is fresh."""
    patience: timedelta = settings.HEARTBEAT_INTERVAL * _MISSED_HEARTBEATS
    return WorkerProcess.objects.filter(seen_at__gt=Now() - patience)
