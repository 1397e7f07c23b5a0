"""What becomes of a request: its place in the queue, its attempts, its history."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from generation.db.functions import Now
from generation.models.constraints import is_one_of
from generation.models.requests import GenerationRequest
from generation.states import RETRY_WEIGHT, TRANSITIONS, WEIGHTS, AttemptOutcome, ErrorCode, Reason, Status


class GenerationQueue(models.Model):
    """The ledger: a row exists exactly while its request is queued. Messages are sent from it and may be lost.

    ``available_at`` is when it may start, ``dispatched_at`` when it was last sent, and ``redispatch_at`` when the
    message counts as lost. What is ``held`` waits for a place in its batch and is not sent. ``weight_since`` is when
    it came to its present weight. ``waits_for`` is what makes it available earlier: the end of a request whose picture
    it hopes to share, or of a provider's trouble.
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

    #: How many came before it when it was written, as far as that was counted.
    ahead: int | None = None

    class Meta:
        db_table = "generation_queue"
        verbose_name_plural = "generation queue"
        indexes: ClassVar = [
            # The order of the queue: what is to be sent next, and how many are ahead. It has no condition on what was
            # sent, so that sending a row does not touch an index.
            models.Index(F("priority_weight").desc(), F("queued_at"), name="queue_order"),
            models.Index(fields=["available_at"], name="queue_held", condition=Q(held=True)),
            # Who has waited so long at its weight that it moves up a step.
            models.Index(fields=["priority_weight", "weight_since"], name="queue_waiting_long"),
            models.Index(fields=["waits_for"], name="queue_waits_for", condition=~Q(waits_for="")),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(priority_weight__range=(RETRY_WEIGHT, max(WEIGHTS.values()))), name="queue_weight_in_range"
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
    """One claim of a request and what came of it. The row is opened by the claim and closed by the next transition."""

    # The constraint on the request and the claim has the index.
    request = models.ForeignKey(GenerationRequest, on_delete=models.CASCADE, related_name="attempt_log", db_index=False)
    claim = models.PositiveIntegerField()
    number = models.PositiveSmallIntegerField()
    worker = models.CharField(max_length=255)
    provider = models.CharField(max_length=32, blank=True, default="")
    model = models.CharField(max_length=255, blank=True, default="")
    prompt = models.TextField(blank=True, default="")
    provider_request_id = models.CharField(max_length=255, blank=True, default="")
    #: When the provider was called, until when it may be at it, and whether that call costs money.
    call_started_at = models.DateTimeField(null=True)
    call_deadline_at = models.DateTimeField(null=True)
    billable = models.BooleanField(default=True)
    #: What the provider counted, and what that costs in US dollars; ``None`` where it is not known.
    usage = models.JSONField(default=dict)
    cost = models.DecimalField(max_digits=12, decimal_places=6, null=True)
    #: In US dollars: the price that was expected when the call began, and what was added to the owner's spending.
    estimated_cost = models.DecimalField(max_digits=12, decimal_places=6, null=True)
    booked_cost = models.DecimalField(max_digits=12, decimal_places=6, null=True)
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
            # The calls that may still be under way, also those of lost workers: they take up the provider's places.
            models.Index(
                fields=["provider", "call_deadline_at"],
                name="attempt_calls_under_way",
                condition=Q(call_deadline_at__isnull=False),
            ),
            # For staff: whose requests a provider had, and the request that the provider knows by this id.
            models.Index(fields=["provider", "request"], name="attempt_provider", condition=~Q(provider="")),
            models.Index(
                fields=["provider_request_id"], name="attempt_provider_request", condition=~Q(provider_request_id="")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.request_id} claim {self.claim}"


class StatusChange(models.Model):
    """One transition of a request, written in the same transaction: the history that everything else is told from."""

    # The constraint on the request and the sequence has the index, and nobody asks for what one person did.
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
