"""How messages come from Redis to the threads of a worker: once, and as soon as one of them is free."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Any, Final

from celery.concurrency.thread import TaskPool
from celery.worker.consumer import Consumer
from kombu.asynchronous import get_event_loop
from kombu.transport import redis
from redis.exceptions import ResponseError

logger = logging.getLogger(__name__)

#: Seconds before a worker connects again to a broker that answers and refuses.
_PAUSE_AFTER_REFUSAL: Final = 1.0


class Channel(redis.Channel):
    """Takes a message out of Redis for good. kombu would keep a copy until the task begins, which is two more round
    trips for each message, and send it again an hour after a crash; the database knows sooner what was lost."""

    def basic_consume(self, queue: Any, no_ack: bool, callback: Any, consumer_tag: Any, **kwargs: Any) -> Any:
        """Consume what comes as acknowledged."""
        return super().basic_consume(queue, no_ack=True, callback=callback, consumer_tag=consumer_tag, **kwargs)

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """Nothing is left to be done."""


class Poller(redis.MultiChannelPoller):
    """kombu's, which restores no messages: the channel keeps no copies, and looking for them is a write."""

    def on_poll_init(self, poller: Any) -> None:
        """Keep the poller and nothing else."""
        self.poller = poller

    def maybe_restore_messages(self) -> None:
        """Nothing is there to be restored."""


class Transport(redis.Transport):
    """kombu's, with our channel.

    An error that Redis answers with counts as a lost connection. It is a state of the server that ends: a replica
    during a failover (READONLY, MASTERDOWN, UNBLOCKED), no memory (OOM), no snapshot on disk (MISCONF), no replicas
    (NOREPLICAS), a changed user (NOPERM). kombu takes it for a fault of the channel, on which a worker would exit.
    """

    Channel = Channel
    connection_errors = (*redis.Transport.connection_errors, ResponseError)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = Poller()


class ReconnectingConsumer(Consumer):
    """Celery's consumer, which waits a moment before it connects again to a broker that refuses, and logs a line."""

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Let go of the connection, so that the next one looks the broker's name up again."""
        logger.warning("Connection to broker lost, connecting again: %s: %s", type(exc).__name__, exc)
        connection: Any = self.connection
        with contextlib.suppress(Exception):  # it is lost in any case
            connection.collect()
        if isinstance(exc, ResponseError):
            time.sleep(_PAUSE_AFTER_REFUSAL)


class WakeupTaskPool(TaskPool):
    """Celery's threads, which wake the loop that takes messages when one of them has become free. Without prefetch it
    would sleep until its next timer, for up to a second, while a thread and a message wait for each other."""

    def on_apply(self, *args: Any, **kwargs: Any) -> Any:
        """Have a thread do it."""
        result = super().on_apply(*args, **kwargs)
        result.f.add_done_callback(_wake)
        return result


def _wake(_: object) -> None:
    if hub := get_event_loop():
        hub.call_soon(_nothing)


def _nothing() -> None:
    pass
