"""Requests, batches of requests, and idempotency keys."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.fields.json import KT
from django.utils.functional import cached_property

from generation.db.functions import Now
from generation.models.access import ApiKey
from generation.models.constraints import is_one_of
from generation.models.options import GenerationOptions, Inputs
from generation.states import ACTIVE, TERMINAL, Approval, CancelReason, GenerationType, Priority, Status

_ACTIVE: Final = sorted(ACTIVE)
#: The longest address of a webhook.
MAX_WEBHOOK_URL: Final = 2048


class GenerationBatch(models.Model):
    """Requests that were submitted together. At most ``max_concurrent`` of them are in progress at once."""

    id = models.CharField(primary_key=True, max_length=64, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="generation_batches")
    priority = models.CharField(max_length=10, choices=Priority.choices, default=Priority.NORMAL)
    max_concurrent = models.PositiveSmallIntegerField("max. concurrent", null=True, blank=True)
    #: As of a request, for the events of the batch and of its requests.
    webhook_url = models.CharField(max_length=MAX_WEBHOOK_URL, blank=True, default="", db_default="", editable=False)
    webhook_events: Any = models.JSONField(null=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "generation_batches"
        verbose_name = "batch"
        verbose_name_plural = "batches"
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            is_one_of("batch_priority_known", "priority", Priority),
            models.CheckConstraint(
                condition=Q(max_concurrent__isnull=True) | Q(max_concurrent__range=(1, 50)),
                name="batch_max_concurrent_1_to_50",
            ),
        ]

    def __str__(self) -> str:
        return self.id


class GenerationRequest(models.Model):
    """A request for one image, from submit to its end.

    ``claims`` counts every claim and is the fence: a worker may write only while its claim is the newest.
    ``attempts`` counts the attempts that use up ``max_attempts``, ``waits`` the snoozes that do not.
    ``sequence`` numbers the status changes from 1.
    """

    id = models.CharField(primary_key=True, max_length=64, editable=False)
    # These two have no index of their own: indexes in Meta begin with them.
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
    #: Its index among the images that were submitted together for one prompt. A field of positive numbers has a check,
    #: which a migration would have to read the whole table for.
    variation = models.SmallIntegerField(default=0, db_default=0, editable=False)
    #: The images that are sent with the prompt, see :class:`generation.models.options.Inputs`; None for none.
    inputs: Any = models.JSONField(null=True, editable=False)
    # The key that submitted it, or that retried it last. Two indexes in Meta begin with it.
    api_key = models.ForeignKey(
        ApiKey, on_delete=models.PROTECT, null=True, blank=True, related_name="+", editable=False, db_index=False
    )
    #: It does not start before this time.
    not_before = models.DateTimeField(null=True, editable=False)
    #: The owner, project or end user with which others take turns; empty without fairness.
    fair_key = models.CharField(max_length=64, blank=True, default="", db_default="", editable=False)
    #: When it is cancelled if it has not ended.
    cancel_at = models.DateTimeField(null=True, editable=False)
    cancel_reason = models.CharField(
        max_length=16, choices=CancelReason.choices, blank=True, default="", db_default="", editable=False
    )

    status = models.CharField(max_length=16, choices=Status.choices, default=Status.QUEUED, editable=False)
    sequence = models.PositiveIntegerField(default=1, editable=False)
    claims = models.PositiveIntegerField(default=0, editable=False)
    attempts = models.PositiveSmallIntegerField(default=0, editable=False)
    max_attempts = models.PositiveSmallIntegerField(default=3)
    waits = models.PositiveSmallIntegerField(default=0, editable=False)
    lease_expires_at = models.DateTimeField(null=True, editable=False)
    worker = models.CharField(max_length=255, blank=True, default="", editable=False)

    #: The price in US dollars by the price rule of the model chosen at submit; for budgets.
    estimated_cost = models.DecimalField(max_digits=12, decimal_places=6, null=True, editable=False)

    #: The id of the API call that submitted it, for the log, and the span of that call.
    http_request_id = models.CharField(max_length=64, blank=True, default="", db_default="", editable=False)
    traceparent = models.CharField(max_length=64, blank=True, default="", db_default="", editable=False)

    #: The decision about the image, and the note of its maker; empty for none. See ``generation.requests.approval``.
    approval = models.CharField(
        max_length=8, choices=Approval.choices, blank=True, default="", db_default="", editable=False
    )
    approval_note = models.CharField(max_length=500, blank=True, default="", db_default="", editable=False)

    #: Where its events are sent besides its owner's endpoints, and which; empty for nowhere. A request of a batch has
    #: neither, since the batch has them.
    webhook_url = models.CharField(max_length=MAX_WEBHOOK_URL, blank=True, default="", db_default="", editable=False)
    webhook_events: Any = models.JSONField(null=True, editable=False)

    result: Any = models.JSONField(null=True, editable=False)
    error: Any = models.JSONField(null=True, editable=False)

    created_at = models.DateTimeField(db_default=Now(), editable=False)
    started_at = models.DateTimeField(null=True, editable=False)
    completed_at = models.DateTimeField(null=True, editable=False)

    #: The number of queue rows ahead when it was submitted, up to a bound; None if it was read from the database.
    ahead: int | None = None
    #: Its place in the turns of the queue, if it was just submitted.
    turn = 0
    #: Whether it waits for its images, if it was just queued.
    is_parked = False
    #: The images that are sent with it; None if they were not read.
    stored_images: Any = None

    class Meta:
        db_table = "generation_requests"
        verbose_name = "request"
        ordering: ClassVar = ["-id"]
        permissions: ClassVar = [
            ("cancel_generationrequest", "Can cancel any user's requests"),
            ("retry_generationrequest", "Can retry any user's requests"),
            ("requeue_generationrequest", "Can requeue queued requests"),
            ("prioritise_generationrequest", "Can change the priority of queued requests"),
            ("approve_generationrequest", "Can approve and reject any user's images"),
        ]
        indexes: ClassVar = [
            # Pages of a list, newest first: all of an owner, those in one status, and those of a project. The last one
            # is for staff as well, as PostgreSQL 18 can skip from owner to owner.
            models.Index(F("owner"), F("id").desc(), name="request_owner_newest"),
            models.Index(F("owner"), F("status"), F("id").desc(), name="request_owner_status"),
            models.Index(
                F("owner"), F("project_id"), F("id").desc(), name="request_project_newest", condition=~Q(project_id="")
            ),
            # The requests of a project in one status, for staff; with the owner at its end, also for its owners.
            models.Index(
                F("project_id"),
                F("status"),
                F("id").desc(),
                F("owner"),
                name="request_project_status",
                condition=~Q(project_id=""),
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
            # A type and a priority, for staff: a rare one would otherwise be searched in every row.
            models.Index(F("type"), F("id").desc(), name="request_type_newest"),
            models.Index(F("priority"), F("id").desc(), name="request_priority_newest"),
            # Failures with one error code, for staff; other requests are not in this index.
            models.Index(
                KT("error__code"), F("id").desc(), name="request_error_newest", condition=Q(status=Status.FAILED)
            ),
            # Most requests are in no batch, and are not in this index.
            models.Index(F("batch"), F("id").desc(), name="request_batch", condition=Q(batch__isnull=False)),
            # Approved or rejected requests, of an owner and for staff. Most requests are neither, and are not in these.
            models.Index(
                F("owner"), F("approval"), F("id").desc(), name="request_owner_approval", condition=~Q(approval="")
            ),
            models.Index(F("approval"), F("id").desc(), name="request_approval_newest", condition=~Q(approval="")),
            # Running requests: for leases, for the running requests of a batch, and for the number of active requests.
            models.Index(fields=["lease_expires_at"], name="request_lease", condition=Q(status=Status.IN_PROGRESS)),
            # Requests with a deadline, and what a key has under way. Others are not in these indexes.
            models.Index(
                fields=["cancel_at"], name="request_deadline", condition=Q(cancel_at__isnull=False, status__in=_ACTIVE)
            ),
            models.Index(
                fields=["api_key", "status"],
                name="request_key_active",
                condition=Q(api_key__isnull=False, status__in=_ACTIVE),
            ),
        ]
        constraints: ClassVar = [
            # A page of a project has at most one approved image.
            models.UniqueConstraint(
                fields=["owner", "project_id", "page_id"],
                name="request_one_approved_per_page",
                condition=Q(approval=Approval.APPROVED) & ~Q(page_id=""),
            ),
            is_one_of("request_status_known", "status", Status),
            is_one_of("request_type_known", "type", GenerationType),
            is_one_of("request_priority_known", "priority", Priority),
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
            models.CheckConstraint(
                condition=Q(cancel_reason__in=["", *CancelReason.values]), name="request_cancel_reason_known"
            ),
            models.CheckConstraint(
                condition=Q(approval="") | Q(approval__in=Approval.values, status=Status.COMPLETED),
                name="request_approval_of_completed",
            ),
        ]

    def __str__(self) -> str:
        return self.id

    @cached_property
    def options(self) -> GenerationOptions:
        """The options in ``metadata``, parsed once for each instance."""
        options = GenerationOptions.parse(self.metadata, prompt_length=len(self.prompt))
        return options if self.inputs is None else self.parsed_inputs.applied_to(options)

    @cached_property
    def parsed_inputs(self) -> Inputs:
        """The column ``inputs`` of a request that has any."""
        return Inputs.parse(self.inputs)


class IdempotencyKey(models.Model):
    """The stored answer to a call with this ``Idempotency-Key``, for its repetitions."""

    # The constraint on the owner and the key has the index.
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", db_index=False)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    answer = models.TextField(blank=True, default="")  # JSON as it was sent; jsonb would sort its keys
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "generation_idempotency_keys"
        indexes: ClassVar = [models.Index(fields=["created_at"], name="idempotency_key_age")]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["owner", "key"], name="idempotency_key_unique_per_owner")
        ]

    def __str__(self) -> str:
        return self.key
