"""Celery: transport and worker processes. The database decides which request may run, and when."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from celery import Celery, signals
from kombu import Queue
from kombu.transport import TRANSPORT_ALIASES

from config.observability import start_reporting
from config.startup import freeze_gc, require_settings
from generation.db.session_settings import Kind

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
if Path(sys.argv[0]).name == "celery":
    require_settings(Kind.WORKER)

#: In the order in which a worker polls them: it empties an earlier queue before it takes from a later one.
QUEUES = ("urgent", "high", "normal", "low")

# Registered by URL scheme, by which kombu decides whether a connection is encrypted.
TRANSPORT_ALIASES.update(redis="config.celery_transport:Transport", rediss="config.celery_transport:Transport")

app = Celery("visual-generation")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    imports=("workers.tasks",),
    task_queues=[Queue(name) for name in QUEUES],
    task_default_queue="normal",
    task_create_missing_queues=False,
    # A message is acknowledged when it is taken, so that a broker failure does not redeliver running work. The
    # dispatcher resends messages that a crash loses.
    task_acks_late=False,
    task_reject_on_worker_lost=False,
    worker_pool="config.celery_transport:CoroutinePool",
    worker_consumer="config.celery_transport:ReconnectingConsumer",
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,
    # Results are in the database.
    task_ignore_result=True,
    result_backend=None,
    task_serializer="json",
    accept_content=["json"],
    result_accept_content=["json"],
    # A client with access to Redis must not be able to stop a worker.
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    # Retry a broker that answers with an error like one that does not answer.
    broker_channel_error_retry=True,
    # Celery would cancel running tasks because a broker redelivers its copies of them; ours keeps no copies.
    worker_enable_prefetch_count_reduction=False,
    worker_max_tasks_per_child=200,
    task_publish_retry=False,
    broker_transport_options={
        "queue_order_strategy": "priority",
        # A submit waits at most this long for a Redis that does not answer. It must exceed the 1 s of a worker's BRPOP.
        "socket_timeout": 2,
        "socket_connect_timeout": 1,
        "max_retries": 1,
        "interval_start": 0,
        "interval_step": 0.1,
        "interval_max": 0.1,
    },
)


@signals.worker_init.connect
def _report(**_: object) -> None:
    start_reporting("worker")


@signals.worker_ready.connect
def _freeze_gc(**_: object) -> None:
    freeze_gc()
