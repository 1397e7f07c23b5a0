"""Celery: transport and worker processes. What may run, and when, is decided by the database."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final

from celery import Celery, bootsteps, signals
from kombu import Queue

from config.observing import start_reporting
from config.startup import require_settings, settle

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
if Path(sys.argv[0]).name == "celery":
    require_settings()

#: Seconds between two looks at whether a slot of a worker is free.
_LOOK_PAUSE: Final = 0.05

#: In the order in which a worker looks at them: an earlier one is emptied before a later one is touched.
QUEUES = ("urgent", "high", "normal", "low")

app = Celery("visual-generation")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    imports=("workers.tasks",),
    task_queues=[Queue(name) for name in QUEUES],
    task_default_queue="normal",
    task_create_missing_queues=False,
    # The message is acknowledged before the work, so that a broker's hiccup does not deliver running work again.
    # What a crash loses, the database brings back.
    task_acks_late=False,
    task_reject_on_worker_lost=False,
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
    worker_max_tasks_per_child=200,
    task_publish_retry=False,
    broker_transport_options={
        "queue_order_strategy": "priority",
        "visibility_timeout": 3600,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        # A submit waits at most this long for a Redis that does not answer. It must exceed the 1 s of a worker's BRPOP.
        "socket_timeout": 2,
        "socket_connect_timeout": 1,
        "max_retries": 1,
        "interval_start": 0,
        "interval_step": 0.1,
        "interval_max": 0.1,
    },
)


class LookOften(bootsteps.StartStopStep):
    """Without prefetch, a worker whose slots are all taken sleeps for a second at a time, however soon one is free."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def register_with_event_loop(self, consumer: Any, hub: Any) -> None:
        """Called with every connection to the broker, which forgets the timers of the last one."""
        hub.call_repeatedly(_LOOK_PAUSE, lambda: None)


app.steps["consumer"].add(LookOften)


@signals.worker_init.connect
def _report(**_: object) -> None:
    start_reporting("worker")


@signals.worker_ready.connect
def _settle(**_: object) -> None:
    settle()
