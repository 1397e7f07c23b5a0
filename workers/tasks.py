"""Celery's side: parse the message, call one function, let infrastructure errors be tried again."""

from __future__ import annotations

from functools import cache
from typing import Any

from celery import shared_task
from celery.signals import worker_ready, worker_shutdown, worker_shutting_down
from django.conf import settings
from django.db import InterfaceError, OperationalError

from generation import correlation
from workers import exposition
from workers.executor import Executor
from workers.policies.rates import RateLimiter
from workers.providers.registry import Registry
from workers.runtime import Runtime


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


@shared_task(
    bind=True,
    autoretry_for=(OperationalError, InterfaceError),
    retry_backoff=1,
    retry_backoff_max=5,
    retry_jitter=True,
    max_retries=2,
)
def generate(self: Any, request_id: str) -> None:
    """Do one attempt of the request. A short hiccup of the database is tried again here; a provider's failure is not,
    since a wait in a worker's memory dies with it: that one goes back to the ledger."""
    call = str((self.request.headers or {}).get(correlation.FIELD, ""))
    with correlation.belonging_to(correlation.accepted(call) if call else ""):
        executor().run(request_id)


@worker_ready.connect
def _start(**_: object) -> None:
    try:
        executor()
    except ValueError as error:
        # Celery swallows what a signal's receiver raises, and a worker that cannot work must not look like one.
        raise SystemExit(f"error: PROVIDERS: {error}") from None
    runtime().start()
    exposition.serve()


@worker_shutting_down.connect
def _begin_to_stop(**_: object) -> None:
    runtime().stopping.set()


@worker_shutdown.connect
def _stop(**_: object) -> None:
    runtime().stop()
