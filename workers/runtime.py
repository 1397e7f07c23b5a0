"""What a worker process keeps going beside its tasks: the event loop for provider calls, and the heartbeat."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from django.conf import settings
from django.db import DatabaseError, InterfaceError, close_old_connections, connection

from generation import background, lifecycle
from generation.clock import Now
from generation.models import WorkerProcess
from generation.states import ErrorCode
from workers.providers.base import ProviderError

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Runtime:
    """One for each worker process. Its name is unique among the live ones."""

    def __init__(self, *, slots: int) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self.slots = slots
        self._working_on: set[str] = set()
        self._stopping = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to report that this worker is up."""
        self._heart.start()

    def stop(self) -> None:
        """Say at once that this worker is gone, instead of letting its heartbeat run out."""
        self._stopping.set()
        if self._heart.is_alive():
            self._heart.join(timeout=5)
        try:
            WorkerProcess.objects.filter(pk=self.name).delete()
        except (DatabaseError, InterfaceError) as error:
            logger.warning("could not sign off: %s", error)

    @contextmanager
    def working_on(self, request_id: str) -> Iterator[None]:
        """While this lasts, the heartbeat renews the lease of the request."""
        self._working_on.add(request_id)
        try:
            yield
        finally:
            self._working_on.discard(request_id)

    def call(self, work: Coroutine[Any, Any, T], *, timeout: float) -> T:
        """Run the coroutine on the loop and wait for it. Raises :class:`ProviderError` with ``timeout`` after so many
        seconds in all, however busily the other side drips."""

        async def bounded() -> T:
            async with asyncio.timeout(timeout):
                return await work

        try:
            return background.loop.submit(bounded()).result()
        except TimeoutError:
            raise ProviderError(f"No picture within {timeout:g} s", code=ErrorCode.TIMEOUT) from None

    def _beat(self) -> None:
        interval = settings.HEARTBEAT_INTERVAL.total_seconds()
        while True:
            try:
                close_old_connections()
                WorkerProcess.objects.update_or_create(name=self.name, defaults={"slots": self.slots, "seen_at": Now()})
                lifecycle.extend_leases(list(self._working_on), worker=self.name)
            except (DatabaseError, InterfaceError) as error:
                logger.warning("heartbeat missed: %s", error)
            finally:
                connection.close()
            if self._stopping.wait(interval):
                return
