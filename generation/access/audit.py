"""The audit log: user, action, object, time and address, as rows of Django's ``LogEntry``."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Any

from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model

from generation.models import GenerationRequest

logger = logging.getLogger(__name__)

__all__ = ["ADDITION", "CHANGE", "DELETION", "of", "record", "record_requests", "refused"]

_REPR_LENGTH = 200


def _message(what: str, address: str) -> str:
    return f"{what}, from {address}" if address else what


def _write(user_id: int, model: type[Model], rows: Sequence[tuple[Any, str]], message: str, flag: int) -> None:
    kind = ContentType.objects.get_for_model(model)
    LogEntry.objects.bulk_create(
        LogEntry(
            user_id=user_id,
            content_type=kind,
            object_id=key,
            object_repr=shown[:_REPR_LENGTH],
            action_flag=flag,
            change_message=message,
        )
        for key, shown in rows
    )


def record(user: User, thing: Model, what: str, *, address: str, flag: int = CHANGE) -> None:
    """Record that the user has done this to one object."""
    _write(user.pk, thing._meta.model, [(str(thing.pk), str(thing))], _message(what, address), flag)


def record_requests(user: User, request_ids: Collection[str], what: str, *, address: str) -> None:
    """Record that the user has done this to these requests."""
    _write(user.pk, GenerationRequest, [(pk, pk) for pk in request_ids], _message(what, address), CHANGE)


def refused(user: User, what: str, *, address: str) -> None:
    """Log and record an action that was refused for want of a permission."""
    logger.warning(
        "refused: %s by %s", what, user.get_username(), extra={"action": "refused", "user": user.pk, "address": address}
    )
    if user.pk:
        message = _message(f"Refused for want of a permission: {what}", address)
        _write(user.pk, User, [(str(user.pk), user.get_username())], message, CHANGE)


def of(thing: Model) -> list[LogEntry]:
    """Return the newest 100 entries about the object, newest first."""
    kind = ContentType.objects.get_for_model(thing._meta.model)
    rows = LogEntry.objects.filter(content_type=kind, object_id=str(thing.pk)).select_related("user")
    return list(rows.order_by("-pk")[:100])


def of_kind(model: type[Model]) -> list[LogEntry]:
    """Return the newest 30 entries about objects of this model, deleted ones included, newest first."""
    kind = ContentType.objects.get_for_model(model)
    return list(LogEntry.objects.filter(content_type=kind).select_related("user").order_by("-pk")[:30])
