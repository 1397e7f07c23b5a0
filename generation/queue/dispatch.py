"""Send queue rows as Celery messages. A message has only the request's id and is a hint: the queue rows are the truth.

The queues in Redis are kept short: each holds at most a window of messages, so that a cancel, a promotion or an emptied
Redis affects few. Further requests wait in ``GenerationQueue`` and are sent as workers finish.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from django.conf import settings
from django.db import transaction

from generation.db import queries
from generation.db.execution import fetch_all
from generation.db.functions import Now
from generation.db.locks import locked_keys
from generation.models import GenerationQueue, GenerationRequest
from generation.queue import backlog, broker, pauses
from generation.queue.broker import BrokerUnavailable
from generation.states import WEIGHTS, queue_for
from generation.telemetry import correlation

#: The task's name, since this package does not import the workers. A test compares it with the task.
TASK: Final = "workers.tasks.generate"
#: Maximum number of rows that one statement marks as undelivered.
_BATCH_SIZE: Final = 1_000
#: Messages in one round trip. On a busy process, building more could exceed the time limit of an operation on Redis.
_MAX_MESSAGES: Final = 100
#: How often, and with what seconds in between, a sender waits for another one.
_TRIES: Final = 20
_PAUSE: Final = 0.01
#: Exclusive upper bound of all weights.
_ABOVE_ALL_WEIGHTS: Final = 32_767
#: Each time a message is sent again, it counts as lost after a longer time: up to this multiple of REDISPATCH_AFTER.
_MAX_LOST_FACTOR: Final = 20


def resend_lost() -> int:
    """If Redis lost its messages, make the queue rows of all sent messages due again. Return the number of rows.

    Redis is marked complete only after the rows have changed, so that another process repeats the work if this one dies
    in between; and only if the mark for resending is still there, since Redis may be emptied again meanwhile. Raises
    :class:`BrokerUnavailable`.
    """
    if broker.has_kept_messages():
        return 0
    broker.mark_resending()
    lost = mark_undelivered()
    broker.mark_complete()
    return lost


def _publish_ids(queue: str, ids: Sequence[str]) -> bool:
    http_request_id = correlation.current()
    headers = {correlation.FIELD: http_request_id} if http_request_id else {}
    try:
        broker.window.free_capacity(queue)
        broker.publish(TASK, [(request_id,) for request_id in ids], queue=queue, headers=headers)
        broker.window.add(queue, len(ids))
    except BrokerUnavailable:
        pass
    except Exception as error:  # kombu, redis-py and the socket each raise their own
        broker.window.failed(error)
    else:
        return True
    return False


def reserve_capacity(weights: Sequence[int]) -> list[bool]:
    """Return for each weight whether a message may be sent now: its queue has free capacity and Redis is available."""
    remaining: dict[str, int] = {}
    for queue in {queue_for(weight) for weight in weights}:
        try:
            remaining[queue] = broker.window.free_capacity(queue)
        except BrokerUnavailable:
            remaining[queue] = 0
    allowed = []
    for weight in weights:
        queue = queue_for(weight)
        allowed.append(remaining[queue] > 0)
        remaining[queue] -= 1
    return allowed


def select_sendable(entries: Sequence[tuple[GenerationRequest, int]]) -> list[tuple[str, int]]:
    """Return the ids and weights of those requests, given with their weights, whose messages may be sent now.

    No pause applies to them, and their queue has free capacity. The caller writes :func:`dispatch_columns` to their
    rows. If more is queued than Redis holds, what comes next is sent after the commit instead: a new request must not
    pass it.
    """
    not_paused = [(request.pk, weight) for request, weight in entries if not pauses.is_paused(request)]
    allowed = reserve_capacity([weight for _, weight in not_paused])
    sendable = [entry for entry, is_allowed in zip(not_paused, allowed, strict=True) if is_allowed]
    behind = {queue for queue in {queue_for(weight) for _, weight in sendable} if _is_long(queue)}
    if behind:
        send_due_after_commit()
    return [(request_id, weight) for request_id, weight in sendable if queue_for(weight) not in behind]


def _is_long(queue: str) -> bool:
    """Return whether more requests of the queue wait than Redis holds, as of a second ago."""
    lengths = backlog.cached_lengths()
    waiting = sum(lengths.of_weight(weight) for weight in lengths.rows if weight and queue_for(weight) == queue)
    return waiting > broker.window.size()


def dispatch_columns() -> dict[str, Any]:
    """Return the values of a queue row whose message is sent now for the first time. They are written before the
    message is sent, so that a lost one is sent again."""
    return {"dispatched_at": Now(), "redispatch_at": Now() + settings.REDISPATCH_AFTER, "dispatch_count": 1}


def send(messages: Sequence[tuple[str, int]]) -> int:
    """Publish ids by their weights. Return how many the broker accepted; the rows of the others are due at once."""
    by_queue: dict[str, list[str]] = {}
    for request_id, weight in messages:
        by_queue.setdefault(queue_for(weight), []).append(request_id)
    failed: list[str] = []
    for queue, ids in by_queue.items():
        for start in range(0, len(ids), _MAX_MESSAGES):
            chunk = ids[start : start + _MAX_MESSAGES]
            if not _publish_ids(queue, chunk):
                failed += chunk
    if failed:
        with transaction.atomic():
            # Rows that another transaction has locked are being cancelled or sent.
            ids = locked_keys(GenerationQueue.objects.filter(pk__in=failed))
            GenerationQueue.objects.filter(pk__in=ids).update(redispatch_at=None, dispatched_at=None)
    return len(messages) - len(failed)


def send_after_commit(messages: Sequence[tuple[str, int]]) -> None:
    """Publish ids by their weights once the transaction commits. Their queue rows must have the values of
    :func:`dispatch_columns`."""
    if messages:
        transaction.on_commit(lambda: send(messages), robust=True)


def send_due() -> int:
    """Send due messages, highest priority first, up to the capacity of each queue. Return the number of messages sent.
    Raises :class:`BrokerUnavailable`."""
    sender = uuid.uuid4().hex
    for _ in range(_TRIES):
        if broker.begin_sending(sender):
            break
        time.sleep(_PAUSE)
    else:
        return 0  # the sender that has the turn for so long fills the queues
    try:
        broker.window.forget()  # workers have received messages since the last look, and others have sent some
        return _send_due()
    finally:
        with suppress(BrokerUnavailable):
            broker.end_sending(sender)


def _send_due() -> int:
    sent = 0
    highest = _ABOVE_ALL_WEIGHTS
    for queue, lowest in WEIGHTS.items():
        if capacity := broker.window.free_capacity(queue):
            sent += send(_mark_due_sent(lowest, highest, capacity))
        highest = lowest
    return sent


def _mark_due_sent(lowest: int, highest: int, capacity: int) -> list[tuple[str, int]]:
    """Mark at most ``capacity`` due rows with weights from ``lowest`` to below ``highest`` as sent, and return their
    request ids and weights in the order in which to send them."""
    bounds = {"lowest": lowest, "highest": highest, "room": capacity, "front": 2 * settings.DISPATCH_WINDOW}
    patience = {"lost_after": settings.REDISPATCH_AFTER, "most_patience": _MAX_LOST_FACTOR}
    rows = fetch_all(queries.SEND_DUE, bounds | patience | {"providers": list(settings.PROVIDERS)})
    ordered = sorted(rows, key=lambda row: (-row[1], row[2], row[3], row[0]))
    return [(request_id, weight) for request_id, weight, *_ in ordered]


def mark_undelivered(*request_ids: str) -> int:
    """Make the rows of sent messages due again: those of these requests, or all of them if none is named. Return the
    number of rows.

    Rows that another transaction has locked are skipped: they are being sent, cancelled or made due. So no two
    transactions can wait for each other's rows.
    """
    marked = 0
    last = ""
    while True:
        sent = GenerationQueue.objects.filter(redispatch_at__isnull=False, pk__gt=last)
        if request_ids:
            sent = sent.filter(pk__in=request_ids)
        with transaction.atomic():
            ids = locked_keys(sent, limit=_BATCH_SIZE)
            marked += GenerationQueue.objects.filter(pk__in=ids).update(redispatch_at=Now())
        if len(ids) < _BATCH_SIZE:
            return marked
        last = ids[-1]


def send_due_after_commit() -> None:
    """Send due messages once the transaction commits, rather than at the dispatcher's next pass."""

    def send_now() -> None:
        with suppress(BrokerUnavailable):
            send_due()

    transaction.on_commit(send_now, robust=True)


def make_due(waited_for: str) -> int:
    """Make the queue rows that wait for this (a provider's name or a request's id) due now. Return their number."""
    woken = 0
    while True:
        with transaction.atomic():
            # Rows that another transaction has locked are being cancelled or made due.
            waiting = GenerationQueue.objects.filter(waits_for=waited_for, available_at__gt=Now())
            ids = locked_keys(waiting, limit=_BATCH_SIZE)
            due: dict[str, Any] = {"available_at": Now(), "weight_since": Now(), "waits_for": ""}
            woken += GenerationQueue.objects.filter(pk__in=ids).update(**due)
        if len(ids) < _BATCH_SIZE:
            return woken
