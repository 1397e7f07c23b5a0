"""Ledger → Celery message. The message carries the id alone and is a hint: the ledger knows what is queued.

Redis is kept shallow: of each queue only a window of messages waits there, so that a cancel, a promotion or an emptied
Redis concerns a few. What is past the window waits in the ledger and is sent as workers finish.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

from celery import current_app
from django.conf import settings
from django.db import transaction

from generation import event_loop
from generation.db import queries
from generation.db.execution import fetch_all
from generation.db.functions import Now
from generation.db.locks import locked_keys
from generation.models import GenerationQueue, GenerationRequest
from generation.queue import pauses
from generation.states import WEIGHTS, queue_for
from generation.telemetry import correlation

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: The task by its name, since this side does not know the workers' code. A test compares the two.
TASK: Final = "workers.tasks.generate"
#: Kept in Redis; where it is missing, Redis has lost what it held. It has another value while that is sent again.
_EPOCH_KEY: Final = "vga:epoch"
_WHOLE, _RESENDING = "1", "0"
#: Written to learn whether Redis takes writes.
_PROBE_KEY: Final = "vga:probe"
_PROBE_SECONDS: Final = 60
#: The most rows that one statement marks as undelivered.
_STEP: Final = 1_000
#: After a failure, for how many seconds Redis is not tried here, so that submits stay fast while it is away.
_PAUSE_AFTER_FAILURE: Final = 10.0
#: For how many seconds a look at the depth of the queues holds.
_DEPTH_LIFETIME: Final = 0.2
#: Seconds that anybody waits for one answer of Redis, however many round trips it takes.
_ANSWER_TIMEOUT: Final = 1.5
#: Messages in one round trip. More of them would be made for longer than an answer is waited for, beside other work.
_MOST_AT_ONCE: Final = 100
#: Past the highest weight.
_ABOVE_ALL: Final = 32_767
#: A message that was sent again and again counts as lost later each time, up to so many times as late.
_MOST_PATIENCE: Final = 20


class BrokerAway(Exception):  # noqa: N818  a state of the world, not a mistake
    """Redis does not answer, or did not a moment ago."""


class _Window:
    """What this process knows of the depth of the queues."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Look again at the next question, and try Redis again."""
        self._depths: dict[str, int] = {}
        self._seen_at = float("-inf")
        self._closed_until = float("-inf")

    def room(self, queue: str) -> int:
        """How many more messages the queue may hold. Raises :class:`BrokerAway`."""
        with self._lock:
            now = time.monotonic()
            if now < self._closed_until:
                raise BrokerAway
            if now - self._seen_at > _DEPTH_LIFETIME:
                self._depths = self._look()
                self._seen_at = time.monotonic()
            return max(0, int(settings.DISPATCH_WINDOW) - self._depths[queue])

    def count(self, queue: str, messages: int) -> None:
        """So many more are in the queue."""
        with self._lock:
            self._depths[queue] = self._depths.get(queue, 0) + messages

    def close(self, error: Exception) -> BrokerAway:
        """Leave Redis alone for a while."""
        self._closed_until = time.monotonic() + _PAUSE_AFTER_FAILURE
        cause = error.__cause__ or error  # what a batch that failed says is not why
        logger.warning("the broker is unavailable, what is queued is sent when it is back: %r", cause)
        return BrokerAway(str(error))

    def _look(self) -> dict[str, int]:
        try:
            return _depths()
        except Exception as error:  # kombu, redis-py and the socket each raise their own
            raise self.close(error) from None


window: Final = _Window()


def _ask(question: Callable[[Any], T]) -> T:
    """Ask Redis something, over the connections that messages leave by. A new connection is a dozen round trips,
    and a slow Redis takes its time for each, so nobody waits for more than the timeout."""

    def ask() -> T:
        # redis-py's client, of kombu's Redis transport
        with current_app.pool.acquire(block=True, timeout=5) as connection:
            channel: Any = connection.default_channel  # type: ignore[attr-defined]
            with _reconnecting(channel), channel.conn_or_acquire() as client:
                return question(client)

    return event_loop.within(_ANSWER_TIMEOUT, ask)


@contextmanager
def _reconnecting(channel: Any) -> Iterator[None]:
    """On any error, close the channel's connections to Redis. A server that became a replica answers on them for ever;
    a new connection looks the name up again and finds the new primary."""
    try:
        yield
    except Exception:
        channel.pool.disconnect()
        raise


def _depths() -> dict[str, int]:
    def look(client: Any) -> list[int]:
        with client.pipeline() as pipe:
            for queue in WEIGHTS:
                pipe.llen(queue)
            return [int(depth) for depth in pipe.execute()]

    return dict(zip(WEIGHTS, _ask(look), strict=True))


def waiting_messages() -> int:
    """How many messages wait in Redis. Raises what the broker's client raises where it cannot be reached."""
    return sum(_depths().values())


def check_broker() -> None:
    """Write to Redis. Raises what the broker's client raises where it cannot be reached or takes no writes, like a
    replica or a full server."""
    _ask(lambda client: client.set(_PROBE_KEY, "1", ex=_PROBE_SECONDS))


def resend_lost() -> int:
    """Where Redis has lost what it held since the last time, make all that was sent due again. Returns how many rows
    that was. Raises :class:`BrokerAway`.

    The mark in Redis is complete only after the rows are changed, so that a process that ends in between leaves the
    work to the next one; and only if it is still there, since Redis may be emptied meanwhile.
    """
    if _ask_or_close(lambda client: client.get(_EPOCH_KEY)) == _WHOLE.encode():
        return 0
    _ask_or_close(lambda client: client.set(_EPOCH_KEY, _RESENDING))
    lost = forget_sent()
    mark_broker_whole()
    return lost


def mark_broker_whole() -> None:
    """Note in Redis that nothing it held is lost. Raises :class:`BrokerAway`."""
    _ask_or_close(lambda client: client.set(_EPOCH_KEY, _WHOLE, xx=True))


def _ask_or_close(question: Callable[[Any], T]) -> T:
    try:
        return _ask(question)
    except Exception as error:
        raise window.close(error) from None


def reserve(weights: Sequence[int]) -> list[bool]:
    """For each weight whether a message may leave now: its queue has room and Redis is there."""
    left: dict[str, int] = {}
    for queue in {queue_for(weight) for weight in weights}:
        try:
            left[queue] = window.room(queue)
        except BrokerAway:
            left[queue] = 0
    allowed = []
    for weight in weights:
        queue = queue_for(weight)
        allowed.append(left[queue] > 0)
        left[queue] -= 1
    return allowed


def leaving(entries: Sequence[tuple[GenerationRequest, int]]) -> list[tuple[str, int]]:
    """Return those of the requests, given with their weights, whose messages may leave now: nothing that they belong to
    is paused, and their queue has room. Their rows have to say so."""
    running = [(request.pk, weight) for request, weight in entries if not pauses.is_paused(request)]
    allowed = reserve([weight for _, weight in running])
    return [entry for entry, now in zip(running, allowed, strict=True) if now]


def sent_now() -> dict[str, Any]:
    """Return the ledger's columns of a message that leaves now for the first time. They are written before it leaves,
    so that none is forgotten."""
    return {"dispatched_at": Now(), "redispatch_at": Now() + settings.REDISPATCH_AFTER, "dispatch_count": 1}


def send(messages: Sequence[tuple[str, int]]) -> int:
    """Publish ids with their weights. Returns how many the broker took; the rows of the others are due at once."""
    by_queue: dict[str, list[str]] = {}
    for request_id, weight in messages:
        by_queue.setdefault(queue_for(weight), []).append(request_id)
    refused: list[str] = []
    for queue, ids in by_queue.items():
        for start in range(0, len(ids), _MOST_AT_ONCE):
            some = ids[start : start + _MOST_AT_ONCE]
            if not _publish_ids(queue, some):
                refused += some
    if refused:
        with transaction.atomic():
            # Rows that another transaction holds are being cancelled, or sent.
            ids = locked_keys(GenerationQueue.objects.filter(pk__in=refused))
            GenerationQueue.objects.filter(pk__in=ids).update(redispatch_at=None, dispatched_at=None)
    return len(messages) - len(refused)


def publish(task: str, calls: Sequence[Sequence[Any]], *, queue: str, headers: dict[str, str] | None = None) -> None:
    """Send a message for each call (its arguments), all in one round trip. Raises whatever kombu, redis-py and the
    socket raise, and :class:`TimeoutError`; what has arrived is not known then."""

    def send_tasks() -> None:
        producers: Any = current_app.producer_pool
        with (
            producers.acquire(block=True) as producer,
            _reconnecting(producer.channel),
            producer.batch(max_size=len(calls)),
        ):
            for arguments in calls:
                # Redis makes a list by itself where there is none, so there is nothing to declare.
                current_app.send_task(
                    task, args=arguments, queue=queue, headers=headers, retry=False, declare=[], producer=producer
                )

    event_loop.within(_ANSWER_TIMEOUT, send_tasks)


def _publish_ids(queue: str, ids: Sequence[str]) -> bool:
    call = correlation.current()
    try:
        window.room(queue)
        publish(TASK, [(one,) for one in ids], queue=queue, headers={correlation.FIELD: call} if call else {})
        window.count(queue, len(ids))
    except BrokerAway:
        pass
    except Exception as error:  # kombu, redis-py and the socket each raise their own
        window.close(error)
    else:
        return True
    return False


def send_after_commit(messages: Sequence[tuple[str, int]]) -> None:
    """Publish ids with their weights once the transaction commits. Their ledger rows must say so: :func:`sent_now`."""
    if messages:
        transaction.on_commit(lambda: send(messages), robust=True)


def send_due() -> int:
    """Send what is due, the most pressing queue first, as far as there is room. Returns how many messages left. Raises
    :class:`BrokerAway`."""
    sent = 0
    highest = _ABOVE_ALL
    for queue, lowest in WEIGHTS.items():
        if room := window.room(queue):
            sent += send(_take(lowest, highest, room))
        highest = lowest
    return sent


def _take(lowest: int, highest: int, room: int) -> list[tuple[str, int]]:
    """Mark up to so many rows of the queue with these weights as sent, and return their requests and weights in the
    order in which they are to be sent."""
    bounds = {"lowest": lowest, "highest": highest, "room": room, "front": 2 * settings.DISPATCH_WINDOW}
    patience = {"lost_after": settings.REDISPATCH_AFTER, "most_patience": _MOST_PATIENCE}
    rows = fetch_all(queries.SEND_DUE, bounds | patience | {"providers": list(settings.PROVIDERS)})
    ordered = sorted(rows, key=lambda row: (-row[1], row[2], row[0]))
    return [(request_id, weight) for request_id, weight, _ in ordered]


def forget_sent(*request_ids: str) -> int:
    """Make what was sent due again: these, or with Redis emptied all. Returns how many rows that was.

    Rows that another transaction holds are skipped: they are being sent, cancelled or made due. So no two transactions
    can wait for each other's rows.
    """
    marked = 0
    last = ""
    while True:
        sent = GenerationQueue.objects.filter(redispatch_at__isnull=False, pk__gt=last)
        if request_ids:
            sent = sent.filter(pk__in=request_ids)
        with transaction.atomic():
            ids = locked_keys(sent, limit=_STEP)
            marked += GenerationQueue.objects.filter(pk__in=ids).update(redispatch_at=Now())
        if len(ids) < _STEP:
            return marked
        last = ids[-1]


def send_due_after_commit() -> None:
    """Send what is due once the transaction commits, rather than at the dispatcher's next pass."""

    def send_now() -> None:
        with suppress(BrokerAway):
            send_due()

    transaction.on_commit(send_now, robust=True)


def wake(waited_for: str) -> int:
    """What some rows of the ledger wait for has come about: they are due now. Returns how many."""
    woken = 0
    while True:
        with transaction.atomic():
            # Rows that another transaction holds are being cancelled, or due already.
            waiting = GenerationQueue.objects.filter(waits_for=waited_for, available_at__gt=Now())
            ids = locked_keys(waiting, limit=_STEP)
            due: dict[str, Any] = {"available_at": Now(), "weight_since": Now(), "waits_for": ""}
            woken += GenerationQueue.objects.filter(pk__in=ids).update(**due)
        if len(ids) < _STEP:
            return woken
