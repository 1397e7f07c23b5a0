"""A status change → everybody who watches, after the commit. Losing one harms nobody: who subscribes gets the state."""

from __future__ import annotations

import hashlib
import logging
from typing import Any, Final

from channels.layers import get_channel_layer
from django.db import transaction

from generation import background, representations
from generation.models import GenerationRequest
from generation.states import Status

logger = logging.getLogger(__name__)

#: Updates that wait for a slow Redis; past this they are dropped, since a transition must not wait for its audience.
_MOST_PENDING: Final = 10_000
_pending = 0
#: The Channels group of the workers, who get the updates of requests that were cancelled.
CANCELLATIONS: Final = "cancellations"


def request_group(request_id: str) -> str:
    """The Channels group of those who watch one request."""
    return f"request.{request_id}"


def batch_group(batch_id: str) -> str:
    """The Channels group of those who watch a batch."""
    return f"batch.{batch_id}"


def project_group(owner_id: int, project_id: str) -> str:
    """The Channels group of those who watch a project of one owner; hashed, since the name is the client's."""
    return f"project.{owner_id}.{hashlib.sha256(project_id.encode()).hexdigest()[:32]}"


def announce(request: GenerationRequest) -> None:
    """Send the request's present state once the transaction commits."""
    if groups := _groups(request):
        transaction.on_commit(lambda: _publish(request, groups), robust=True)


def _groups(request: GenerationRequest) -> list[str]:
    """Who may be watching."""
    groups = []
    if request.sequence > 1:  # before, nobody knows the ids
        groups.append(request_group(request.pk))
        if request.batch_id:
            groups.append(batch_group(request.batch_id))
    if request.project_id:
        groups.append(project_group(request.owner_id, request.project_id))
    if request.status == Status.CANCELLED:
        groups.append(CANCELLATIONS)  # whichever worker is at it breaks off
    return groups


def _publish(request: GenerationRequest, groups: list[str]) -> None:
    global _pending
    if _pending >= _MOST_PENDING:
        logger.warning("update of %s dropped: %d are waiting", request.pk, _pending)
        return
    _pending += 1
    message = {"type": "request.update", "requestId": request.pk, "data": representations.status(request)}
    background.loop.submit(_send(groups, message))


async def _send(groups: list[str], message: dict[str, Any]) -> None:
    global _pending
    try:
        layer = get_channel_layer()
        assert layer is not None  # noqa: S101  CHANNEL_LAYERS has a default
        for group in groups:
            await layer.group_send(group, message)
    except Exception as error:  # whatever the layer's client raises, the state in the database stands
        logger.warning("update of %s not sent: %s", message["requestId"], error)
    finally:
        _pending -= 1
