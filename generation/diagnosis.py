"""What is stuck, why, and the command that mends it: what ``manage.py doctor`` prints and the staff's pages show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.db.models import Exists, OuterRef

from generation import dispatch, storage, waiting
from generation.clock import Now
from generation.dispatch import BrokerAway
from generation.models import GenerationBatch, GenerationQueue, GenerationRequest, WorkerProcess
from generation.states import WEIGHTS, ProcessKind, Status

#: What is due for so long and was not taken is stuck, not merely waiting.
_STUCK_AFTER: Final = timedelta(minutes=1)
_SHOWN: Final = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something that needs a person. ``remedy`` is a command, or what to look at."""

    what: str
    why: str
    remedy: str


def findings() -> list[Finding]:
    """Everything that is wrong at the moment; empty where all is well."""
    return [finding for look in _LOOKS for finding in look()]


def _examples(ids: list[str]) -> str:
    shown = ", ".join(ids[:_SHOWN])
    return shown + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")


def _no_broker() -> Iterator[Finding]:
    try:
        dispatch.waiting_messages()
    except Exception as error:  # whatever its client raises, it cannot be reached
        yield Finding(
            what="Redis cannot be reached",
            why=f"{type(error).__name__}; submits are accepted, but nothing new is started",
            remedy="start Redis, or correct REDIS_URL; what is queued is sent by itself",
        )


def _no_process() -> Iterator[Finding]:
    for kind, remedy in (
        (ProcessKind.WORKER, "start a worker; its command stands in the Procfile"),
        (ProcessKind.DISPATCHER, "start the dispatcher: manage.py dispatch"),
    ):
        if not waiting.live_processes(kind).exists():
            last = WorkerProcess.objects.filter(kind=kind).order_by("-seen_at").first()
            seen = f"the last heartbeat was at {last.seen_at:%Y-%m-%d %H:%M:%S} UTC" if last else "none was ever seen"
            yield Finding(what=f"No {kind.label.lower()} is up", why=seen, remedy=remedy)


def _expired_leases() -> Iterator[Finding]:
    overdue = GenerationRequest.objects.filter(
        status=Status.IN_PROGRESS, lease_expires_at__lt=Now() - 2 * settings.QUEUE_PROCESSING_INTERVAL
    )
    if ids := list(overdue.values_list("pk", flat=True)[:100]):
        yield Finding(
            what=f"{len(ids)} in progress without a worker: {_examples(ids)}",
            why="their worker was lost and no dispatcher has rescued them",
            remedy="manage.py dispatch --once",
        )


def _not_taken() -> Iterator[Finding]:
    due = GenerationQueue.objects.filter(held=False, available_at__lt=Now() - _STUCK_AFTER)
    if unsent := due.filter(redispatch_at__isnull=True)[:10_000].count():
        try:
            full = not any(dispatch.window.room(queue) for queue in WEIGHTS)
        except BrokerAway:
            full = False
        if not full:
            yield Finding(
                what=f"{unsent} due for over a minute and not sent",
                why="no dispatcher sends them, or Redis was away",
                remedy="manage.py dispatch --once",
            )
    idle = waiting.capacity().slots > GenerationRequest.objects.filter(status=Status.IN_PROGRESS).count()
    ids = list(due.filter(dispatched_at__lt=Now() - _STUCK_AFTER).values_list("pk", flat=True)[:100])
    if idle and ids:
        yield Finding(
            what=f"{len(ids)} sent over a minute ago and not taken, although workers are idle: {_examples(ids)}",
            why="their messages got lost, or the workers do not read that queue",
            remedy=f"manage.py requeue {ids[0]}; if it happens again, restart the workers",
        )


def _no_ledger_row() -> Iterator[Finding]:
    entry = GenerationQueue.objects.filter(request_id=OuterRef("pk"))
    missing = GenerationRequest.objects.filter(~Exists(entry), status=Status.QUEUED)
    if ids := list(missing.values_list("pk", flat=True)[:100]):
        yield Finding(
            what=f"{len(ids)} queued without a row in the ledger: {_examples(ids)}",
            why="somebody deleted rows by hand",
            remedy="manage.py requeue --lost",
        )


def _batches() -> Iterator[Finding]:
    held = GenerationQueue.objects.filter(
        held=True, request__batch=OuterRef("pk"), available_at__lt=Now() - _STUCK_AFTER
    )
    active = GenerationRequest.objects.filter(batch=OuterRef("pk"), status=Status.IN_PROGRESS)
    sent = GenerationQueue.objects.filter(request__batch=OuterRef("pk"), held=False)
    stuck = GenerationBatch.objects.filter(Exists(held), ~Exists(active), ~Exists(sent))
    if ids := list(stuck.values_list("pk", flat=True)[:100]):
        yield Finding(
            what=f"{len(ids)} batches wait although nothing of theirs runs: {_examples(ids)}",
            why="no dispatcher has filled their places",
            remedy="manage.py dispatch --once",
        )


def _no_storage() -> Iterator[Finding]:
    try:
        storage.check_writable()
    except OSError as error:
        yield Finding(
            what="Pictures cannot be stored",
            why=error.strerror or type(error).__name__,
            remedy="free space, or correct VAR_DIR; no provider is called until then",
        )


_LOOKS: Final[tuple[Callable[[], Iterator[Finding]], ...]] = (
    _no_broker,
    _no_process,
    _no_storage,
    _expired_leases,
    _not_taken,
    _no_ledger_row,
    _batches,
)
