"""The decision about the image of a completed request: approved, rejected, or neither.

Of a page of a project, at most one image of an owner is approved. Approving one takes back the approval of another. The
status and its sequence stay as they are.
"""

from __future__ import annotations

import hashlib
from typing import Final

from django.db import connection, transaction
from django.db.models import Q, QuerySet

from generation.db import queries
from generation.db.execution import execute
from generation.models import GenerationRequest
from generation.states import Approval, Status

#: The first half of the advisory lock of a page; no other lock has it.
_LOCK: Final = 771_202


class NotCompletedError(Exception):
    """The request has no image to decide about."""


def decide(request: GenerationRequest, *, approval: str, note: str) -> None:
    """Set the decision and its note; an empty ``approval`` takes an earlier decision back. Raises
    :class:`NotCompletedError`.

    Locks the requests in the order of their ids, as the lifecycle does. Two approvals of one page wait for each other
    before that: neither sees the other's row, which is not committed.
    """
    with transaction.atomic():
        rows = GenerationRequest.objects.filter(pk=request.pk)
        if approval == Approval.APPROVED and request.page_id:
            _lock_page(request)
            rows |= _approved_on_page(request)
        locked = list(rows.select_for_update().order_by("pk").only("status", "approval"))
        own = next((row for row in locked if row.pk == request.pk), None)
        if own is None or own.status != Status.COMPLETED:
            raise NotCompletedError
        others = [row.pk for row in locked if row.pk != request.pk]
        # First, since the index allows one approved row at any time.
        GenerationRequest.objects.filter(pk__in=others).update(approval="", approval_note="")
        GenerationRequest.objects.filter(pk=request.pk).update(approval=approval, approval_note=note)
        if approval == Approval.APPROVED != own.approval:  # a repeated call is no event
            execute(queries.NOTE_APPROVAL, {"request": request.pk})
    request.approval, request.approval_note = approval, note


def _approved_on_page(request: GenerationRequest) -> QuerySet[GenerationRequest]:
    page = Q(owner=request.owner_id, project_id=request.project_id, page_id=request.page_id)
    return GenerationRequest.objects.filter(page, approval=Approval.APPROVED)


def _lock_page(request: GenerationRequest) -> None:
    page = repr((request.owner_id, request.project_id, request.page_id))
    number = int.from_bytes(hashlib.sha256(page.encode()).digest()[:4], signed=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [_LOCK, number])
