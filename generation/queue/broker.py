"""Redis as the broker: publish within a time limit, read the queues' depth, detect that Redis lost its messages."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from celery import current_app
from django.conf import settings

from generation import event_loop
from generation.caching import Cooldown, register
from generation.states import WEIGHTS

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: Kept in Redis; where it is missing, Redis has lost what it held. It has another value while that is sent again.
_EPOCH_KEY: Final = "vga:epoch"
_COMPLETE, _RESENDING = "1", "0"
#: Written to learn whether Redis takes writes.
_PROBE_KEY: Final = "vga:probe"
_PROBE_SECONDS: Final = 60
#: For how many seconds a look at the depth of the queues holds.
_DEPTH_LIFETIME: Final = 0.2
#: Seconds that anybody waits for one answer of Redis, however many round trips it takes.
_TIMEOUT: Final = 1.5


class BrokerUnavailable(Exception):  # noqa: N818  a state of the world, not a mistake
    """Redis does not answer, or did not within the last seconds."""


class _QueueWindow:
    """The depth of the queues, as far as this process knows it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cooldown = Cooldown()
        self.cache_clear()
        register(self)

    def cache_clear(self) -> None:
        """Ask Redis again at the next call."""
        self._depths: dict[str, int] = {}
        self._read_at = float("-inf")

    def free_capacity(self, queue: str) -> int:
        """Return how many more messages the queue may hold. Raises :class:`BrokerUnavailable`."""
        with self._lock:
            if self._cooldown.is_active():
                raise BrokerUnavailable
            if time.monotonic() - self._read_at > _DEPTH_LIFETIME:
                self._depths = self._read_depths()
                self._read_at = time.monotonic()
            return max(0, int(settings.DISPATCH_WINDOW) - self._depths[queue])

    def add(self, queue: str, messages: int) -> None:
        """Count messages that this process has just sent."""
        with self._lock:
            self._depths[queue] = self._depths.get(queue, 0) + messages

    def failed(self, error: Exception) -> BrokerUnavailable:
        """Start the cooldown, log the error and return what to raise."""
        self._cooldown.start()
        cause = error.__cause__ or error  # the error of a batch does not say why
        logger.warning("the broker is unavailable, queued requests are sent when it is back: %r", cause)
        return BrokerUnavailable(str(error))

    def _read_depths(self) -> dict[str, int]:
        try:
            return _depths()
        except Exception as error:  # kombu, redis-py and the socket each raise their own
            raise self.failed(error) from None


window: Final = _QueueWindow()


def _ask(question: Callable[[Any], T]) -> T:
    """Ask Redis over the connections that messages leave by, within a time limit for all round trips together: a new
    connection is a dozen of them, and a slow Redis takes its time for each."""

    def ask() -> T:
        # redis-py's client, of kombu's Redis transport
        with current_app.pool.acquire(block=True, timeout=5) as connection:
            channel: Any = connection.default_channel  # type: ignore[attr-defined]
            with _reconnecting(channel), channel.conn_or_acquire() as client:
                return question(client)

    return event_loop.run_within(_TIMEOUT, ask)


@contextmanager
def _reconnecting(channel: Any) -> Iterator[None]:
    """On any error, close the channel's connections to Redis. A server that became a replica answers on them for ever;
    a new connection looks the name up again and finds the new primary."""
    try:
        yield
    except Exception:
        channel.pool.disconnect()
        raise


def _depths() -> dict[str, int]:
    def look(client: Any) -> list[int]:
        with client.pipeline() as pipe:
            for queue in WEIGHTS:
                pipe.llen(queue)
            return [int(depth) for depth in pipe.execute()]

    return dict(zip(WEIGHTS, _ask(look), strict=True))


def waiting_messages() -> int:
    """Return the number of messages in Redis. Raises the broker client's error if it cannot be reached."""
    return sum(_depths().values())


def check_broker() -> None:
    """Write to Redis. Raises the broker client's error if it cannot be reached or takes no writes, like a replica or a
    full server."""
    _ask(lambda client: client.set(_PROBE_KEY, "1", ex=_PROBE_SECONDS))


def publish(task: str, calls: Sequence[Sequence[Any]], *, queue: str, headers: dict[str, str] | None = None) -> None:
    """Send a message for each call (its arguments), all in one round trip. Raises whatever kombu, redis-py and the
    socket raise, and :class:`TimeoutError`; what has arrived is not known then."""

    def send_tasks() -> None:
        producers: Any = current_app.producer_pool
        with (
            producers.acquire(block=True) as producer,
            _reconnecting(producer.channel),
            producer.batch(max_size=len(calls)),
        ):
            for arguments in calls:
                # Redis makes a list by itself where there is none, so there is nothing to declare.
                current_app.send_task(
                    task, args=arguments, queue=queue, headers=headers, retry=False, declare=[], producer=producer
                )

    event_loop.run_within(_TIMEOUT, send_tasks)


def has_kept_messages() -> bool:
    """Return whether Redis still holds what it held at the last :func:`mark_complete`. Raises
    :class:`BrokerUnavailable`."""
    return bool(_ask_or_raise(lambda client: client.get(_EPOCH_KEY)) == _COMPLETE.encode())


def mark_resending() -> None:
    """Note in Redis that its messages were lost and are being sent again. Raises :class:`BrokerUnavailable`."""
    _ask_or_raise(lambda client: client.set(_EPOCH_KEY, _RESENDING))


def mark_complete() -> None:
    """Note in Redis that no message is lost, unless it was emptied since :func:`mark_resending`. Raises
    :class:`BrokerUnavailable`."""
    _ask_or_raise(lambda client: client.set(_EPOCH_KEY, _COMPLETE, xx=True))


def _ask_or_raise(question: Callable[[Any], T]) -> T:
    try:
        return _ask(question)
    except Exception as error:
        raise window.failed(error) from None
