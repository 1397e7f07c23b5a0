"""The hub of a process: receives updates from the channel layer and sends them to the subscribed clients.

The channel layer may lose messages: it drops the newest when a process is behind, and all while Redis is unavailable.
So every ``REALTIME_RESYNC_MS`` the hub reads the changes that it did not receive from the database, and sends them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, NamedTuple, Protocol

from cachetools import LRUCache
from channels.layers import get_channel_layer
from django.conf import settings
from django.db.models import Max

from generation.models import GenerationRequest, StatusChange
from generation.realtime.authentication import in_database, revoked
from generation.realtime.client import CloseCode, Listener
from generation.realtime.replay import MAX_COMMIT_LAG
from generation.realtime.topics import Key, Snapshot, Topic, key_for, keys_of, snapshot
from generation.requests import events
from generation.requests.events import Preview, Update

logger = logging.getLogger(__name__)

#: Seconds before a retry after an error of Redis.
_RETRY_DELAY: Final = 1
#: Maximum number of requests whose last delivered sequence is stored.
_MAX_SEQUENCES: Final = 50_000
#: Changes per query of a resync round; a usual round is one page.
_PAGE: Final = 2_000
#: Lost updates per query.
_CHUNK: Final = 500


class Subscriber(Protocol):
    """Receives updates."""

    def deliver(self, update: Update) -> None:
        """Receive an update. It may come twice, and an older one after a newer one."""

    def show(self, preview: Preview) -> None:
        """Receive a preview, which may be dropped."""


class _PendingSubscriber:
    """Collects the updates of a topic until it is known whether the user may see it."""

    def __init__(self) -> None:
        self.updates: list[Update] = []

    def deliver(self, update: Update) -> None:
        self.updates.append(update)

    def show(self, preview: Preview) -> None:
        """Drop the preview: the state that the query returns has the newest."""


class Hub:
    """All clients of the process and their subscriptions. Belongs to the event loop on which it was first used."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()
        self._watching: dict[Key, set[Subscriber]] = {}
        self._delivered: LRUCache[str, int] = LRUCache(_MAX_SEQUENCES)
        self._marks: deque[int] = deque(maxlen=2)
        self._tasks: list[asyncio.Task[None]] = []

    def join(self, listener: Listener) -> None:
        """Add a client. The first one starts the hub's tasks."""
        self._start()
        self._listeners.add(listener)

    def _start(self) -> None:
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._receive()), asyncio.create_task(self._maintain())]

    def follow(self, subscriber: Subscriber, request_ids: Iterable[str]) -> None:
        """Deliver the updates of these requests, which the caller may see."""
        self._start()
        for request_id in request_ids:
            self._add(subscriber, (Topic("requestId", request_id), None))

    def unfollow(self, subscriber: Subscriber, request_ids: Iterable[str]) -> None:
        """Take back :meth:`follow`."""
        for request_id in request_ids:
            self._drop(subscriber, (Topic("requestId", request_id), None))

    def leave(self, listener: Listener) -> None:
        """Remove a disconnected client and its subscriptions."""
        self._listeners.discard(listener)
        for key in list(listener.keys):
            self._unwatch(listener, key)
        listener.sign_out()

    async def watch(self, listener: Listener, topic: Topic, welcome: Callable[[Snapshot], str]) -> bool:
        """Send the client the current state in a welcome message, and then every change.

        Returns False if the topic does not exist or its user may not see it. Raises :class:`django.db.Error`.
        """
        assert listener.identity is not None  # noqa: S101  the caller checks it
        user = listener.identity.user
        key = key_for(user, topic)
        # Collect the updates that arrive during the query, so that none is missed, and send them only after the query
        # has shown that the user may see the topic.
        pending = _PendingSubscriber()
        self._add(pending, key)
        try:
            state: Snapshot | None = await snapshot(user, topic)
        finally:
            self._drop(pending, key)
        if state is None:
            return False
        if listener in self._listeners:  # else it disconnected meanwhile
            self._add(listener, key)
            listener.keys.add(key)
            for request_id, sequence in state.sequences.items():
                listener.record(request_id, sequence)
            listener.send_queue.put(welcome(state))
            for update in pending.updates:
                listener.deliver(update)
        return True

    def watches(self, listener: Listener, topic: Topic) -> bool:
        """Return whether the client is subscribed to the topic."""
        return listener.identity is not None and key_for(listener.identity.user, topic) in listener.keys

    def unwatch(self, listener: Listener, topic: Topic) -> None:
        """Unsubscribe the client. It still gets updates that also belong to another topic of its subscriptions."""
        if listener.identity is not None:
            self._unwatch(listener, key_for(listener.identity.user, topic))

    def deliver(self, update: Update) -> None:
        """Send the update to all subscribers, unless it or a later one of the same request was sent before."""
        listeners = self._audience(keys_of(update))
        if listeners and update.sequence > self._delivered.get(update.request_id, 0):
            self._delivered[update.request_id] = update.sequence
            for listener in listeners:
                listener.deliver(update)

    def show(self, preview: Preview) -> None:
        """Send the preview to all subscribers."""
        for listener in self._audience(keys_of(preview)):
            listener.show(preview)

    def _audience(self, keys: Iterable[Key]) -> set[Subscriber]:
        return {listener for key in keys for listener in self._watching.get(key, ())}

    def _add(self, listener: Subscriber, key: Key) -> None:
        self._watching.setdefault(key, set()).add(listener)

    def _unwatch(self, listener: Listener, key: Key) -> None:
        listener.keys.discard(key)
        self._drop(listener, key)

    def _drop(self, listener: Subscriber, key: Key) -> None:
        watching = self._watching.get(key, set())
        watching.discard(listener)
        if not watching:
            self._watching.pop(key, None)

    async def _receive(self) -> None:
        """Deliver the updates that arrive from the channel layer, forever."""
        layer = get_channel_layer()
        assert layer is not None  # noqa: S101  CHANNEL_LAYERS has a default
        while True:
            try:
                channel = await layer.new_channel()
                await layer.group_add(events.UPDATES, channel)
                while True:
                    for update in _updates_in(await events.next_message(layer, channel)):
                        self.show(update) if isinstance(update, Preview) else self.deliver(update)
            except Exception as error:  # retry after any error of the layer's client
                logger.warning("no live updates from Redis at the moment: %s", error)
                # Otherwise the layer would keep filling a channel that has no reader any more.
                with contextlib.suppress(Exception):
                    await layer.flush()
                await asyncio.sleep(_RETRY_DELAY)

    async def _maintain(self) -> None:
        """Periodically send lost updates and close the connections that are revoked or idle."""
        while True:
            for step in (self._send_lost, self._end_revoked, self._end_idle):
                try:
                    await step()
                except Exception as error:  # the next round retries
                    logger.warning("maintenance of live updates failed: %s", error)
            await asyncio.sleep(settings.REALTIME_RESYNC.total_seconds())

    async def _send_lost(self) -> None:
        since, newest = self._marks[0] if self._marks else None, await _newest_change()
        if self._watching:
            while since is not None:
                since, changed = await _changed_after(since)
                lost = [state.request_id for state in changed if self._is_undelivered(state)]
                for start in range(0, len(lost), _CHUNK):
                    for update in await _updates_of(lost[start : start + _CHUNK]):
                        self.deliver(update)
        # Only after a complete round: if it failed, the next one starts from the same mark.
        self._marks.append(newest)

    def _is_undelivered(self, state: _RequestState) -> bool:
        return state.sequence > self._delivered.get(state.request_id, 0) and bool(self._audience(keys_of(state)))

    async def _end_revoked(self) -> None:
        signed_in = [(listener, listener.identity) for listener in self._listeners if listener.identity]
        ended = set(map(id, await revoked([identity for _, identity in signed_in])))
        for listener, identity in signed_in:
            if id(identity) in ended and listener.identity is identity:
                listener.send_queue.close(CloseCode.NOT_AUTHENTICATED)

    async def _end_idle(self) -> None:
        oldest = time.monotonic() - settings.REALTIME_IDLE.total_seconds()
        for listener in self._listeners:
            if not listener.keys and listener.heard_at < oldest:
                listener.send_queue.close(CloseCode.IDLE)


def _updates_in(message: dict[str, Any]) -> list[Update | Preview]:
    """Return the updates and previews of a message, or none if another version of this program sent it, as during a
    deployment."""
    try:
        return [Preview(**update) if "key" in update else Update(**update) for update in message["updates"]]
    except (KeyError, TypeError) as error:
        logger.warning("updates of an unknown format were skipped: %s", error)
        return []


class _RequestState(NamedTuple):
    """The latest sequence of a request, and the keys of its subscribers."""

    request_id: str
    batch_id: str | None
    owner_id: int
    project_id: str
    sequence: int


@in_database
def _newest_change() -> int:
    """Return the newest change's primary key minus the commit lag: lower keys may still be uncommitted."""
    newest: int = StatusChange.objects.aggregate(newest=Max("pk"))["newest"] or 0
    return newest - MAX_COMMIT_LAG


@in_database
def _changed_after(number: int) -> tuple[int | None, list[_RequestState]]:
    """Return the requests of the next page of changes, each once, and the key after which the following page begins.

    The key is None at the end. The query covers all subscriptions, since the changes within two rounds are fewer than
    the requests that may be subscribed to.
    """
    fields = (f"request__{name}" for name in ("id", "batch_id", "owner_id", "project_id", "sequence"))
    page = list(StatusChange.objects.filter(pk__gt=number).order_by("pk").values_list("pk", *fields)[:_PAGE])
    following = page[-1][0] if len(page) == _PAGE else None
    return following, [_RequestState(*row) for row in dict.fromkeys(row[1:] for row in page)]


@in_database
def _updates_of(request_ids: Collection[str]) -> list[Update]:
    return [events.update_of(request) for request in GenerationRequest.objects.filter(pk__in=request_ids)]


#: The hub of this process.
hub = Hub()
