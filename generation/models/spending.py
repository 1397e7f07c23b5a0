"""Spending, budgets, and the result cache."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q


class Spending(models.Model):
    """The number and the cost in US dollars of one owner's calls on one day (UTC)."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", db_index=False)
    day = models.DateField()
    calls = models.PositiveIntegerField(default=0)
    cost = models.DecimalField("cost in US dollars", max_digits=14, decimal_places=6, default=0)

    class Meta:
        db_table = "generation_spending"
        verbose_name_plural = "spending"
        ordering: ClassVar = ["-day", "owner"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["owner", "day"], name="spending_one_per_day")]

    def __str__(self) -> str:
        return f"{self.owner_id} on {self.day}: {self.cost}"


class Budget(models.Model):
    """The budget of one owner in US dollars a day (UTC), which replaces the default of the settings."""

    owner = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="generation_budget"
    )
    per_day = models.DecimalField("US dollars per day", max_digits=12, decimal_places=2)

    class Meta:
        db_table = "generation_budgets"
        constraints: ClassVar = [models.CheckConstraint(condition=Q(per_day__gte=0), name="budget_is_not_negative")]

    def __str__(self) -> str:
        return f"{self.owner_id}: {self.per_day} a day"


class SharedPicture(models.Model):
    """The result cache: the hash of an owner's request options, and the request that generates or generated the image
    (``holder``)."""

    key = models.CharField(primary_key=True, max_length=64)
    holder = models.ForeignKey(
        "generation.GenerationRequest", on_delete=models.SET_NULL, null=True, related_name="+", db_index=False
    )

    class Meta:
        db_table = "generation_shared_pictures"
        # Used when requests are deleted, and when pruning looks for rows without a holder.
        indexes: ClassVar = [models.Index(fields=["holder"], name="shared_picture_holder")]

    def __str__(self) -> str:
        return self.key
