"""Checks for problems that need staff, with cause and remedy, for ``manage.py doctor`` and the staff's pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
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
from generation.queue import broker, forecasts, given_estimates, pauses, processes
from generation.queue.broker import BrokerUnavailable
from generation.reports import webhook_checks
from generation.reports.findings import MOST, Finding, how_many
from generation.states import ADVICE, WEIGHTS, ErrorCode, ProcessKind, Status
from generation.storage import images

#: A request that is due for longer than this and was not claimed is stuck.
_STUCK_AFTER: Final = timedelta(minutes=1)
#: Models that are retired within this time are reported.
_SOON: Final = timedelta(days=30)
#: Number of newest attempts from which the models in use are determined.
_SAMPLE: Final = 500
#: From so many measured estimates on, the share that p90 covers is to be within these bounds.
_ENOUGH_MEASURED: Final = 100
_COVERED: Final = (0.8, 0.97)


def findings(*, sign_in: bool = False) -> list[Finding]:
    """Return all current problems. If the tables cannot be read, only those found without them.

    ``sign_in`` checks the roles of all kinds of processes by a database login as each, which is too slow for pages.
    """
    database = list(_no_database())
    checks: _Checks = _OUTSIDE if database else (*_OUTSIDE, partial(_sessions, sign_in=sign_in), *_IN_THE_TABLES)
    return database + [finding for check in checks for finding in check()]


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "").rstrip(".") or type(error).__name__


def _no_database() -> Iterator[Finding]:
    try:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except Error as error:
        if is_outage(error):
            yield Finding(
                what="The database cannot be reached",
                why=f"{_first_line(_cause(error))}; the API answers with 503",
                remedy="start the database, or correct DATABASE_URL; all processes then continue by themselves",
            )
        else:
            yield Finding(
                what="The database rejects queries",
                why=f"{_first_line(error)}; the API answers with 500",
                remedy="migrate with this version, and run deploy/roles.sh again, which grants what the roles need",
            )
    else:
        if missing:
            yield Finding(
                what=f"Migrations that are not applied: {len(missing)}",
                why=f"the next is {missing[0][0]}",
                remedy="manage.py migrate",
            )


def _cause(error: Exception) -> Exception:
    """Return the error of a direct connection, since the pool's error says only that it timed out."""
    client: Any = connection  # the type of Django's proxy lacks these attributes
    try:
        client.Database.connect(**client.get_connection_params()).close()
    except Exception as cause:  # any error of the client is closer to the cause
        return cause
    return error


def _no_broker() -> Iterator[Finding]:
    try:
        broker.check_broker()
    except Exception as error:  # any error of the client means that the broker cannot be used
        rejects = isinstance(error, ResponseError)
        fix = "point REDIS_URL to the primary, or free memory" if rejects else "start Redis, or correct REDIS_URL"
        yield Finding(
            what="Redis rejects writes" if rejects else "Redis cannot be reached",
            why=f"{_first_line(error)}; submits are accepted, but no request is started",
            remedy=f"{fix}; queued requests are then sent automatically",
        )


def _no_process() -> Iterator[Finding]:
    for kind, remedy in (
        (ProcessKind.WORKER, "start a worker; the Procfile has the command"),
        (ProcessKind.DISPATCHER, "start the dispatcher: manage.py dispatch"),
    ):
        if not processes.live_processes(kind).exists():
            last = WorkerProcess.objects.filter(kind=kind).order_by("-seen_at").first()
            seen = f"the last heartbeat was at {last.seen_at:%Y-%m-%d %H:%M:%S} UTC" if last else "none has ever run"
            yield Finding(what=f"No {kind.label.lower()} is up", why=seen, remedy=remedy)


def _expired_leases() -> Iterator[Finding]:
    overdue = GenerationRequest.objects.filter(
        status=Status.IN_PROGRESS, lease_expires_at__lt=Now() - 2 * settings.QUEUE_PROCESSING_INTERVAL
    )
    if ids := list(overdue.values_list("pk", flat=True)[:MOST]):
        yield Finding(
            what=f"In progress without a worker: {how_many(ids)}",
            why="their worker was lost, and no dispatcher has requeued them",
            remedy="manage.py dispatch --once",
            ids=tuple(ids),
        )


def _not_taken() -> Iterator[Finding]:
    try:
        with_room = [weight for queue, weight in WEIGHTS.items() if broker.window.free_capacity(queue)]
    except BrokerUnavailable:
        return  # _no_broker() reports it, and its remedy solves this too
    lengths = counters.lengths()
    due = pauses.without_paused(_first_rows(lengths.rows).filter(available_at__lt=Now() - _STUCK_AFTER))
    unsent = due.filter(redispatch_at__isnull=True, priority_weight__in=with_room)
    if ids := list(unsent.values_list("pk", flat=True)[:MOST]):
        yield Finding(
            what=f"Due for over a minute and not sent: {how_many(ids)}",
            why="no dispatcher sends them, or Redis was unavailable",
            remedy="manage.py dispatch --once",
            ids=tuple(ids),
        )
    idle = processes.live_capacity().slots > lengths.in_progress
    sent = due.filter(dispatched_at__lt=Now() - _STUCK_AFTER)
    if idle and (ids := list(sent.values_list("pk", flat=True)[:MOST])):
        yield Finding(
            what=f"Sent over a minute ago and not started, although workers are idle: {how_many(ids)}",
            why="their messages were lost, or the workers do not read that queue",
            remedy="manage.py requeue --lost; if it happens again, restart the workers",
            ids=tuple(ids),
        )


def _first_rows(weights: Iterable[int]) -> QuerySet[GenerationQueue]:
    """Return the first queue rows of each weight, by the index on the queue's order.

    If the first are not stuck, the later ones are not stuck either.
    """
    rows = GenerationQueue.objects.filter(held=False).order_by("queued_at")
    first = [rows.filter(priority_weight=weight).values("pk")[:MOST] for weight in weights]
    return rows.filter(pk__in=first[0].union(*first[1:], all=True)) if first else rows.none()


def _no_queue_row() -> Iterator[Finding]:
    lengths = counters.lengths()
    if lengths.queued == lengths.total:
        return  # no row is missing, so skip the query over all requests
    entry = GenerationQueue.objects.filter(request_id=OuterRef("pk"))
    missing = GenerationRequest.objects.filter(~Exists(entry), status=Status.QUEUED)
    if ids := list(missing.values_list("pk", flat=True)[:MOST]):
        yield Finding(
            what=f"Queued without a queue row: {how_many(ids)}",
            why="rows were deleted by hand",
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
    if ids := list(stuck.values_list("pk", flat=True)[:MOST]):
        yield Finding(
            what=f"Batches that wait although none of their requests runs: {how_many(ids)}",
            why="no dispatcher has filled their slots",
            remedy="manage.py dispatch --once",
            ids=tuple(ids),
        )


def _no_storage() -> Iterator[Finding]:
    try:
        images.check_writable()
    except OSError as error:
        yield Finding(
            what="Images cannot be stored",
            why=error.strerror or _first_line(error),
            remedy="free space, or correct VAR_DIR or the bucket's permissions; no provider is called until then",
        )


def _estimates() -> Iterator[Finding]:
    found = forecasts.accuracy(given_estimates.measured())
    if found is None or found.count < _ENOUGH_MEASURED or _COVERED[0] <= found.covered_p90 <= _COVERED[1]:
        return
    is_late = found.covered_p90 < _COVERED[0]
    yield Finding(
        what=f"Of the last {found.count} requests that waited, {found.covered_p90:.0%} started before startP90",
        why="about 90 % should. "
        + ("Less was done than before: fewer workers, slower providers, or bursts" if is_late else "Waits got shorter"),
        remedy="wait: estimates are corrected by what is measured; "
        + ("if it stays, start more workers" if is_late else "no action is needed if it does not stay"),
    )


def _suspended() -> Iterator[Finding]:
    for breaker in circuit_breaker.open_breakers():
        if not breaker.is_open and breaker.until < datetime.now(UTC) + _STUCK_AFTER:
            continue  # the provider asked for a short wait, which is normal
        waiting = GenerationQueue.objects.filter(waits_for=breaker.provider).values_list("pk", flat=True)
        yield Finding(
            what=f"{breaker.provider} is suspended until {breaker.until:%Y-%m-%d %H:%M:%S} UTC",
            why=f"{ErrorCode(breaker.reason).label}. {ADVICE[breaker.reason]}",
            remedy=f"manage.py resume_provider {breaker.provider}; otherwise it is called again at that time",
            ids=tuple(waiting[:MOST]),
        )


def _models_set_aside() -> Iterator[Finding]:
    for row in circuit_breaker.unserved_model_states():
        yield Finding(
            what=f"{row.provider} does not serve {row.model}; it is not used until {row.set_aside_until:%H:%M:%S} UTC",
            why=f"{ErrorCode(row.reason).label}. {ADVICE[row.reason]}",
            remedy=f"manage.py resume_provider {row.provider}; or disable the model in the admin",
        )


def _broken_models() -> Iterator[Finding]:
    for model, reason in catalogue.broken_models():
        yield Finding(
            what=f"The model {model} is not used, since its row is invalid",
            why=reason,
            remedy="correct the model in the admin",
        )


def _ending_models() -> Iterator[Finding]:
    configured = {(name, model) for name in settings.PROVIDERS if (model := settings.PROVIDER_MODELS.get(name))}
    newest = GenerationAttempt.objects.order_by("-pk").values_list("provider", "model")[:_SAMPLE]
    used = {(name, model) for name, model in newest if name in settings.PROVIDERS}
    for deprecation in catalogue.deprecations(sorted(configured | used), within=_SOON):
        is_configured = (deprecation.provider, deprecation.model) in configured
        if deprecation.is_over and not is_configured:
            continue  # it was used before its retirement
        yield Finding(
            what=_retirement(deprecation),
            why=_consequence(deprecation),
            remedy=_replacement(deprecation, is_configured=is_configured),
        )


def _retirement(deprecation: catalogue.Deprecation) -> str:
    if deprecation.is_over:
        return f"The model {deprecation.model} of {deprecation.provider} is retired, and the settings name it"
    return f"The model {deprecation.model} of {deprecation.provider} is retired on {deprecation.date}"


def _consequence(deprecation: catalogue.Deprecation) -> str:
    when = "instead" if deprecation.is_over else "instead from then on"
    if deprecation.successor:
        return f"{deprecation.successor} is used {when}; its images may look different, and its price may differ"
    return f"it has no successor to use {when}, so requests that name it are rejected"


def _replacement(deprecation: catalogue.Deprecation, *, is_configured: bool) -> str:
    if not deprecation.successor:
        return f"enter a successor of {deprecation.model} in the admin"
    if is_configured:
        return f"set {deprecation.provider.upper()}_IMAGE_MODEL={deprecation.successor}"
    return f"let clients name {deprecation.successor}"


def _sessions(*, sign_in: bool) -> Iterator[Finding]:
    """Find sessions without the settings of their kind of process: this process's, or all kinds with ``sign_in``."""
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
                remedy="run deploy/roles.sh again, which creates missing roles and sets their passwords",
            )


def _wrong_settings(kind: Kind, session: Any) -> Iterator[Finding]:
    if not (wrong := sessions.differences(kind, session)):
        return
    shown = ", ".join(f"{name} is {found}, not {wanted}" for name, (found, wanted) in wrong.items())
    if sessions.has_role_for_each_kind():
        why = f"the role {sessions.role_of(kind)} does not set them, or the session is older than the role's settings"
        remedy = "manage.py set_role_settings; then restart the processes, or RECONNECT in PgBouncer"
    else:
        why = "a pooler drops the options of a connection, so that only the role can set them"
        remedy = (
            "create a role for each kind of process with deploy/roles.sh, and put {kind} into the user name of"
            " DATABASE_URL, as in docs/scaling.md"
        )
    yield Finding(what=f"Sessions of the {kind} process have the wrong settings: {shown}", why=why, remedy=remedy)


_Checks = tuple[Callable[[], Iterator[Finding]], ...]
_OUTSIDE: Final[_Checks] = (_no_broker, _no_storage)
_IN_THE_TABLES: Final[_Checks] = (
    _no_process,
    _expired_leases,
    _not_taken,
    _no_queue_row,
    _batches,
    _estimates,
    _suspended,
    _models_set_aside,
    _broken_models,
    _ending_models,
    *webhook_checks.CHECKS,
)
