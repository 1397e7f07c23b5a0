"""Celery's side: parse the message, call one function, let infrastructure errors be tried again."""

from __future__ import annotations

import time
from functools import cache
from typing import Any, Final

from celery import shared_task
from celery.signals import worker_ready, worker_shutdown, worker_shutting_down
from django.conf import settings

from generation.db.outages import DatabaseUnavailableError, raising_unavailable
from generation.requests import bulk_actions
from generation.telemetry import correlation
from workers import metrics_server
from workers.executor import Executor
from workers.policies.rate_limit import RateLimiter
from workers.providers.registry import Registry
from workers.runtime import Runtime

#: Seconds that a bulk action goes on before it lets the requests that wait for this slot have it.
_BULK_TURN: Final = 2.0


@cache
def runtime() -> Runtime:
    """The runtime of this process."""
    return Runtime(slots=settings.MAX_CONCURRENT_REQUESTS)


@cache
def executor() -> Executor:
    """The executor of this process."""
    return Executor(
        runtime=runtime(),
        providers=Registry(settings.PROVIDERS, settings.PROVIDER_OPTIONS),
        rates=RateLimiter(settings.REDIS_URL),
    )


#: Celery tells errors apart by their class; see :func:`generation.db.outages.raising_unavailable`.
_RETRY_OUTAGES: Final[dict[str, Any]] = {
    "autoretry_for": (DatabaseUnavailableError,),
    "retry_backoff": 1,
    "retry_backoff_max": 5,
    "retry_jitter": True,
    "max_retries": 2,
}


@shared_task(bind=True, **_RETRY_OUTAGES)
def generate(self: Any, request_id: str) -> None:
    """Do one attempt of the request. A short hiccup of the database is tried again here; a provider's failure is not,
    since a wait in a worker's memory dies with it: that one goes back to the ledger."""
    call = str((self.request.headers or {}).get(correlation.FIELD, ""))
    with correlation.bound_to(correlation.accepted(call) if call else ""), raising_unavailable():
        executor().run(request_id)


@shared_task(bind=False, **_RETRY_OUTAGES)
def advance_bulk_action(bulk_id: int) -> None:
    """Take some steps of a bulk action, and have the next ones taken. A step that failed changed nothing."""
    began = time.monotonic()
    with raising_unavailable():
        while bulk_actions.advance(bulk_id):
            if runtime().stopping.is_set():
                return  # the dispatcher goes on with it
            if time.monotonic() - began > _BULK_TURN:
                bulk_actions.send(bulk_id)
                return


@worker_ready.connect
def _start(**_: object) -> None:
    try:
        executor()
    except ValueError as error:
        # Celery swallows what a signal's receiver raises, and a worker that cannot work must not look like one.
        raise SystemExit(f"error: PROVIDERS: {error}") from None
    runtime().start()
    metrics_server.serve()


@worker_shutting_down.connect
def _begin_to_stop(**_: object) -> None:
    runtime().stopping.set()


@worker_shutdown.connect
def _stop(**_: object) -> None:
    runtime().stop()
