"""How the whole was, minute by minute: what the charts are drawn from."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class MetricsSnapshot(models.Model):
    """The state at one moment, and what ended since the snapshot before. ``last_change`` is the newest row of the
    history that was counted."""

    at = models.DateTimeField(primary_key=True)
    queued = models.JSONField(default=dict)  # by priority
    oldest_seconds = models.FloatField(default=0)
    in_progress = models.PositiveIntegerField(default=0)
    workers = models.PositiveIntegerField(default=0)
    slots = models.PositiveIntegerField(default=0)
    submitted = models.PositiveIntegerField(default=0)
    completed = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    cancelled = models.PositiveIntegerField(default=0)
    average_wait = models.FloatField(default=0)  # seconds, over the last hour
    last_change = models.BigIntegerField(default=0)

    class Meta:
        db_table = "generation_metrics_snapshots"
        ordering: ClassVar = ["-at"]

    def __str__(self) -> str:
        return self.at.isoformat()
