"""How messages come from Redis to the threads of a worker: once, and as soon as one of them is free."""

from __future__ import annotations

from typing import Any

from celery.concurrency.thread import TaskPool
from kombu.asynchronous import get_event_loop
from kombu.transport import redis


class Channel(redis.Channel):
    """Takes a message out of Redis for good. kombu would keep a copy until the task begins, which is two more round
    trips for each message, and send it again an hour after a crash; the database knows sooner what was lost."""

    def basic_consume(self, queue: Any, no_ack: bool, callback: Any, consumer_tag: Any, **kwargs: Any) -> Any:
        """Consume what comes as acknowledged."""
        return super().basic_consume(queue, no_ack=True, callback=callback, consumer_tag=consumer_tag, **kwargs)

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """Nothing is left to be done."""


class Transport(redis.Transport):
    """kombu's, with our channel."""

    Channel = Channel


class WakingPool(TaskPool):
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
