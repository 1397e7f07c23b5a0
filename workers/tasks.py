"""The Celery tasks: parse the message, call one function, and retry on an outage of the database."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import cache, partial
from typing import Any, Final

from celery import shared_task
from celery.signals import worker_init, worker_ready, worker_shutdown, worker_shutting_down
from django.conf import settings

from generation.db.outages import DatabaseUnavailableError, raising_unavailable
from generation.requests import bulk_actions
from generation.telemetry import correlation
from workers import metrics_server, result_writer
from workers.executor import Executor
from workers.image_processes import ImageProcesses
from workers.policies.rate_limit import RateLimiter
from workers.processes import end_soon
from workers.providers.registry import Registry
from workers.runtime import Runtime

#: Seconds after which a bulk action yields its worker slot to waiting requests, by sending itself a new message.
_BULK_TURN: Final = 2.0


@cache
def runtime() -> Runtime:
    """Return the runtime of this process."""
    return Runtime(slots=settings.MAX_CONCURRENT_REQUESTS)


@cache
def executor() -> Executor:
    """Return the executor of this process."""
    return Executor(
        runtime=runtime(),
        providers=Registry(settings.PROVIDERS, settings.PROVIDER_OPTIONS),
        rates=RateLimiter(settings.REDIS_URL),
        processes=_processes,
    )


#: Image processes of one worker. With a disk they are busy decoding, with a bucket they mostly wait for uploads.
_WITH_DISK: Final = min(4, os.cpu_count() or 1)
_WITH_BUCKET: Final = 16
#: The processes of this worker; none outside of a worker.
_processes: ImageProcesses | None = None


@worker_init.connect
def _fork(**_: object) -> None:
    """Fork the template of the image processes, while this process has no other thread, connection or secret of a
    client."""
    global _processes
    limit = _WITH_BUCKET if settings.RESULT_STORAGE == "s3" else _WITH_DISK
    _processes = ImageProcesses(result_writer.check, result_writer.save, limit=limit)


#: Celery distinguishes errors by class only; see :func:`generation.db.outages.raising_unavailable`.
_RETRY_OUTAGES: Final[dict[str, Any]] = {
    "autoretry_for": (DatabaseUnavailableError,),
    "retry_backoff": 1,
    "retry_backoff_max": 5,
    "retry_jitter": True,
    "max_retries": 2,
}


@shared_task(bind=True, **_RETRY_OUTAGES)
def generate(self: Any, request_id: str) -> None:
    """Run the request. Celery retries after a short outage of the database. A provider's failure is retried through the
    queue row instead, since a retry in a worker's memory would be lost with the worker.

    A worker runs :func:`_generate` instead, and this only if that failed.
    """
    with _correlated(self.request.headers or {}), raising_unavailable():
        executor().run(request_id)


async def _generate(headers: Mapping[str, Any], request_id: str) -> None:
    with _correlated(headers):
        await executor().run_request(request_id)


def _correlated(headers: Mapping[str, Any]) -> AbstractContextManager[None]:
    header = str(headers.get(correlation.FIELD, ""))
    return correlation.bound_to(correlation.accepted(header) if header else "")


generate.coroutine = _generate  # for config.celery_transport.CoroutinePool


@shared_task(bind=False, **_RETRY_OUTAGES)
def advance_bulk_action(bulk_id: int) -> None:
    """Do steps of a bulk action, and send a message for the next ones. A failed step has changed nothing."""
    started = time.monotonic()
    with raising_unavailable():
        while runtime().database.blocking(partial(bulk_actions.advance, bulk_id)):
            if runtime().stopping.is_set():
                return  # the dispatcher continues the action
            if time.monotonic() - started > _BULK_TURN:
                bulk_actions.send(bulk_id)
                return


@worker_ready.connect
def _start(**_: object) -> None:
    try:
        executor()
    except ValueError as error:
        # Celery swallows exceptions of a signal's receiver, and a worker with invalid settings must not seem healthy.
        raise SystemExit(f"error: PROVIDERS: {error}") from None
    runtime().start()
    metrics_server.serve()


@worker_shutting_down.connect
def _begin_to_stop(**_: object) -> None:
    runtime().stopping.set()


@worker_shutdown.connect
def _stop(**_: object) -> None:
    end_soon()  # no task runs any more
    runtime().stop()
