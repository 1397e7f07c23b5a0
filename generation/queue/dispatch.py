"""Ledger → Celery message. The message carries the id alone and is a hint: the ledger knows what is queued.

Redis is kept shallow: of each queue only a window of messages waits there, so that a cancel, a promotion or an emptied
Redis concerns a few. What is past the window waits in the ledger and is sent as workers finish.
"""

from __future__ import annotations

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
from generation.queue import broker, pauses
from generation.queue.broker import BrokerUnavailable
from generation.states import WEIGHTS, queue_for
from generation.telemetry import correlation

#: The task by its name, since this side does not know the workers' code. A test compares the two.
TASK: Final = "workers.tasks.generate"
#: The most rows that one statement marks as undelivered.
_BATCH_SIZE: Final = 1_000
#: Messages in one round trip. More of them would be made for longer than an answer is waited for, beside other work.
_MOST_MESSAGES: Final = 100
#: Past the highest weight.
_ABOVE_ALL: Final = 32_767
#: A message that was sent again and again counts as lost later each time, up to so many times as late.
_MOST_LOST_FACTOR: Final = 20


def resend_lost() -> int:
    """If Redis lost its messages, make all that were sent due again. Returns the number of rows. Raises
    :class:`BrokerUnavailable`.

    Redis is marked complete only after the rows are changed, so that a process that ends in between leaves the work to
    the next one; and only if the first mark is still there, since Redis may be emptied meanwhile.
    """
    if broker.has_kept_messages():
        return 0
    broker.mark_resending()
    lost = mark_undelivered()
    broker.mark_complete()
    return lost


def _publish_ids(queue: str, ids: Sequence[str]) -> bool:
    call = correlation.current()
    try:
        broker.window.free_capacity(queue)
        broker.publish(TASK, [(one,) for one in ids], queue=queue, headers={correlation.FIELD: call} if call else {})
        broker.window.add(queue, len(ids))
    except BrokerUnavailable:
        pass
    except Exception as error:  # kombu, redis-py and the socket each raise their own
        broker.window.failed(error)
    else:
        return True
    return False


def _reserve_capacity(weights: Sequence[int]) -> list[bool]:
    """For each weight whether a message may leave now: its queue has room and Redis is there."""
    left: dict[str, int] = {}
    for queue in {queue_for(weight) for weight in weights}:
        try:
            left[queue] = broker.window.free_capacity(queue)
        except BrokerUnavailable:
            left[queue] = 0
    allowed = []
    for weight in weights:
        queue = queue_for(weight)
        allowed.append(left[queue] > 0)
        left[queue] -= 1
    return allowed


def select_sendable(entries: Sequence[tuple[GenerationRequest, int]]) -> list[tuple[str, int]]:
    """Return those of the requests, given with their weights, whose messages may leave now: nothing that they belong to
    is paused, and their queue has room. Their rows have to say so."""
    running = [(request.pk, weight) for request, weight in entries if not pauses.is_paused(request)]
    allowed = _reserve_capacity([weight for _, weight in running])
    return [entry for entry, now in zip(running, allowed, strict=True) if now]


def dispatch_columns() -> dict[str, Any]:
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
        for start in range(0, len(ids), _MOST_MESSAGES):
            some = ids[start : start + _MOST_MESSAGES]
            if not _publish_ids(queue, some):
                refused += some
    if refused:
        with transaction.atomic():
            # Rows that another transaction holds are being cancelled, or sent.
            ids = locked_keys(GenerationQueue.objects.filter(pk__in=refused))
            GenerationQueue.objects.filter(pk__in=ids).update(redispatch_at=None, dispatched_at=None)
    return len(messages) - len(refused)


def send_after_commit(messages: Sequence[tuple[str, int]]) -> None:
    """Publish ids with their weights once the transaction commits. Their queue rows must say so, by
    :func:`dispatch_columns`."""
    if messages:
        transaction.on_commit(lambda: send(messages), robust=True)


def send_due() -> int:
    """Send what is due, the most pressing queue first, as far as there is room. Returns how many messages left. Raises
    :class:`BrokerUnavailable`."""
    sent = 0
    highest = _ABOVE_ALL
    for queue, lowest in WEIGHTS.items():
        if room := broker.window.free_capacity(queue):
            sent += send(_mark_due_sent(lowest, highest, room))
        highest = lowest
    return sent


def _mark_due_sent(lowest: int, highest: int, room: int) -> list[tuple[str, int]]:
    """Mark up to so many rows of the queue with these weights as sent, and return their requests and weights in the
    order in which they are to be sent."""
    bounds = {"lowest": lowest, "highest": highest, "room": room, "front": 2 * settings.DISPATCH_WINDOW}
    patience = {"lost_after": settings.REDISPATCH_AFTER, "most_patience": _MOST_LOST_FACTOR}
    rows = fetch_all(queries.SEND_DUE, bounds | patience | {"providers": list(settings.PROVIDERS)})
    ordered = sorted(rows, key=lambda row: (-row[1], row[2], row[0]))
    return [(request_id, weight) for request_id, weight, _ in ordered]


def mark_undelivered(*request_ids: str) -> int:
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
            ids = locked_keys(sent, limit=_BATCH_SIZE)
            marked += GenerationQueue.objects.filter(pk__in=ids).update(redispatch_at=Now())
        if len(ids) < _BATCH_SIZE:
            return marked
        last = ids[-1]


def send_due_after_commit() -> None:
    """Send what is due once the transaction commits, rather than at the dispatcher's next pass."""

    def send_now() -> None:
        with suppress(BrokerUnavailable):
            send_due()

    transaction.on_commit(send_now, robust=True)


def make_due(waited_for: str) -> int:
    """What some rows of the ledger wait for has come about: they are due now. Returns how many."""
    woken = 0
    while True:
        with transaction.atomic():
            # Rows that another transaction holds are being cancelled, or due already.
            waiting = GenerationQueue.objects.filter(waits_for=waited_for, available_at__gt=Now())
            ids = locked_keys(waiting, limit=_BATCH_SIZE)
            due: dict[str, Any] = {"available_at": Now(), "weight_since": Now(), "waits_for": ""}
            woken += GenerationQueue.objects.filter(pk__in=ids).update(**due)
        if len(ids) < _BATCH_SIZE:
            return woken
