"""A status change → everybody who watches, after the commit. Losing one harms nobody: who subscribes gets the state.

All updates go to one group, to which each process that serves live updates belongs once. Which socket wants which of
them is known there, so that watching costs Redis nothing, and a change is sent once however many watch it.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from channels.layers import get_channel_layer
from django.db import transaction

from generation import background, representations
from generation.models import GenerationRequest
from generation.states import Status

logger = logging.getLogger(__name__)

#: Updates that wait for a slow Redis; past this they are dropped, since a transition must not wait for its audience.
_MOST_PENDING: Final = 10_000
_room = threading.BoundedSemaphore(_MOST_PENDING)
#: The Channels group of the processes that serve live updates.
UPDATES: Final = "updates"
#: The Channels group of the workers, who get the updates of requests that were cancelled.
CANCELLATIONS: Final = "cancellations"


class Update(NamedTuple):
    """What a request has become, with what tells who may see it. ``text`` is the message to clients, ready to be sent:
    it is made once, and not once for each who gets it."""

    request_id: str
    batch_id: str | None
    owner_id: int
    project_id: str
    sequence: int
    text: str


def update_of(request: GenerationRequest) -> Update:
    """The request's present state."""
    message = {"type": "update", "requestId": request.pk, "data": representations.status(request)}
    return Update(
        request_id=request.pk,
        batch_id=request.batch_id,
        owner_id=request.owner_id,
        project_id=request.project_id,
        sequence=request.sequence,
        text=json.dumps(message),
    )


def message_of(update: Update) -> dict[str, Any]:
    """The update as it goes through the channel layer."""
    return {"type": "request.update", "requestId": update.request_id, "update": update._asdict()}


def announce(requests: Sequence[GenerationRequest]) -> None:
    """Send the requests' present states once the transaction commits."""
    watched = [(request, groups) for request in requests if (groups := _groups(request))]
    if watched:
        transaction.on_commit(lambda: _publish(watched), robust=True)


def _groups(request: GenerationRequest) -> list[str]:
    """Who may be watching."""
    groups = []
    if request.sequence > 1 or request.project_id:  # before, nobody knows the ids of the request and its batch
        groups.append(UPDATES)
    if request.status == Status.CANCELLED:
        groups.append(CANCELLATIONS)  # whichever worker is at it breaks off
    return groups


def _publish(watched: Sequence[tuple[GenerationRequest, list[str]]]) -> None:
    # One hop to the loop for all of them: it costs more than making the message.
    admitted = [one for one in watched if _room.acquire(blocking=False)]
    if len(admitted) < len(watched):
        logger.warning("%d updates dropped: %d are waiting", len(watched) - len(admitted), _MOST_PENDING)
    if not admitted:
        return
    try:
        messages = [(message_of(update_of(request)), groups) for request, groups in admitted]
        sending = background.loop.submit(_send(messages))
    except BaseException:
        _room.release(len(admitted))
        raise
    sending.add_done_callback(lambda _: _room.release(len(admitted)))


async def _send(messages: Sequence[tuple[dict[str, Any], list[str]]]) -> None:
    for message, groups in messages:
        try:
            layer = get_channel_layer()
            assert layer is not None  # noqa: S101  CHANNEL_LAYERS has a default
            for group in groups:
                await layer.group_send(group, message)
        except Exception as error:  # whatever the layer's client raises, the state in the database stands
            logger.warning("update of %s not sent: %s", message["requestId"], error)
