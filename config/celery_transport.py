"""Celery's transport: deliver each message from Redis once, as soon as a slot of the worker is free, and run it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, Final

from celery.concurrency.thread import TaskPool
from celery.worker.consumer import Consumer
from kombu.asynchronous import get_event_loop
from kombu.serialization import loads, prepare_accept_content
from kombu.transport import redis
from redis.exceptions import ResponseError

from generation import event_loop
from generation.db.outages import is_outage

logger = logging.getLogger(__name__)

#: Seconds before a worker reconnects to a broker that answers with an error.
_PAUSE_AFTER_REFUSAL: Final = 1.0


class Channel(redis.Channel):
    """Takes a message out of Redis without keeping a copy. kombu keeps one until the task begins, which costs two more
    round trips for each message, and redelivers it an hour after a crash; the dispatcher resends it sooner."""

    def basic_consume(self, queue: Any, no_ack: bool, callback: Any, consumer_tag: Any, **kwargs: Any) -> Any:
        """Consume messages as acknowledged."""
        return super().basic_consume(queue, no_ack=True, callback=callback, consumer_tag=consumer_tag, **kwargs)

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """Do nothing: the message is acknowledged already."""


class Poller(redis.MultiChannelPoller):
    """kombu's poller without restoring messages: there are no copies, and looking for them writes to Redis."""

    def on_poll_init(self, poller: Any) -> None:
        """Keep the poller, without kombu's restoring."""
        self.poller = poller

    def maybe_restore_messages(self) -> None:
        """Do nothing: there are no copies to restore."""


class Transport(redis.Transport):
    """kombu's Redis transport with our channel.

    An error that Redis answers counts as a lost connection. It is a temporary state of the server: a replica
    during a failover (READONLY, MASTERDOWN, UNBLOCKED), no memory (OOM), no snapshot on disk (MISCONF), no replicas
    (NOREPLICAS), a changed user (NOPERM). kombu treats it as an error of the channel, on which a worker would exit.
    """

    Channel = Channel
    connection_errors = (*redis.Transport.connection_errors, ResponseError)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = Poller()


class ReconnectingConsumer(Consumer):
    """Celery's consumer, which waits before it reconnects to a broker that answers with an error, and logs one line."""

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Close the connection, so that the next one resolves the broker's name again."""
        logger.warning("Connection to broker lost, connecting again: %s: %s", type(exc).__name__, exc)
        connection: Any = self.connection
        with contextlib.suppress(Exception):  # it is broken in any case
            connection.collect()
        if isinstance(exc, ResponseError):
            time.sleep(_PAUSE_AFTER_REFUSAL)


class CoroutinePool(TaskPool):
    """Celery's thread pool, which runs a task that has an attribute ``coroutine`` on the process's event loop instead,
    so that a slot that waits for a provider needs no thread.

    It wakes the consumer loop when a slot becomes free. Without prefetch the loop would sleep until its next timer, for
    up to a second, while a slot is free and a message waits.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._accepted = prepare_accept_content(self.app.conf.accept_content) if self.app else None
        self._running: set[Future[None]] = set()

    def on_apply(
        self,
        target: Any,
        args: Any = None,
        kwargs: Any = None,
        callback: Any = None,
        accept_callback: Any = None,
        **options: Any,
    ) -> Any:
        """Run the task."""
        coroutine = self.app and getattr(self.app.tasks[args[0]], "coroutine", None)
        apply: Any = super().on_apply
        in_thread = partial(apply, target, args, kwargs, callback, **options)
        if coroutine is None:
            result = in_thread(accept_callback)
            result.f.add_done_callback(_wake)
            return result
        accept_callback(os.getpid(), time.monotonic())
        running = event_loop.loop.submit(self._run(coroutine, args, callback, in_thread))
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        running.add_done_callback(_wake)
        return running

    def on_stop(self) -> None:
        """Wait for the running tasks."""
        wait(list(self._running))
        super().on_stop()

    async def _run(self, coroutine: Any, args: Any, callback: Any, in_thread: Callable[..., Any]) -> None:
        """Run the coroutine. Where it fails, Celery runs the task again in a thread, and retries it by its rules."""
        _, _, headers, body, content_type, encoding = args
        started = time.monotonic()
        try:
            positional, *_ = loads(body, content_type, encoding, accept=self._accepted)
            await coroutine(headers, *positional)
        except BaseException as error:  # a task of which Celery hears no end would keep its slot for good
            if not is_outage(error):  # of an outage Celery writes its own line
                logger.exception("a coroutine failed, its task is run in a thread")
            await asyncio.wrap_future(in_thread(None).f)
        else:
            callback((0, None, time.monotonic() - started))


def _wake(_: object) -> None:
    if hub := get_event_loop():
        hub.call_soon(_nothing)


def _nothing() -> None:
    pass
