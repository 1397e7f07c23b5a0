"""The queue row, attempts and status changes of a request."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q, Value

from generation.db.functions import Now
from generation.models.constraints import is_one_of
from generation.models.requests import GenerationRequest
from generation.states import PARKED_WEIGHT, TRANSITIONS, WEIGHTS, AttemptOutcome, ErrorCode, Reason, Status


class GenerationQueue(models.Model):
    """A queue row. It exists exactly while its request is queued. Messages are sent for it and may be lost.

    ``available_at`` is when it may start, ``dispatched_at`` when its message was last sent, and ``redispatch_at`` when
    that message counts as lost. A ``held`` row waits for a slot in its batch and is not sent. A row with the weight
    ``PARKED_WEIGHT`` waits for its images; it is held, and ``available_at`` is when the dispatcher looks at it next.
    ``weight_since`` is when it got its present weight. ``waits_for`` names the event that makes it available earlier:
    the end of the request whose image it may share, or the name of a provider whose breaker closes.

    ``turn`` orders the rows of one weight, so that owners (or projects, or end users: ``fair_key``) take turns. A
    trigger numbers a row when it is inserted and when its weight changes. Rows without a ``fair_key`` have turn 0.
    """

    request = models.OneToOneField(
        GenerationRequest, on_delete=models.CASCADE, primary_key=True, related_name="queue_entry"
    )
    priority_weight = models.PositiveSmallIntegerField()
    queued_at = models.DateTimeField(db_default=Now())
    available_at = models.DateTimeField(db_default=Now())
    dispatched_at = models.DateTimeField(null=True)
    redispatch_at = models.DateTimeField(null=True)
    dispatch_count = models.PositiveIntegerField(default=0)
    held = models.BooleanField(default=False)
    weight_since = models.DateTimeField(db_default=Now())
    waits_for = models.CharField(max_length=64, blank=True, default="")
    fair_key = models.CharField(max_length=64, blank=True, default="", db_default="")
    turn = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        db_table = "generation_queue"
        verbose_name_plural = "generation queue"
        indexes: ClassVar = [
            # The order of the queue, for the number ahead. It has no condition on sent rows, so that sending a row
            # updates no index.
            models.Index(F("priority_weight").desc(), F("turn"), F("queued_at"), name="queue_turns"),
            # The rows that may start, for the next ones to send and for the first turn of a weight: a batch or an API
            # key with a limit may hold thousands in front of them.
            models.Index(
                F("priority_weight").desc(),
                F("turn"),
                F("queued_at"),
                name="queue_startable",
                condition=Q(held=False),
            ),
            # The last turn of an owner at each weight.
            models.Index(
                fields=["fair_key", "priority_weight", "turn"], name="queue_fair_key", condition=~Q(fair_key="")
            ),
            # The order of the version before, whose processes still run during an upgrade.
            models.Index(F("priority_weight").desc(), F("queued_at"), name="queue_order"),
            models.Index(
                fields=["available_at"],
                name="queue_held_due",
                condition=Q(held=True, priority_weight__gt=PARKED_WEIGHT),
            ),
            models.Index(fields=["available_at"], name="queue_parked", condition=Q(priority_weight=PARKED_WEIGHT)),
            # Rows that have waited so long at their weight that they are promoted.
            models.Index(fields=["priority_weight", "weight_since"], name="queue_waiting_long"),
            models.Index(fields=["waits_for"], name="queue_waits_for", condition=~Q(waits_for="")),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(priority_weight__range=(PARKED_WEIGHT, max(WEIGHTS.values()))), name="queue_weight_in_range"
            ),
            models.CheckConstraint(
                condition=Q(redispatch_at__isnull=True) | Q(dispatched_at__isnull=False),
                name="queue_overdue_only_if_sent",
            ),
            models.CheckConstraint(
                condition=Q(held=False) | Q(redispatch_at__isnull=True), name="queue_held_is_not_sent"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.request_id} at {self.priority_weight}"


class GenerationAttempt(models.Model):
    """One claim of a request with its outcome. The claim opens the row, and the next transition closes it."""

    # The constraint on the request and the claim has the index.
    request = models.ForeignKey(GenerationRequest, on_delete=models.CASCADE, related_name="attempt_log", db_index=False)
    claim = models.PositiveIntegerField()
    #: The key of the request, whose budget the cost counts against. Keys are never deleted before their requests.
    api_key_id = models.CharField(max_length=8, null=True)
    number = models.PositiveSmallIntegerField()
    worker = models.CharField(max_length=255)
    provider = models.CharField(max_length=32, blank=True, default="")
    model = models.CharField(max_length=255, blank=True, default="")
    prompt = models.TextField(blank=True, default="")
    #: The SHA-256 of each image that was sent, in their order.
    sent_images = models.JSONField(default=list, db_default=Value([], output_field=models.JSONField()))
    provider_request_id = models.CharField(max_length=255, blank=True, default="")
    #: When the provider was called, when its slot is free again at the latest, and whether the call costs money.
    call_started_at = models.DateTimeField(null=True)
    call_deadline_at = models.DateTimeField(null=True)
    billable = models.BooleanField(default=True)
    #: The usage that the provider reported, and its cost in US dollars; ``None`` if it is unknown.
    usage = models.JSONField(default=dict)
    cost = models.DecimalField(max_digits=12, decimal_places=6, null=True)
    #: In US dollars: the price expected when the call began, and the amount added to the owner's spending.
    estimated_cost = models.DecimalField(max_digits=12, decimal_places=6, null=True)
    booked_cost = models.DecimalField(max_digits=12, decimal_places=6, null=True)
    #: The key of the newest preview's file, which is deleted at the end of the attempt.
    preview = models.CharField(max_length=255, blank=True, default="", db_default="", editable=False)
    outcome = models.CharField(max_length=16, choices=AttemptOutcome.choices, default=AttemptOutcome.RUNNING)
    error_code = models.CharField(max_length=32, choices=ErrorCode.choices, blank=True, default="")
    error_message = models.TextField(blank=True, default="")
    started_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "generation_attempts"
        verbose_name = "attempt"
        ordering: ClassVar = ["request", "claim"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["request", "claim"], name="attempt_one_per_claim"),
            is_one_of("attempt_outcome_known", "outcome", AttemptOutcome),
            models.CheckConstraint(condition=Q(claim__gte=1, number__gte=1), name="attempt_counts_from_1"),
            models.CheckConstraint(
                condition=Q(outcome=AttemptOutcome.RUNNING, finished_at__isnull=True)
                | (~Q(outcome=AttemptOutcome.RUNNING) & Q(finished_at__isnull=False)),
                name="attempt_finished_iff_not_running",
            ),
            models.CheckConstraint(
                condition=Q(outcome=AttemptOutcome.FAILED, error_code__in=ErrorCode.values)
                | (~Q(outcome=AttemptOutcome.FAILED) & Q(error_code="")),
                name="attempt_error_iff_failed",
            ),
        ]
        indexes: ClassVar = [
            # Calls that may still run, also those of lost workers: they occupy slots of the provider.
            models.Index(
                fields=["provider", "call_deadline_at"],
                name="attempt_calls_under_way",
                condition=Q(call_deadline_at__isnull=False),
            ),
            # The spending of a key on one day. Attempts without a key are not in this index.
            models.Index(
                fields=["api_key_id", "finished_at"],
                name="attempt_key_cost",
                include=["booked_cost"],
                condition=Q(api_key_id__isnull=False),
            ),
            # For staff: the requests of a provider, and the request with this id at the provider.
            models.Index(fields=["provider", "request"], name="attempt_provider", condition=~Q(provider="")),
            models.Index(
                fields=["provider_request_id"], name="attempt_provider_request", condition=~Q(provider_request_id="")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.request_id} claim {self.claim}"


class StatusChange(models.Model):
    """One status change of a request, written in its transaction: the history for clients and statistics."""

    # The constraint on request and sequence has the index, and no query asks for the changes by one user.
    request = models.ForeignKey(
        GenerationRequest, on_delete=models.CASCADE, related_name="status_changes", db_index=False
    )
    sequence = models.PositiveIntegerField()
    from_status = models.CharField(max_length=16, choices=Status.choices, blank=True, default="")
    to_status = models.CharField(max_length=16, choices=Status.choices)
    reason = models.CharField(max_length=32, choices=Reason.choices)
    error_code = models.CharField(max_length=32, choices=ErrorCode.choices, blank=True, default="")
    claim = models.PositiveIntegerField(default=0)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", db_index=False
    )
    at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "generation_status_changes"
        ordering: ClassVar = ["request", "sequence"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["request", "sequence"], name="status_change_sequence_unique"),
            models.CheckConstraint(condition=Q(sequence__gte=1), name="status_change_sequence_from_1"),
            models.CheckConstraint(
                condition=Q(
                    *(
                        Q(from_status=edge.source or "", to_status=edge.target, reason=edge.reason)
                        for edge in TRANSITIONS
                    ),
                    _connector=Q.OR,
                ),
                name="status_change_legal",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.request_id} #{self.sequence}: {self.from_status or 'new'} → {self.to_status}"
