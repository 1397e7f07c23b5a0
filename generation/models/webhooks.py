"""Webhooks: endpoints of owners, events that were not fanned out yet, and deliveries."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q, Value

from generation.db.functions import Now
from generation.models.constraints import is_one_of
from generation.models.requests import MAX_WEBHOOK_URL
from generation.states import DeliveryState, DisabledReason, WebhookEventType


class RotatingSecret(models.Model):
    """An encrypted signing secret. After a rotation the previous one signs as well until ``previous_until``."""

    secret = models.CharField(max_length=255, editable=False)
    previous_secret = models.CharField(max_length=255, blank=True, default="", editable=False)
    previous_until = models.DateTimeField(null=True, editable=False)

    class Meta:
        abstract = True


class WebhookEndpoint(RotatingSecret):
    """An address to which the events of an owner's requests are sent. An empty ``project_id`` stands for all projects.

    ``failing_since`` is the first failure since the last delivery that succeeded. An endpoint that was disabled by
    the deliverer or by staff, not by its owner, has a ``disabled_reason``.
    """

    id = models.CharField(primary_key=True, max_length=64, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="generation_webhooks", db_index=False
    )
    url = models.CharField(max_length=MAX_WEBHOOK_URL)
    events = models.JSONField(default=list)
    project_id = models.CharField(max_length=255, blank=True, default="")
    description = models.CharField(max_length=200, blank=True, default="")
    enabled = models.BooleanField(default=True)
    disabled_reason = models.CharField(max_length=16, choices=DisabledReason.choices, blank=True, default="")
    failing_since = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "generation_webhook_endpoints"
        verbose_name = "webhook endpoint"
        ordering: ClassVar = ["-id"]
        # Also for the trigger that runs at every status change.
        indexes: ClassVar = [models.Index(fields=["owner", "id"], name="webhook_endpoint_owner")]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(disabled_reason="") | Q(disabled_reason__in=DisabledReason.values, enabled=False),
                name="webhook_endpoint_reason_if_disabled",
            )
        ]

    def __str__(self) -> str:
        return self.id


class WebhookSecret(RotatingSecret):
    """The secret that signs the deliveries of an owner's single requests and batches."""

    owner = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="generation_webhook_secret"
    )

    class Meta:
        db_table = "generation_webhook_secrets"
        verbose_name = "default webhook secret"

    def __str__(self) -> str:
        return f"default webhook secret of {self.owner}"


class WebhookEvent(models.Model):
    """An event that may concern webhooks, written by a trigger in the transaction of the status change. The fan-out
    deletes it. ``snapshot`` has the columns of the request that later changes overwrite."""

    request_id = models.CharField(max_length=64)
    sequence = models.PositiveIntegerField()
    event = models.CharField(max_length=32, choices=WebhookEventType.choices)
    snapshot: Any = models.JSONField()
    at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "generation_webhook_events"

    def __str__(self) -> str:
        return f"{self.event} of {self.request_id} #{self.sequence}"


class WebhookDelivery(models.Model):
    """One event for one target: an endpoint, or the address that came with a request or batch.

    ``target`` groups deliveries that share limits and a circuit breaker: the endpoint's id, or owner and host. The
    request may have been deleted, so there is no foreign key. ``claim`` is the fencing token of a deliverer, which has
    the row until ``leased_until``. While it is leased, ``next_attempt_at`` is the end of the lease. ``tries`` counts
    the attempts since it was queued; ``attempts`` is the log of the newest ones.
    """

    id = models.CharField(primary_key=True, max_length=64, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", editable=False, db_index=False
    )
    endpoint = models.ForeignKey(
        WebhookEndpoint,
        on_delete=models.CASCADE,
        null=True,
        related_name="deliveries",
        editable=False,
        db_index=False,
    )
    target = models.CharField(max_length=300)
    host = models.CharField(max_length=255)
    url = models.CharField(max_length=MAX_WEBHOOK_URL)
    event = models.CharField(max_length=32, choices=WebhookEventType.choices)
    request_id = models.CharField(max_length=64, blank=True, default="")
    batch_id = models.CharField(max_length=64, blank=True, default="")
    sequence = models.BigIntegerField(default=0)
    snapshot: Any = models.JSONField()
    state = models.CharField(max_length=16, choices=DeliveryState.choices, default=DeliveryState.PENDING)
    tries = models.PositiveSmallIntegerField(default=0, db_default=0)
    attempts: Any = models.JSONField(default=list, db_default=Value([], output_field=models.JSONField()))
    next_attempt_at = models.DateTimeField(null=True)
    leased_until = models.DateTimeField(null=True, editable=False)
    claim = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    #: A pending delivery fails at this time.
    expires_at = models.DateTimeField()
    #: When the event occurred, and when the row was made.
    occurred_at = models.DateTimeField(db_default=Now())
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    #: Of an event that two processes may see: the batch with the sum of its sequences.
    unique_key = models.CharField(max_length=400, null=True, editable=False)

    class Meta:
        db_table = "generation_webhook_deliveries"
        verbose_name = "webhook delivery"
        verbose_name_plural = "webhook deliveries"
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [
            # The lists of an endpoint and of an owner, by state as well, and the deliveries of a request.
            models.Index(fields=["endpoint", "state", "id"], name="webhook_delivery_state"),
            models.Index(fields=["endpoint", "id"], name="webhook_delivery_endpoint"),
            models.Index(fields=["owner", "id"], name="webhook_delivery_owner"),
            models.Index(fields=["owner", "id"], name="webhook_delivery_call", condition=Q(endpoint=None)),
            models.Index(fields=["request_id", "id"], name="webhook_delivery_request", condition=~Q(request_id="")),
            # For the deliverer, which steps from target to target: a target with many rows costs as much as one.
            models.Index(
                fields=["target", "next_attempt_at"],
                name="webhook_delivery_due",
                condition=Q(state=DeliveryState.PENDING),
            ),
            models.Index(
                fields=["leased_until"], name="webhook_delivery_leased", condition=Q(leased_until__isnull=False)
            ),
            models.Index(
                fields=["expires_at"], name="webhook_delivery_expiry", condition=Q(state=DeliveryState.PENDING)
            ),
            # For the staff's list, in which few are not delivered.
            models.Index(
                fields=["state", "id"], name="webhook_delivery_trouble", condition=~Q(state=DeliveryState.DELIVERED)
            ),
            # For pruning.
            models.Index(fields=["created_at"], name="webhook_delivery_age"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["unique_key"], name="webhook_delivery_once"),
            is_one_of("webhook_delivery_state_known", "state", DeliveryState),
            models.CheckConstraint(
                condition=Q(state=DeliveryState.PENDING, next_attempt_at__isnull=False)
                | (~Q(state=DeliveryState.PENDING) & Q(next_attempt_at__isnull=True) & Q(leased_until__isnull=True)),
                name="webhook_delivery_due_iff_pending",
            ),
        ]

    def __str__(self) -> str:
        return self.id
