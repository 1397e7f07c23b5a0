"""Publish status changes to the processes that serve live updates, after the commit.

An update may get lost: a subscriber gets the current state when it subscribes. All updates go to one Channels group,
which each serving process joins once. That process knows which socket subscribes to which request. So subscriptions
cost Redis nothing, and a change is sent once for any number of subscribers.
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
from generation.requests import input_images, representations
from generation.states import Status
from generation.storage import signed_urls

logger = logging.getLogger(__name__)

#: Maximum number of updates that wait for a slow Redis. Further ones are dropped, since a transition must not wait.
_MAX_PENDING: Final = 10_000
#: A message gets no further update once it has this number of updates, or of characters in their texts.
_MAX_UPDATES: Final = 100
_MAX_CHARACTERS: Final = 64 * 1024
#: The Channels group of the processes that serve live updates.
UPDATES: Final = "updates"
#: The Channels group of the workers. They receive cancelled requests, each with its newest claim, so that they cancel
#: the call of that claim and of no later one.
CANCELLATIONS: Final = "cancellations"


class Update(NamedTuple):
    """The new state of a request, with the ids by which permissions are checked. ``text`` is the complete message to
    clients, so that it is encoded once and not for each subscriber."""

    request_id: str
    batch_id: str | None
    owner_id: int
    project_id: str
    sequence: int
    text: str


class Preview(NamedTuple):
    """A preview of the image of a request in progress; its status stays. ``key`` is that of the file: the bytes
    themselves never pass through Redis."""

    request_id: str
    batch_id: str | None
    owner_id: int
    project_id: str
    number: int
    key: str
    width: int
    height: int
    text: str


def preview_of(request: GenerationRequest, *, index: int, key: str, width: int, height: int) -> Preview:
    """Return the message about a stored preview."""
    url = signed_urls.preview_url(request.pk, key)
    message = {"type": "preview", "requestId": request.pk, "index": index, "previewUrl": url}
    return Preview(
        request_id=request.pk,
        batch_id=request.batch_id,
        owner_id=request.owner_id,
        project_id=request.project_id,
        number=index,
        key=key,
        width=width,
        height=height,
        text=json.dumps(message),
    )


def update_of(request: GenerationRequest) -> Update:
    """Return the request's current state as an update."""
    message = {"type": "update", "requestId": request.pk, "data": representations.status(request)}
    return Update(
        request_id=request.pk,
        batch_id=request.batch_id,
        owner_id=request.owner_id,
        project_id=request.project_id,
        sequence=request.sequence,
        text=json.dumps(message),
    )


def message_of(updates: Sequence[Update | Preview]) -> dict[str, Any]:
    """Return the message with these updates and previews for the channel layer, in their order."""
    return {"type": "request.updates", "updates": [update._asdict() for update in updates]}


async def next_message(layer: Any, channel: str) -> Any:
    """Return the next readable message of the channel.

    Messages of an older version, or encrypted with another ``SECRET_KEY``, are unreadable. They are dropped here, since
    an exception would make the caller listen on a new channel while the old one fills up.
    """
    while True:
        try:
            return await layer.receive(channel)
        except (InvalidToken, ValueError) as error:
            logger.warning("an unreadable message was dropped: %r", error)


def announce(requests: Sequence[GenerationRequest]) -> None:
    """Publish the requests' current states once the transaction commits."""
    # A new request without a project has no subscriber yet: no client knows its id or that of its batch.
    announced = [request for request in requests if request.sequence > 1 or request.project_id]
    if announced:
        transaction.on_commit(lambda: _publish(announced), robust=True)


def announce_preview(preview: Preview) -> None:
    """Publish a preview. It keeps its place among the updates, so that it does not come after the end of the call."""
    _sender.put([(preview, 0)])


def _publish(requests: Sequence[GenerationRequest]) -> None:
    input_images.attach(requests)
    _sender.put([(update_of(request), _cancelled_claim(request)) for request in requests])


def _cancelled_claim(request: GenerationRequest) -> int:
    """Return the newest claim of a cancelled request, 0 if it has no claim or another status."""
    return request.claims if request.status == Status.CANCELLED else 0


class _Sender:
    """Sends updates to Redis, each with the number of the claim that it cancels or 0.

    Updates that arrive while a message is being sent go into the next one, since a message costs more than its content.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start with an empty queue: after a fork, the pending updates belong to the parent."""
        self._lock = threading.Lock()
        self._pending: deque[tuple[Update | Preview, int]] = deque()
        self._is_sending = False

    def put(self, updates: Sequence[tuple[Update | Preview, int]]) -> None:
        """Queue the updates to be sent. Does not block."""
        with self._lock:
            accepted = updates[: _MAX_PENDING - len(self._pending)]
            self._pending.extend(accepted)
            is_idle, self._is_sending = not self._is_sending, True
        if len(accepted) < len(updates):
            logger.warning("%d updates dropped: %d are waiting", len(updates) - len(accepted), _MAX_PENDING)
        if is_idle:
            try:
                event_loop.loop.submit(self._send())
            except BaseException:
                self._is_sending = False
                raise

    async def _send(self) -> None:
        try:
            while updates := self._next_updates():
                await _send_to_groups(updates)
        except BaseException:
            self._is_sending = False
            raise

    def _next_updates(self) -> list[tuple[Update | Preview, int]]:
        updates: list[tuple[Update | Preview, int]] = []
        characters = 0
        with self._lock:
            while self._pending and len(updates) < _MAX_UPDATES and characters < _MAX_CHARACTERS:
                updates.append(self._pending.popleft())
                characters += len(updates[-1][0].text)
            self._is_sending = bool(updates)
        return updates


async def _send_to_groups(updates: Sequence[tuple[Update | Preview, int]]) -> None:
    try:
        layer = get_channel_layer()
        assert layer is not None  # noqa: S101  CHANNEL_LAYERS has a default
        await layer.group_send(UPDATES, message_of([update for update, _ in updates]))
        if cancelled := {update.request_id: claim for update, claim in updates if claim}:
            await layer.group_send(CANCELLATIONS, {"type": "request.cancelled", "claims": cancelled})
    except Exception as error:  # the layer's client raises errors of many kinds; the state in the database is valid
        logger.warning("%d updates not sent: %s", len(updates), error)


_sender: Final = _Sender()
os.register_at_fork(after_in_child=_sender.reset)
