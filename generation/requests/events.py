"""A status change → everybody who watches, after the commit. Losing one harms nobody: who subscribes gets the state.

All updates go to one group, to which each process that serves live updates belongs once. Which socket wants which of
them is known there, so that watching costs Redis nothing, and a change is sent once however many watch it.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from channels.layers import get_channel_layer
from cryptography.fernet import InvalidToken
from django.db import transaction

from generation import event_loop
from generation.models import GenerationRequest
from generation.requests import representations
from generation.states import Status

logger = logging.getLogger(__name__)

#: Updates that wait for a slow Redis; past this they are dropped, since a transition must not wait for its audience.
_MOST_PENDING: Final = 10_000
#: Updates, and characters of their texts, past which a message takes no more.
_MOST_AT_ONCE: Final = 100
_MOST_CHARACTERS: Final = 64 * 1024
#: The Channels group of the processes that serve live updates.
UPDATES: Final = "updates"
#: The Channels group of the workers, which are told of cancelled requests, each with its newest claim, so that they
#: break off the call of that claim and of no later one.
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


def message_of(updates: Sequence[Update]) -> dict[str, Any]:
    """The updates as they go through the channel layer."""
    return {"type": "request.updates", "updates": [update._asdict() for update in updates]}


async def next_message(layer: Any, channel: str) -> Any:
    """Return the next message of the channel that can be read.

    Messages of an older version, or under another ``SECRET_KEY``, cannot be. They are dropped here, since an exception
    would make the caller listen on a new channel while the old one goes on filling.
    """
    while True:
        try:
            return await layer.receive(channel)
        except (InvalidToken, ValueError) as error:
            logger.warning("a message that cannot be read was dropped: %r", error)


def announce(requests: Sequence[GenerationRequest]) -> None:
    """Send the requests' present states once the transaction commits."""
    # Before, nobody knows the ids of the request and its batch.
    watched = [request for request in requests if request.sequence > 1 or request.project_id]
    if watched:
        transaction.on_commit(lambda: _publish(watched), robust=True)


def _publish(requests: Sequence[GenerationRequest]) -> None:
    _sender.put([(update_of(request), _cancelled_claim(request)) for request in requests])


def _cancelled_claim(request: GenerationRequest) -> int:
    """Return the newest claim of a cancelled request, 0 if it has no claim or another status."""
    return request.claims if request.status == Status.CANCELLED else 0


class _Sender:
    """Updates on their way to Redis, each with the claim that it cancels or 0. Updates that come while a message is
    under way go along in the next one: a message costs more than its content."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin with nothing: after a fork, what waits is the parent's."""
        self._lock = threading.Lock()
        self._pending: deque[tuple[Update, int]] = deque()
        self._is_sending = False

    def put(self, updates: Sequence[tuple[Update, int]]) -> None:
        """Send them soon. Waits for nobody."""
        with self._lock:
            admitted = updates[: _MOST_PENDING - len(self._pending)]
            self._pending.extend(admitted)
            begin, self._is_sending = not self._is_sending, True
        if len(admitted) < len(updates):
            logger.warning("%d updates dropped: %d are waiting", len(updates) - len(admitted), _MOST_PENDING)
        if begin:
            try:
                event_loop.loop.submit(self._send())
            except BaseException:
                self._is_sending = False
                raise

    async def _send(self) -> None:
        try:
            while some := self._take():
                await _to_groups(some)
        except BaseException:
            self._is_sending = False
            raise

    def _take(self) -> list[tuple[Update, int]]:
        some: list[tuple[Update, int]] = []
        characters = 0
        with self._lock:
            while self._pending and len(some) < _MOST_AT_ONCE and characters < _MOST_CHARACTERS:
                some.append(self._pending.popleft())
                characters += len(some[-1][0].text)
            self._is_sending = bool(some)
        return some


async def _to_groups(updates: Sequence[tuple[Update, int]]) -> None:
    try:
        layer = get_channel_layer()
        assert layer is not None  # noqa: S101  CHANNEL_LAYERS has a default
        await layer.group_send(UPDATES, message_of([update for update, _ in updates]))
        if cancelled := {update.request_id: claim for update, claim in updates if claim}:
            await layer.group_send(CANCELLATIONS, {"type": "request.cancelled", "claims": cancelled})
    except Exception as error:  # whatever the layer's client raises, the state in the database stands
        logger.warning("%d updates not sent: %s", len(updates), error)


_sender: Final = _Sender()
os.register_at_fork(after_in_child=_sender.forget)
