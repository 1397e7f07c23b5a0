"""How a worker's threads come by their messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery.concurrency.base import BasePool
from kombu.asynchronous import Hub, get_event_loop, set_event_loop

from config import celery_app
from config.celery_transport import CoroutinePool, Transport
from tests.support.stack import wait_until


@pytest.fixture
def hub() -> Iterator[Hub]:
    before, hub = get_event_loop(), Hub()
    set_event_loop(hub)
    yield hub
    hub.close()
    set_event_loop(before)


@pytest.fixture
def pool() -> Iterator[CoroutinePool]:
    pool = CoroutinePool(limit=1)
    pool.start()
    yield pool
    pool.stop()


def apply(pool: BasePool, act: Any) -> None:
    pool.apply_async(act, callback=lambda _: None)


def test_the_end_of_a_task_wakes_the_loop_that_takes_messages(hub: Hub, pool: CoroutinePool) -> None:
    apply(pool, lambda: None)
    wait_until(hub._pop_ready, what="something to do for the loop")


def test_so_does_one_that_fails(hub: Hub, pool: CoroutinePool) -> None:
    apply(pool, lambda: 1 / 0)
    wait_until(hub._pop_ready, what="something to do for the loop")


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "rediss://127.0.0.1:1/0?ssl_cert_reqs=required"])
def test_messages_are_taken_for_good_over_every_kind_of_connection(url: str) -> None:
    with celery_app.connection_for_read(url) as connection:
        assert isinstance(connection.transport, Transport)
