"""Estimates that clients were given, beside what came of them."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from generation.db.functions import Now


class GivenEstimate(models.Model):
    """When a request was expected to start, in seconds after its submit: as it was estimated, and as its client was
    told after a correction. ``started_after`` is when it did, and is measured later.

    It is a sample for the correction of later estimates, so nothing needs a row. There is no foreign key, which would
    lock the request.
    """

    request_id = models.CharField(primary_key=True, max_length=64)
    estimated_p50 = models.FloatField()
    estimated_p90 = models.FloatField()
    given_p50 = models.FloatField()
    given_p90 = models.FloatField()
    given_at = models.DateTimeField(db_default=Now())
    started_after = models.FloatField(null=True)
    measured_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "generation_estimates"
        indexes: ClassVar = [
            models.Index(fields=["given_at"], name="estimate_open", condition=Q(measured_at__isnull=True)),
            models.Index(fields=["-measured_at"], name="estimate_measured", condition=Q(measured_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.request_id
