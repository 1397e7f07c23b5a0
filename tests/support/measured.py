"""Attempts and workers whose times the test chooses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.contrib.auth.models import User

from generation.db import counter_checks
from generation.db.functions import Now
from generation.models import GenerationAttempt, GenerationRequest, StatusChange, WorkerProcess
from generation.requests import lifecycle
from tests.support.requests import FAILURE, RESULT, claimed


def ended(
    owner: User,
    *,
    lasted: float,
    waited: float = 0,
    ago: timedelta = timedelta(seconds=1),
    failed: bool = False,
    type: str = "coloring-page",
) -> GenerationRequest:
    """A request that waited and lasted so many seconds and ended so long ago."""
    claim = claimed(owner, type=type)
    if failed:
        assert lifecycle.fail(claim, FAILURE)
    else:
        assert lifecycle.complete(claim, result=RESULT, model="openmoji-17")
    end = datetime.now(UTC) - ago
    start = end - timedelta(seconds=lasted)
    GenerationRequest.objects.filter(pk=claim.request.pk).update(
        created_at=start - timedelta(seconds=waited), started_at=start, completed_at=end
    )
    GenerationAttempt.objects.filter(request=claim.request).update(started_at=start, finished_at=end)
    changes = StatusChange.objects.filter(request=claim.request)
    for sequence, moment in enumerate((start - timedelta(seconds=waited), start, end), start=1):
        changes.filter(sequence=sequence).update(at=moment)
    counter_checks.differences(fix=True)
    return claim.request


def worker(name: str, *, slots: int, seen: timedelta = timedelta(0)) -> None:
    """A worker process whose last heartbeat was so long ago."""
    WorkerProcess.objects.create(name=name, slots=slots, seen_at=Now() - seen)
