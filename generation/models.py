"""The tables. Constraints refuse rows that must not exist; the statuses are written by ``lifecycle`` alone."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from generation.clock import Now
from generation.states import (
    RETRY_WEIGHT,
    TERMINAL,
    TRANSITIONS,
    WEIGHTS,
    AttemptOutcome,
    ErrorCode,
    GenerationType,
    Priority,
    ProcessKind,
    Reason,
    Status,
    StyleScope,
)


def _is_one_of(name: str, field: str, choices: type[models.TextChoices]) -> models.CheckConstraint:
    return models.CheckConstraint(condition=Q(**{f"{field}__in": choices.values}), name=name)


class GenerationBatch(models.Model):
    """Requests that were submitted together. At most ``max_concurrent`` of them are in progress at once."""

    id = models.CharField(primary_key=True, max_length=64, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="generation_batches")
    priority = models.CharField(max_length=10, choices=Priority.choices, default=Priority.NORMAL)
    max_concurrent = models.PositiveSmallIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "generation_batches"
        verbose_name_plural = "generation batches"
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            _is_one_of("batch_priority_known", "priority", Priority),
            models.CheckConstraint(
                condition=Q(max_concurrent__isnull=True) | Q(max_concurrent__range=(1, 50)),
                name="batch_max_concurrent_1_to_50",
            ),
        ]

    def __str__(self) -> str:
        return self.id


class GenerationRequest(models.Model):
    """One picture that somebody wants, from submit to its end.

    ``claims`` counts every claim and is the fence: a worker may write only while its claim is the newest.
    ``attempts`` counts the tries that use up ``max_attempts``, ``waits`` how often it was told to wait instead.
    ``sequence`` numbers the status changes from 1.
    """

    id = models.CharField(primary_key=True, max_length=64, editable=False)
    # No index of their own for these two: those in Meta begin with them.
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="generation_requests", db_index=False
    )
    batch = models.ForeignKey(
        GenerationBatch, on_delete=models.PROTECT, null=True, blank=True, related_name="requests", db_index=False
    )
    type = models.CharField(max_length=32, choices=GenerationType.choices)
    prompt = models.TextField()
    priority = models.CharField(max_length=10, choices=Priority.choices, default=Priority.NORMAL)
    project_id = models.CharField(max_length=255, blank=True, default="")
    page_id = models.CharField(max_length=255, blank=True, default="")
    metadata = models.JSONField(default=dict, blank=True)

    status = models.CharField(max_length=16, choices=Status.choices, default=Status.QUEUED, editable=False)
    sequence = models.PositiveIntegerField(default=1, editable=False)
    claims = models.PositiveIntegerField(default=0, editable=False)
    attempts = models.PositiveSmallIntegerField(default=0, editable=False)
    max_attempts = models.PositiveSmallIntegerField(default=3)
    waits = models.PositiveSmallIntegerField(default=0, editable=False)
    lease_expires_at = models.DateTimeField(null=True, editable=False)
    worker = models.CharField(max_length=255, blank=True, default="", editable=False)

    result: Any = models.JSONField(null=True, editable=False)
    error: Any = models.JSONField(null=True, editable=False)

    created_at = models.DateTimeField(db_default=Now(), editable=False)
    started_at = models.DateTimeField(null=True, editable=False)
    completed_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        db_table = "generation_requests"
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [
            # Pages of a list, newest first: all of an owner, those in one status, and those of a project. The last one
            # is for staff as well, as PostgreSQL 18 can skip from owner to owner.
            models.Index(F("owner"), F("id").desc(), name="request_owner_newest"),
            models.Index(F("owner"), F("status"), F("id").desc(), name="request_owner_status"),
            models.Index(
                F("owner"), F("project_id"), F("id").desc(), name="request_project_newest", condition=~Q(project_id="")
            ),
            # A status for staff: one small index for each instead of one that begins with the status. Beside that one
            # PostgreSQL takes walking the primary key for cheaper, and then steps over all that is queued before it
            # comes to what is completed. A row is in one of them, so they cost as much as one.
            *(
                models.Index(
                    F("id").desc(), name=f"request_{status.replace('-', '_')}_newest", condition=Q(status=status)
                )
                for status in Status
            ),
            # Most requests are in no batch, and those cost nothing here.
            models.Index(F("batch"), F("id").desc(), name="request_batch", condition=Q(batch__isnull=False)),
            # The few that run: for leases, for what a batch has under way, and for the count of active requests.
            models.Index(fields=["lease_expires_at"], name="request_lease", condition=Q(status=Status.IN_PROGRESS)),
        ]
        constraints: ClassVar = [
            _is_one_of("request_status_known", "status", Status),
            _is_one_of("request_type_known", "type", GenerationType),
            _is_one_of("request_priority_known", "priority", Priority),
            models.CheckConstraint(condition=Q(max_attempts__range=(1, 10)), name="request_max_attempts_1_to_10"),
            models.CheckConstraint(
                condition=Q(attempts__lte=F("max_attempts")) & Q(attempts__lte=F("claims")),
                name="request_attempts_within_bounds",
            ),
            models.CheckConstraint(condition=Q(sequence__gte=1), name="request_sequence_from_1"),
            models.CheckConstraint(
                condition=Q(status=Status.COMPLETED, result__isnull=False)
                | (~Q(status=Status.COMPLETED) & Q(result__isnull=True)),
                name="request_result_iff_completed",
            ),
            models.CheckConstraint(
                condition=Q(status=Status.FAILED, error__isnull=False)
                | (~Q(status=Status.FAILED) & Q(error__isnull=True)),
                name="request_error_iff_failed",
            ),
            models.CheckConstraint(
                condition=Q(status__in=TERMINAL, completed_at__isnull=False)
                | (~Q(status__in=TERMINAL) & Q(completed_at__isnull=True)),
                name="request_completed_at_iff_terminal",
            ),
            models.CheckConstraint(
                condition=Q(
                    status=Status.IN_PROGRESS, lease_expires_at__isnull=False, started_at__isnull=False, claims__gte=1
                )
                | (~Q(status=Status.IN_PROGRESS) & Q(lease_expires_at__isnull=True)),
                name="request_lease_iff_in_progress",
            ),
            models.CheckConstraint(
                condition=~Q(status=Status.QUEUED) | Q(started_at__isnull=True), name="request_queued_not_started"
            ),
        ]

    def __str__(self) -> str:
        return self.id


class GenerationQueue(models.Model):
    """The ledger: a row exists exactly while its request is queued. Messages are sent from it and may be lost.

    ``available_at`` is when it may start, ``dispatched_at`` when it was last sent, and ``redispatch_at`` when the
    message counts as lost. What is ``held`` waits for a place in its batch and is not sent. ``weight_since`` is when
    it came to its present weight.
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
    outcome = models.CharField(max_length=16, choices=AttemptOutcome.choices, default=AttemptOutcome.RUNNING)
    error_code = models.CharField(max_length=32, choices=ErrorCode.choices, blank=True, default="")
    error_message = models.TextField(blank=True, default="")
    started_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "generation_attempts"
        ordering: ClassVar = ["request", "claim"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["request", "claim"], name="attempt_one_per_claim"),
            _is_one_of("attempt_outcome_known", "outcome", AttemptOutcome),
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


class IdempotencyKey(models.Model):
    """What was answered to a submit that carried this ``Idempotency-Key``, so that a repetition gets the same."""

    # The constraint on the owner and the key has the index.
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", db_index=False)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    answer = models.TextField(blank=True, default="")  # JSON as it was sent; jsonb would sort its names
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "generation_idempotency_keys"
        indexes: ClassVar = [models.Index(fields=["created_at"], name="idempotency_key_age")]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["owner", "key"], name="idempotency_key_unique_per_owner")
        ]

    def __str__(self) -> str:
        return self.key


class ProviderLimit(models.Model):
    """How many calls of a provider may be under way at once, over all workers. Without a row there is no limit."""

    provider = models.CharField(primary_key=True, max_length=32)
    max_concurrent = models.PositiveSmallIntegerField()

    class Meta:
        db_table = "generation_provider_limits"

    def __str__(self) -> str:
        return f"{self.provider}: {self.max_concurrent}"


class WorkerProcess(models.Model):
    """A worker or dispatcher that is up, by its last heartbeat: what readiness and capacity are told from."""

    name = models.CharField(primary_key=True, max_length=255)
    kind = models.CharField(max_length=16, choices=ProcessKind.choices, default=ProcessKind.WORKER)
    slots = models.PositiveSmallIntegerField()
    started_at = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "generation_workers"
        verbose_name_plural = "worker processes"

    def __str__(self) -> str:
        return self.name


class PromptStyle(models.Model):
    """A phrase that is added to the client's prompt: by the type of picture, or by ``metadata.imageStyle``."""

    scope = models.CharField(max_length=16, choices=StyleScope.choices)
    name = models.CharField(max_length=100)
    phrase = models.TextField()

    class Meta:
        db_table = "generation_prompt_styles"
        ordering: ClassVar = ["scope", "name"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["scope", "name"], name="prompt_style_unique"),
            _is_one_of("prompt_style_scope_known", "scope", StyleScope),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.name}"


class ProviderModel(models.Model):
    """What one model of a provider can do, as data, since models come and go about twice a year.

    ``sizes`` maps an aspect ratio such as ``1:1`` to ``[width, height]`` in pixels; ``capabilities`` lists the options
    of a request that the model honours.
    """

    provider = models.CharField(max_length=32)
    name = models.CharField(max_length=255)
    enabled = models.BooleanField(default=True)
    capabilities = models.JSONField(default=list, blank=True)
    sizes = models.JSONField(default=dict, blank=True)
    price_rule = models.JSONField(default=dict, blank=True)
    shutdown_date = models.DateField(null=True, blank=True)
    successor = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="predecessors")

    class Meta:
        db_table = "generation_provider_models"
        ordering: ClassVar = ["provider", "name"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["provider", "name"], name="provider_model_unique"),
            models.CheckConstraint(
                condition=Q(successor__isnull=True) | ~Q(successor=F("id")), name="provider_model_not_its_own_successor"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider}/{self.name}"
