"""What is stuck, why, and the command that mends it: what ``manage.py doctor`` prints and the staff's pages show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import psycopg
from django.conf import settings
from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Exists, OuterRef, QuerySet
from redis.exceptions import ResponseError

from generation.db import counters, sessions
from generation.db.functions import Now
from generation.db.outages import is_outage
from generation.db.session_settings import SERVED, Kind
from generation.models import GenerationAttempt, GenerationBatch, GenerationQueue, GenerationRequest, WorkerProcess
from generation.providers import catalogue, circuit_breaker
from generation.queue import broker, pauses, processes
from generation.queue.broker import BrokerUnavailable
from generation.states import ADVICE, WEIGHTS, ErrorCode, ProcessKind, Status
from generation.storage import images

#: What is due for so long and was not taken is stuck, not merely waiting.
_STUCK_AFTER: Final = timedelta(minutes=1)
#: A model that ends within this time is told of.
_SOON: Final = timedelta(days=30)
#: What is used is told from so many of the newest attempts.
_SAMPLE: Final = 500
#: The most of one kind that are looked for.
_MOST: Final = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something that needs a person. ``remedy`` is a command, or what to look at; ``ids`` says what it is about."""

    what: str
    why: str
    remedy: str
    ids: tuple[str, ...] = ()


def findings(*, sign_in: bool = False) -> list[Finding]:
    """Everything that is wrong at the moment; empty where all is well. Where the tables cannot be read, everything
    else. ``sign_in`` checks the roles of all kinds of processes by signing in as each, which pages have no time for."""
    blind = list(_no_database())
    looks: _Looks = _OUTSIDE if blind else (*_OUTSIDE, partial(_sessions, sign_in=sign_in), *_IN_THE_TABLES)
    return blind + [finding for look in looks for finding in look()]


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "").rstrip(".") or type(error).__name__


def _how_many(ids: list[str]) -> str:
    return f"{len(ids)} or more" if len(ids) == _MOST else str(len(ids))


def _no_database() -> Iterator[Finding]:
    try:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except Error as error:
        if is_outage(error):
            yield Finding(
                what="The database cannot be reached",
                why=f"{_first_line(_cause(error))}; the API answers with 503",
                remedy="start the database, or correct DATABASE_URL; everything else goes on by itself",
            )
        else:
            yield Finding(
                what="The database refuses what it is asked",
                why=f"{_first_line(error)}; the API answers with 500",
                remedy="migrate with this version, and run deploy/roles.sh again, which grants what the roles need",
            )
    else:
        if missing:
            yield Finding(
                what=f"Migrations that the database has not had: {len(missing)}",
                why=f"the next is {missing[0][0]}",
                remedy="manage.py migrate",
            )


def _cause(error: Exception) -> Exception:
    """What the database's client says without the pool, which says no more than that it waited."""
    client: Any = connection  # what stands behind Django's proxy has more than its type says
    try:
        client.Database.connect(**client.get_connection_params()).close()
    except Exception as cause:  # whatever it raises, it is nearer to the cause
        return cause
    return error


def _no_broker() -> Iterator[Finding]:
    try:
        broker.check_broker()
    except Exception as error:  # whatever its client raises, it cannot be used
        refuses = isinstance(error, ResponseError)
        mend = "point REDIS_URL to the primary, or give Redis room" if refuses else "start Redis, or correct REDIS_URL"
        yield Finding(
            what="Redis takes no writes" if refuses else "Redis cannot be reached",
            why=f"{_first_line(error)}; submits are accepted, but nothing new is started",
            remedy=f"{mend}; what is queued is sent by itself",
        )


def _no_process() -> Iterator[Finding]:
    for kind, remedy in (
        (ProcessKind.WORKER, "start a worker; its command stands in the Procfile"),
        (ProcessKind.DISPATCHER, "start the dispatcher: manage.py dispatch"),
    ):
        if not processes.live_processes(kind).exists():
            last = WorkerProcess.objects.filter(kind=kind).order_by("-seen_at").first()
            seen = f"the last heartbeat was at {last.seen_at:%Y-%m-%d %H:%M:%S} UTC" if last else "none was ever seen"
            yield Finding(what=f"No {kind.label.lower()} is up", why=seen, remedy=remedy)


def _expired_leases() -> Iterator[Finding]:
    overdue = GenerationRequest.objects.filter(
        status=Status.IN_PROGRESS, lease_expires_at__lt=Now() - 2 * settings.QUEUE_PROCESSING_INTERVAL
    )
    if ids := list(overdue.values_list("pk", flat=True)[:_MOST]):
        yield Finding(
            what=f"In progress without a worker: {_how_many(ids)}",
            why="their worker was lost and no dispatcher has rescued them",
            remedy="manage.py dispatch --once",
            ids=tuple(ids),
        )


def _not_taken() -> Iterator[Finding]:
    try:
        with_room = [weight for queue, weight in WEIGHTS.items() if broker.window.free_capacity(queue)]
    except BrokerUnavailable:
        return  # which is told already, and the remedy of it all
    lengths = counters.lengths()
    due = pauses.without_paused(_first_rows(lengths.rows).filter(available_at__lt=Now() - _STUCK_AFTER))
    unsent = due.filter(redispatch_at__isnull=True, priority_weight__in=with_room)
    if ids := list(unsent.values_list("pk", flat=True)[:_MOST]):
        yield Finding(
            what=f"Due for over a minute and not sent: {_how_many(ids)}",
            why="no dispatcher sends them, or Redis was away",
            remedy="manage.py dispatch --once",
            ids=tuple(ids),
        )
    idle = processes.live_capacity().slots > lengths.in_progress
    sent = due.filter(dispatched_at__lt=Now() - _STUCK_AFTER)
    if idle and (ids := list(sent.values_list("pk", flat=True)[:_MOST])):
        yield Finding(
            what=f"Sent over a minute ago and not taken, although workers are idle: {_how_many(ids)}",
            why="their messages got lost, or the workers do not read that queue",
            remedy="manage.py requeue --lost; if it happens again, restart the workers",
            ids=tuple(ids),
        )


def _first_rows(weights: Iterable[int]) -> QuerySet[GenerationQueue]:
    """The first queue rows of each weight, by the index on the queue's order. Where the first are not stuck, those
    behind them are not."""
    rows = GenerationQueue.objects.filter(held=False).order_by("queued_at")
    first = [rows.filter(priority_weight=weight).values("pk")[:_MOST] for weight in weights]
    return rows.filter(pk__in=first[0].union(*first[1:], all=True)) if first else rows.none()


def _no_ledger_row() -> Iterator[Finding]:
    lengths = counters.lengths()
    if lengths.queued == lengths.total:
        return  # so every row is not looked for
    entry = GenerationQueue.objects.filter(request_id=OuterRef("pk"))
    missing = GenerationRequest.objects.filter(~Exists(entry), status=Status.QUEUED)
    if ids := list(missing.values_list("pk", flat=True)[:_MOST]):
        yield Finding(
            what=f"Queued without a row in the ledger: {_how_many(ids)}",
            why="somebody deleted rows by hand",
            remedy="manage.py requeue --lost",
            ids=tuple(ids),
        )


def _batches() -> Iterator[Finding]:
    held = GenerationQueue.objects.filter(
        held=True, request__batch=OuterRef("pk"), available_at__lt=Now() - _STUCK_AFTER
    )
    active = GenerationRequest.objects.filter(batch=OuterRef("pk"), status=Status.IN_PROGRESS)
    sent = GenerationQueue.objects.filter(request__batch=OuterRef("pk"), held=False)
    held = pauses.without_paused(held)
    stuck = GenerationBatch.objects.filter(Exists(held), ~Exists(active), ~Exists(sent))
    if ids := list(stuck.values_list("pk", flat=True)[:_MOST]):
        yield Finding(
            what=f"Batches that wait although nothing of theirs runs: {_how_many(ids)}",
            why="no dispatcher has filled their places",
            remedy="manage.py dispatch --once",
            ids=tuple(ids),
        )


def _no_storage() -> Iterator[Finding]:
    try:
        images.check_writable()
    except OSError as error:
        yield Finding(
            what="Pictures cannot be stored",
            why=error.strerror or _first_line(error),
            remedy="free space, or correct VAR_DIR or the bucket's permissions; no provider is called until then",
        )


def _suspended() -> Iterator[Finding]:
    for one in circuit_breaker.open_breakers():
        if not one.is_open and one.until < datetime.now(UTC) + _STUCK_AFTER:
            continue  # it asked to wait for a moment, which is everyday life
        waiting_for = GenerationQueue.objects.filter(waits_for=one.provider).values_list("pk", flat=True)
        yield Finding(
            what=f"{one.provider} is left alone until {one.until:%Y-%m-%d %H:%M:%S} UTC",
            why=f"{ErrorCode(one.reason).label}. {ADVICE[one.reason]}",
            remedy=f"manage.py resume_provider {one.provider}; without that it is tried again by then",
            ids=tuple(waiting_for[:_MOST]),
        )


def _models_set_aside() -> Iterator[Finding]:
    for row in circuit_breaker.unserved_model_states():
        yield Finding(
            what=f"{row.provider} does not serve {row.model}; it is set aside until {row.set_aside_until:%H:%M:%S} UTC",
            why=f"{ErrorCode(row.reason).label}. {ADVICE[row.reason]}",
            remedy=f"manage.py resume_provider {row.provider}; or disable the model in the admin",
        )


def _broken_models() -> Iterator[Finding]:
    for model, mistake in catalogue.broken_models():
        yield Finding(
            what=f"The model {model} is not used, since its row is wrong",
            why=mistake,
            remedy="correct the model in the admin",
        )


def _ending_models() -> Iterator[Finding]:
    usual = {(name, model) for name in settings.PROVIDERS if (model := settings.PROVIDER_MODELS.get(name))}
    newest = GenerationAttempt.objects.order_by("-pk").values_list("provider", "model")[:_SAMPLE]
    used = {(name, model) for name, model in newest if name in settings.PROVIDERS}
    for ending in catalogue.deprecations(sorted(usual | used), within=_SOON):
        is_usual = (ending.provider, ending.model) in usual
        if ending.is_over and not is_usual:
            continue  # it was used while it was there
        yield Finding(what=_end(ending), why=_what_then(ending), remedy=_instead(ending, is_usual=is_usual))


def _end(ending: catalogue.Deprecation) -> str:
    if ending.is_over:
        return f"The model {ending.model} of {ending.provider} is retired, and the settings name it"
    return f"The model {ending.model} of {ending.provider} ends on {ending.date}"


def _what_then(ending: catalogue.Deprecation) -> str:
    when = "at its place" if ending.is_over else "then at its place"
    if ending.successor:
        return f"{ending.successor} is used {when}, which may look and cost different"
    return f"nothing is named that is used {when}, so requests that name it are refused"


def _instead(ending: catalogue.Deprecation, *, is_usual: bool) -> str:
    if not ending.successor:
        return f"name a successor of {ending.model} in the admin"
    if is_usual:
        return f"set {ending.provider.upper()}_IMAGE_MODEL={ending.successor}"
    return f"have clients name {ending.successor}"


def _sessions(*, sign_in: bool) -> Iterator[Finding]:
    """Find sessions without the settings of their kind: this process's own, or with ``sign_in`` those of every kind."""
    if not sign_in or not sessions.has_role_for_each_kind():
        yield from _wrong_settings(sessions.own_kind(), connection)
        return
    for kind in SERVED:
        try:
            with sessions.session_of(kind) as session:
                yield from _wrong_settings(kind, session)
        except psycopg.Error as error:
            yield Finding(
                what=f"The {kind} process cannot sign in to the database as {sessions.role_of(kind)}",
                why=_first_line(error),
                remedy="run deploy/roles.sh again, which makes the roles that are missing and sets their password",
            )


def _wrong_settings(kind: Kind, session: Any) -> Iterator[Finding]:
    if not (wrong := sessions.differences(kind, session)):
        return
    shown = ", ".join(f"{name} is {found}, not {wanted}" for name, (found, wanted) in wrong.items())
    if sessions.has_role_for_each_kind():
        why = f"the role {sessions.role_of(kind)} does not set them, or the session is older than the role's settings"
        remedy = "manage.py set_role_settings; then restart the processes, or RECONNECT in PgBouncer"
    else:
        why = "a pooler drops what a connection asks for, so that only the role can set them"
        remedy = (
            "make a role for each kind of process with deploy/roles.sh, and put {kind} into the user name of"
            " DATABASE_URL, as in docs/scaling.md"
        )
    yield Finding(what=f"Sessions of the {kind} process have the wrong settings: {shown}", why=why, remedy=remedy)


_Looks = tuple[Callable[[], Iterator[Finding]], ...]
_OUTSIDE: Final[_Looks] = (_no_broker, _no_storage)
_IN_THE_TABLES: Final[_Looks] = (
    _no_process,
    _expired_leases,
    _not_taken,
    _no_ledger_row,
    _batches,
    _suspended,
    _models_set_aside,
    _broken_models,
    _ending_models,
)
