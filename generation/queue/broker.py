"""Redis as the broker: publish within a time limit, read the queues' depth, detect that Redis lost its messages."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

from celery import current_app
from django.conf import settings
from redis.exceptions import LockNotOwnedError
from redis.lock import Lock

from generation import event_loop
from generation.caching import Cooldown, register
from generation.queue import processes
from generation.states import WEIGHTS

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: Redis key that marks the messages as complete. If it is missing, Redis has lost its data. It has another value while
#: the messages are sent again.
_EPOCH_KEY: Final = "vga:epoch"
_COMPLETE, _RESENDING = "1", "0"
#: Redis key of the process that sends due messages, and the seconds after which that process counts as dead.
_SENDER_KEY: Final = "vga:sender"
_SENDER_LIFETIME: Final = 3.0
#: Redis key that is written to check that Redis accepts writes.
_PROBE_KEY: Final = "vga:probe"
_PROBE_SECONDS: Final = 60
#: Seconds for which a reading of the queues' depths is used.
_DEPTH_LIFETIME: Final = 0.2
#: Messages that a queue may hold at least, also without a live worker.
_FEWEST_MESSAGES: Final = 4
#: Time limit for one operation on Redis in seconds, however many round trips it takes.
_TIMEOUT: Final = 1.5


class BrokerUnavailable(Exception):  # noqa: N818  a state, not a mistake
    """Redis does not answer, or did not a few seconds ago and the cooldown is active."""


class _QueueWindow:
    """This process's view of the depths of the queues."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cooldown = Cooldown()
        self.cache_clear()
        register(self)

    def cache_clear(self) -> None:
        """Forget the depths, so that the next call reads them from Redis."""
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
            return max(0, self.size() - self._depths[queue])

    @staticmethod
    def size() -> int:
        """Return the most messages that a queue in Redis may hold.

        They are received in the order in which they were sent, so an owner who submits now is behind them, whatever
        its turn is. Twice as many as run at once keep the workers busy.
        """
        return min(settings.DISPATCH_WINDOW, max(_FEWEST_MESSAGES, 2 * processes.capacity().slots))

    def forget(self) -> None:
        """Read the depths again at the next use, after other processes have received many messages."""
        with self._lock:
            self._read_at = float("-inf")

    def add(self, queue: str, messages: int) -> None:
        """Add messages that this process has just sent to the depth."""
        with self._lock:
            self._depths[queue] = self._depths.get(queue, 0) + messages

    def failed(self, error: Exception) -> BrokerUnavailable:
        """Start the cooldown, log the error and return the exception to raise."""
        self._cooldown.start()
        cause = error.__cause__ or error  # the exception of a producer's batch only has the reason as its cause
        logger.warning("the broker is unavailable, queued requests are sent when it is back: %r", cause)
        return BrokerUnavailable(str(error))

    def _read_depths(self) -> dict[str, int]:
        try:
            return _depths()
        except Exception as error:  # kombu, redis-py and the socket each raise their own
            raise self.failed(error) from None


window: Final = _QueueWindow()


def _query(operation: Callable[[Any], T]) -> T:
    """Run an operation with the redis-py client of kombu's connection pool, over which messages are sent, too.

    The time limit is for all round trips together: a new connection takes a dozen of them, and a slow Redis delays
    each.
    """

    def run() -> T:
        with current_app.pool.acquire(block=True, timeout=5) as connection:
            channel: Any = connection.default_channel  # type: ignore[attr-defined]
            with _reconnecting(channel), channel.conn_or_acquire() as client:
                return operation(client)

    return event_loop.run_within(_TIMEOUT, run)


@contextmanager
def _reconnecting(channel: Any) -> Iterator[None]:
    """Close the channel's connections to Redis on any error.

    A server that became a replica keeps answering on them; a new connection resolves the host name again and finds the
    new primary.
    """
    try:
        yield
    except Exception:
        channel.pool.disconnect()
        raise


def _depths() -> dict[str, int]:
    def read(client: Any) -> list[int]:
        with client.pipeline() as pipe:
            for queue in WEIGHTS:
                pipe.llen(queue)
            return [int(depth) for depth in pipe.execute()]

    return dict(zip(WEIGHTS, _query(read), strict=True))


def waiting_messages() -> int:
    """Return the number of messages in Redis. Raises an error of the client library if Redis cannot be reached."""
    return sum(_depths().values())


def check_broker() -> None:
    """Write to Redis. Raises an error of the client library if Redis cannot be reached or rejects writes, as a replica
    or a full server does."""
    _query(lambda client: client.set(_PROBE_KEY, "1", ex=_PROBE_SECONDS))


def publish(task: str, calls: Sequence[Sequence[Any]], *, queue: str, headers: dict[str, str] | None = None) -> None:
    """Send a message for each call (its arguments), all in one round trip. Raises errors of kombu, redis-py and the
    socket, and :class:`TimeoutError`; after an error it is unknown which messages have arrived."""

    def send_tasks() -> None:
        producers: Any = current_app.producer_pool
        with (
            producers.acquire(block=True) as producer,
            _reconnecting(producer.channel),
            producer.batch(max_size=len(calls)),
        ):
            for arguments in calls:
                # Redis creates a missing list on the first push, so the queue needs no declaration.
                current_app.send_task(
                    task, args=arguments, queue=queue, headers=headers, retry=False, declare=[], producer=producer
                )

    event_loop.run_within(_TIMEOUT, send_tasks)


def begin_sending(sender: str) -> bool:
    """Return whether this process may send due messages, which one does at a time: the messages of two would come in
    any order. Raises :class:`BrokerUnavailable`."""
    return bool(_query_or_raise(lambda client: _sender_lock(client).acquire(blocking=False, token=sender)))


def end_sending(sender: str) -> None:
    """Let another process send. Raises :class:`BrokerUnavailable`; then others wait until this one counts as dead."""

    def release(client: Any) -> None:
        with suppress(LockNotOwnedError):  # it took too long and counts as dead
            _sender_lock(client).do_release(sender)

    _query_or_raise(release)


def _sender_lock(client: Any) -> Lock:
    return Lock(client, _SENDER_KEY, timeout=_SENDER_LIFETIME, thread_local=False)


def has_kept_messages() -> bool:
    """Return whether Redis has lost no message since the last :func:`mark_complete`. Raises
    :class:`BrokerUnavailable`."""
    return bool(_query_or_raise(lambda client: client.get(_EPOCH_KEY)) == _COMPLETE.encode())


def mark_resending() -> None:
    """Record in Redis that its messages were lost and are being sent again. Raises :class:`BrokerUnavailable`."""
    _query_or_raise(lambda client: client.set(_EPOCH_KEY, _RESENDING))


def mark_complete() -> None:
    """Record in Redis that no message is lost, unless it was emptied since :func:`mark_resending`. Raises
    :class:`BrokerUnavailable`."""
    _query_or_raise(lambda client: client.set(_EPOCH_KEY, _COMPLETE, xx=True))


def _query_or_raise(operation: Callable[[Any], T]) -> T:
    try:
        return _query(operation)
    except Exception as error:
        raise window.failed(error) from None
