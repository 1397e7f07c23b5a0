"""Heartbeats of workers and dispatchers."""

from __future__ import annotations

from django.db import models

from generation.db.functions import Now
from generation.states import ProcessKind


class WorkerProcess(models.Model):
    """A worker or dispatcher with its last heartbeat. Readiness and capacity are read from these rows."""

    name = models.CharField(primary_key=True, max_length=255)
    kind = models.CharField(max_length=16, choices=ProcessKind.choices, default=ProcessKind.WORKER)
    slots = models.PositiveSmallIntegerField()
    started_at = models.DateTimeField("started", db_default=Now())
    seen_at = models.DateTimeField("last heartbeat", db_default=Now())

    class Meta:
        db_table = "generation_workers"
        verbose_name = "process"
        verbose_name_plural = "processes"

    def __str__(self) -> str:
        return self.name
