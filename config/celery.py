"""Celery: transport and worker processes. What may run, and when, is decided by the database."""

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

#: In the order in which a worker looks at them: an earlier one is emptied before a later one is touched.
QUEUES = ("urgent", "high", "normal", "low")

# By their schemes, since kombu looks at these to know whether a connection is encrypted.
TRANSPORT_ALIASES.update(redis="config.celery_transport:Transport", rediss="config.celery_transport:Transport")

app = Celery("visual-generation")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    imports=("workers.tasks",),
    task_queues=[Queue(name) for name in QUEUES],
    task_default_queue="normal",
    task_create_missing_queues=False,
    # A message is done with once it is taken, so that a broker's hiccup does not deliver running work again. What a
    # crash loses, the database brings back.
    task_acks_late=False,
    task_reject_on_worker_lost=False,
    worker_pool="config.celery_transport:WakeupTaskPool",
    worker_consumer="config.celery_transport:ReconnectingConsumer",
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,
    # The database keeps the results.
    task_ignore_result=True,
    result_backend=None,
    task_serializer="json",
    accept_content=["json"],
    result_accept_content=["json"],
    # Whoever reaches Redis must not be able to stop a worker.
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    # A broker that answers with an error is waited for as one that does not answer.
    broker_channel_error_retry=True,
    # It would follow from copies of running tasks that a broker delivers again, and ours keeps none.
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
