"""API keys."""

from __future__ import annotations

from typing import ClassVar, Final

from django.conf import settings
from django.db import models
from django.db.models import Q

from generation.db.functions import Now
from generation.states import Priority

#: The most requests of a key that may be limited to run at once.
MOST_ACTIVE: Final = 1_000


class ApiKey(models.Model):
    """A secret by which a program acts for its owner, without the rights of staff.

    Only the SHA-256 of the secret is stored. After a rotation the previous secret stays valid until ``previous_until``.
    ``allowed_models`` and ``allowed_projects`` name all that is allowed; ``None`` allows everything. A blank
    ``max_priority`` or ``rate`` is no limit. At most ``max_active`` of its requests are in progress at once.
    """

    id = models.CharField(primary_key=True, max_length=8, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="generation_api_keys", db_index=False
    )
    name = models.CharField(max_length=100)
    digest = models.CharField(max_length=64, editable=False)
    previous_digest = models.CharField(max_length=64, null=True, editable=False)
    previous_until = models.DateTimeField(null=True, editable=False)
    scopes = models.JSONField(default=list)
    allowed_models = models.JSONField(null=True)
    allowed_projects = models.JSONField(null=True)
    max_priority = models.CharField("highest priority", max_length=10, choices=Priority.choices, blank=True, default="")
    rate = models.CharField("rate of submits", max_length=32, blank=True, default="")
    daily_budget = models.DecimalField("US dollars per day", max_digits=12, decimal_places=2, null=True)
    max_active = models.PositiveSmallIntegerField("max. in progress", null=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True, editable=False)
    last_used_at = models.DateTimeField(null=True, editable=False)
    last_used_from = models.CharField(max_length=45, blank=True, default="", editable=False)

    class Meta:
        db_table = "generation_api_keys"
        verbose_name = "API key"
        ordering: ClassVar = ["-created_at", "id"]
        permissions: ClassVar = [("revoke_apikey", "Can revoke any user's API keys")]
        indexes: ClassVar = [models.Index(fields=["owner", "created_at"], name="api_key_owner")]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["digest"], name="api_key_digest"),
            models.UniqueConstraint(fields=["previous_digest"], name="api_key_previous_digest"),
            models.CheckConstraint(
                condition=Q(previous_digest__isnull=True) | Q(previous_until__isnull=False),
                name="api_key_previous_ends",
            ),
            models.CheckConstraint(
                condition=Q(max_active__isnull=True) | Q(max_active__range=(1, MOST_ACTIVE)),
                name="api_key_max_active_in_range",
            ),
            models.CheckConstraint(
                condition=Q(daily_budget__isnull=True) | Q(daily_budget__gte=0), name="api_key_budget_is_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix})"

    @property
    def prefix(self) -> str:
        """The part of the secret that is shown."""
        return f"vgsk_{self.pk}"
