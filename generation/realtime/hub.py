"""The one place in a process where updates come in and from which they go to those who watch.

The channel layer may lose a message: it drops the newest when a process is behind, and everything while Redis is away.
So the hub looks every ``REALTIME_RESYNC_MS`` for what changed and did not come, and sends that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, NamedTuple

from cachetools import LRUCache
from channels.layers import get_channel_layer
from django.conf import settings
from django.db.models import Max

from generation.models import GenerationRequest, StatusChange
from generation.realtime.authentication import in_database, revoked
from generation.realtime.client import CloseCode, Listener
from generation.realtime.replay import OVERTAKEN
from generation.realtime.topics import Key, Snapshot, Topic, key_for, keys_of, snapshot
from generation.requests import events
from generation.requests.events import Update

logger = logging.getLogger(__name__)

#: Seconds before Redis is tried again.
_PAUSE: Final = 1
#: Requests of which it is remembered how far they were told.
_REMEMBERED: Final = 50_000
#: Changes that are looked through at once: a usual round is one page.
_PAGE: Final = 2_000
#: Lost updates that are read at once.
_CHUNK: Final = 500


class _PendingSubscriber:
    """Takes what comes while it is not known yet who may see it."""

    def __init__(self) -> None:
        self.updates: list[Update] = []

    def deliver(self, update: Update) -> None:
        self.updates.append(update)


class Hub:
    """Knows every client of the process. Belongs to the event loop on which it was first used."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()
        self._watching: dict[Key, set[Listener | _PendingSubscriber]] = {}
        self._told: LRUCache[str, int] = LRUCache(_REMEMBERED)
        self._marks: deque[int] = deque(maxlen=2)
        self._tasks: list[asyncio.Task[None]] = []

    def join(self, listener: Listener) -> None:
        """From now on the client is looked after. The first one starts the hub."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._receive()), asyncio.create_task(self._look_after())]
        self._listeners.add(listener)

    def leave(self, listener: Listener) -> None:
        """It is gone."""
        self._listeners.discard(listener)
        for key in list(listener.keys):
            self._unwatch(listener, key)
        listener.sign_out()

    async def watch(self, listener: Listener, target: Topic, welcome: Callable[[Snapshot], str]) -> bool:
        """Send the client the welcome with the state now, and then every change. ``False`` for what is not there, or
        not for its user. Raises :class:`django.db.Error`."""
        assert listener.identity is not None  # noqa: S101  the caller has asked
        user = listener.identity.user
        key = key_for(user, target)
        # What changes during the look is kept, so that it is not missed; it is not sent before the look has told that
        # the user may see it.
        held = _PendingSubscriber()
        self._add(held, key)
        try:
            found: Snapshot | None = await snapshot(user, target)
        finally:
            self._drop(held, key)
        if found is None:
            return False
        if listener in self._listeners:  # else it has gone meanwhile
            self._add(listener, key)
            listener.keys.add(key)
            for request_id, sequence in found.sequences.items():
                listener.note(request_id, sequence)
            listener.outbox.put(welcome(found))
            for update in held.updates:
                listener.deliver(update)
        return True

    def watches(self, listener: Listener, target: Topic) -> bool:
        """Whether it is told of this already."""
        return listener.identity is not None and key_for(listener.identity.user, target) in listener.keys

    def unwatch(self, listener: Listener, target: Topic) -> None:
        """Send it nothing more of this, unless it watches something else that the update belongs to."""
        if listener.identity is not None:
            self._unwatch(listener, key_for(listener.identity.user, target))

    def deliver(self, update: Update) -> None:
        """Send the update to all who watch, unless it or a later one was."""
        listeners = self._audience(keys_of(update))
        if listeners and update.sequence > self._told.get(update.request_id, 0):
            self._told[update.request_id] = update.sequence
            for listener in listeners:
                listener.deliver(update)

    def _audience(self, keys: Iterable[Key]) -> set[Listener | _PendingSubscriber]:
        return {listener for key in keys for listener in self._watching.get(key, ())}

    def _add(self, listener: Listener | _PendingSubscriber, key: Key) -> None:
        self._watching.setdefault(key, set()).add(listener)

    def _unwatch(self, listener: Listener, key: Key) -> None:
        listener.keys.discard(key)
        self._drop(listener, key)

    def _drop(self, listener: Listener | _PendingSubscriber, key: Key) -> None:
        watching = self._watching.get(key, set())
        watching.discard(listener)
        if not watching:
            self._watching.pop(key, None)

    async def _receive(self) -> None:
        """Take in what the channel layer brings."""
        layer = get_channel_layer()
        assert layer is not None  # noqa: S101  CHANNEL_LAYERS has a default
        while True:
            try:
                channel = await layer.new_channel()
                await layer.group_add(events.UPDATES, channel)
                while True:
                    for update in _updates_in(await events.next_message(layer, channel)):
                        self.deliver(update)
            except Exception as error:  # whatever the layer's client raises, it is tried again
                logger.warning("no live updates from Redis at the moment: %s", error)
                # Else the layer would go on filling a channel that nobody takes from any more.
                with contextlib.suppress(Exception):
                    await layer.flush()
                await asyncio.sleep(_PAUSE)

    async def _look_after(self) -> None:
        """Send what was lost, and end what may not or need not go on."""
        while True:
            for step in (self._send_lost, self._end_revoked, self._end_idle):
                try:
                    await step()
                except Exception as error:  # the next round makes up for it
                    logger.warning("live updates were not looked after: %s", error)
            await asyncio.sleep(settings.REALTIME_RESYNC.total_seconds())

    async def _send_lost(self) -> None:
        since, newest = self._marks[0] if self._marks else None, await _newest_change()
        if self._watching:
            while since is not None:
                since, changed = await _changed_after(since)
                lost = [one.request_id for one in changed if self._is_news(one)]
                for start in range(0, len(lost), _CHUNK):
                    for update in await _updates_of(lost[start : start + _CHUNK]):
                        self.deliver(update)
        # Only now: what this round did not see, the next one does.
        self._marks.append(newest)

    def _is_news(self, place: _Place) -> bool:
        return place.sequence > self._told.get(place.request_id, 0) and bool(self._audience(keys_of(place)))

    async def _end_revoked(self) -> None:
        signed_in = [(one, one.identity) for one in self._listeners if one.identity]
        ended = set(map(id, await revoked([identity for _, identity in signed_in])))
        for listener, identity in signed_in:
            if id(identity) in ended and listener.identity is identity:
                listener.outbox.close(CloseCode.NOT_AUTHENTICATED)

    async def _end_idle(self) -> None:
        long_ago = time.monotonic() - settings.REALTIME_IDLE.total_seconds()
        for listener in self._listeners:
            if not listener.keys and listener.heard_at < long_ago:
                listener.outbox.close(CloseCode.IDLE)


def _updates_in(message: dict[str, Any]) -> list[Update]:
    """What was sent, or nothing where it is of another version, as while one is being replaced by the next."""
    try:
        return [Update(**update) for update in message["updates"]]
    except (KeyError, TypeError) as error:
        logger.warning("updates that are not understood were left out: %s", error)
        return []


class _Place(NamedTuple):
    """How far a request has come, and to whom it belongs."""

    request_id: str
    batch_id: str | None
    owner_id: int
    project_id: str
    sequence: int


@in_database
def _newest_change() -> int:
    """The number up to which changes are known; some below it may still be under way."""
    newest: int = StatusChange.objects.aggregate(newest=Max("pk"))["newest"] or 0
    return newest - OVERTAKEN


@in_database
def _changed_after(number: int) -> tuple[int | None, list[_Place]]:
    """Return the requests of the next page of changes, each once, and the number after which the following page begins,
    ``None`` at the end. The pages are for all who watch: what changes within two rounds is less than what could be
    watched."""
    fields = (f"request__{name}" for name in ("id", "batch_id", "owner_id", "project_id", "sequence"))
    page = list(StatusChange.objects.filter(pk__gt=number).order_by("pk").values_list("pk", *fields)[:_PAGE])
    following = page[-1][0] if len(page) == _PAGE else None
    return following, [_Place(*row) for row in dict.fromkeys(row[1:] for row in page)]


@in_database
def _updates_of(request_ids: Collection[str]) -> list[Update]:
    return [events.update_of(request) for request in GenerationRequest.objects.filter(pk__in=request_ids)]


#: The hub of this process.
hub = Hub()
