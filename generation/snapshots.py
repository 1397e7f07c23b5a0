"""Keeping the state of the whole every ``METRICS_COLLECTION_INTERVAL``, for the charts, and dropping what is old."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Max
from django.utils import timezone

from generation import statistics, waiting
from generation.locks import locked_keys
from generation.models import GenerationRequest, MetricsSnapshot, StatusChange
from generation.states import Reason, Status

#: How long a snapshot is kept.
_KEPT: Final = timedelta(days=30)
#: The most rows that one step deletes.
_STEP: Final = 500


def take_due() -> int:
    """Take the snapshot of this interval where nobody has, and drop some of the old ones. Returns how many were
    taken: any number of dispatchers take one between them."""
    if not settings.ENABLE_METRICS:
        return 0
    at = _this_interval()
    if MetricsSnapshot.objects.filter(pk=at).exists():
        return 0
    before = MetricsSnapshot.objects.order_by("-pk").values_list("last_change", flat=True).first()
    taken = MetricsSnapshot.objects.bulk_create([_snapshot(at, before)], ignore_conflicts=True)
    with transaction.atomic():
        old = locked_keys(MetricsSnapshot.objects.filter(pk__lt=at - _KEPT), limit=_STEP)
        MetricsSnapshot.objects.filter(pk__in=old).delete()
    return len(taken)


def _this_interval() -> datetime:
    interval = settings.METRICS_COLLECTION_INTERVAL.total_seconds()
    return datetime.fromtimestamp(timezone.now().timestamp() // interval * interval, UTC)


def _snapshot(at: datetime, before: int | None) -> MetricsSnapshot:
    waits = statistics.backlog()
    oldest = min(filter(None, (there.oldest for there in waits.values())), default=None)
    up = waiting.capacity()
    newest = StatusChange.objects.aggregate(newest=Max("pk"))["newest"] or 0
    ended: dict[str, int] = {}
    submitted = 0
    if before is not None:  # the first one has nothing that it could count from
        changes = StatusChange.objects.filter(pk__gt=before, pk__lte=newest).order_by()
        ended = dict(changes.values_list("to_status").annotate(count=Count("pk")))
        submitted = changes.filter(reason=Reason.SUBMITTED).count()
    return MetricsSnapshot(
        at=at,
        queued={priority: there.length for priority, there in waits.items()},
        oldest_seconds=max(0.0, (timezone.now() - oldest).total_seconds()) if oldest else 0,
        in_progress=GenerationRequest.objects.filter(status=Status.IN_PROGRESS).count(),
        workers=up.workers,
        slots=up.slots,
        submitted=submitted,
        completed=ended.get(Status.COMPLETED, 0),
        failed=ended.get(Status.FAILED, 0),
        cancelled=ended.get(Status.CANCELLED, 0),
        average_wait=statistics.average_wait(),
        last_change=max(newest, before or 0),
    )
