"""Pauses, and bulk actions on all requests that match a filter."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from generation.db.functions import Now
from generation.models.constraints import is_one_of
from generation.states import BulkActionName, PauseScope


class Pause(models.Model):
    """While the row exists, nothing of its scope starts: all requests, those of one priority or type, or the calls of
    one provider. Running attempts continue. ``value`` is empty for the scope ``everything``."""

    scope = models.CharField(max_length=16, choices=PauseScope.choices)
    value = models.CharField(max_length=32, blank=True, default="")
    reason = models.CharField(max_length=200, blank=True, default="")
    paused_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False
    )
    since = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "generation_pauses"
        ordering: ClassVar = ["scope", "value"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["scope", "value"], name="pause_unique"),
            is_one_of("pause_scope_known", "scope", PauseScope),
            models.CheckConstraint(
                condition=Q(scope=PauseScope.EVERYTHING, value="") | (~Q(scope=PauseScope.EVERYTHING) & ~Q(value="")),
                name="pause_value_unless_everything",
            ),
        ]

    def __str__(self) -> str:
        return "everything" if self.scope == PauseScope.EVERYTHING else f"{self.scope} {self.value}"


class BulkAction(models.Model):
    """One action on every request that matches ``conditions``, done in steps from the newest to the oldest. ``cursor``
    is the last id that was processed; requests newer than ``newest`` came later and are skipped. ``refusals`` counts
    refusals by reason, and ``refused_ids`` has the first ids of each. ``error`` says why it stopped early."""

    action = models.CharField(max_length=16, choices=BulkActionName.choices)
    argument = models.CharField(max_length=32, blank=True, default="")
    conditions = models.JSONField(default=dict)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False
    )
    address = models.CharField(max_length=64, blank=True, default="")
    newest = models.CharField(max_length=64, blank=True, default="")
    cursor = models.CharField(max_length=64, blank=True, default="")
    seen = models.PositiveIntegerField(default=0)
    done = models.PositiveIntegerField(default=0)
    refusals = models.JSONField(default=dict)
    refused_ids = models.JSONField(default=dict)
    error = models.CharField(max_length=200, blank=True, default="")
    created_at = models.DateTimeField(db_default=Now())
    advanced_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "generation_bulk_actions"
        ordering: ClassVar = ["-pk"]
        indexes: ClassVar = [
            models.Index(fields=["advanced_at"], name="bulk_action_unfinished", condition=Q(finished_at__isnull=True))
        ]
        constraints: ClassVar = [
            is_one_of("bulk_action_known", "action", BulkActionName),
            models.CheckConstraint(condition=Q(done__lte=F("seen")), name="bulk_action_done_of_seen"),
        ]

    def __str__(self) -> str:
        return f"{self.get_action_display()} #{self.pk}"

    @property
    def refused(self) -> int:
        """The number of refused requests, for all reasons."""
        return sum(self.refusals.values())
