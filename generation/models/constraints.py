"""Constraints that several tables have."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


def is_one_of(name: str, field: str, choices: type[models.TextChoices]) -> models.CheckConstraint:
    """The field has one of the values."""
    return models.CheckConstraint(condition=Q(**{f"{field}__in": choices.values}), name=name)
