"""How a worker's threads come by their messages."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.concurrency.base import BasePool
from django.db import OperationalError
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


class Accepted(list[str]):
    """Tells in which order Celery heard of a task."""

    def accepted(self, pid: int, since: float) -> None:
        self.append("accepted")

    def succeeded(self, outcome: tuple[int, object, float]) -> None:
        assert outcome[:2] == (0, None)
        self.append("succeeded")


def message(pool: Any, coroutine: Any, target: Any, told: Accepted) -> Any:
    """Apply the pool to a message as Celery does it."""
    pool.app = Celery("test", broker="memory://", set_as_current=False)

    def task() -> None:
        pass

    pool.app.task(task, name="a task").coroutine = coroutine
    body = b'[["vga_1"], {}, null]'
    args = ("a task", "id", {"X-Request-ID": "abc"}, body, "application/json", "utf-8")
    return pool.apply_async(target, args, callback=told.succeeded, accept_callback=told.accepted)


def test_a_coroutine_runs_without_a_thread_and_wakes_the_loop(hub: Hub, pool: CoroutinePool) -> None:
    got: list[object] = []
    told = Accepted()

    async def coroutine(headers: dict[str, str], request_id: str) -> None:
        got.extend((told.copy(), headers["X-Request-ID"], request_id))

    message(pool, coroutine, None, told).result(10)
    wait_until(hub._pop_ready, what="something to do for the loop")
    assert got == [["accepted"], "abc", "vga_1"]
    assert told == ["accepted", "succeeded"]
    executor: Any = vars(pool)["executor"]
    assert not executor._threads


@pytest.mark.parametrize(
    ("error", "lines"),
    [(OperationalError("the connection is lost"), 0), (KeyError("x"), 1), (asyncio.CancelledError(), 1)],
)
def test_a_failed_coroutine_is_run_again_by_celery(
    hub: Hub, pool: CoroutinePool, caplog: pytest.LogCaptureFixture, error: BaseException, lines: int
) -> None:
    told = Accepted()

    async def coroutine(headers: dict[str, str], request_id: str) -> None:
        raise error

    def tracer(name: str, *_: object) -> tuple[int, None, float]:
        told.append(name)
        return 0, None, 0.1

    message(pool, coroutine, tracer, told).result(10)
    assert told == ["accepted", "a task", "succeeded"]
    assert len(caplog.records) == lines


def test_a_stopping_pool_waits_for_its_coroutines(hub: Hub) -> None:
    pool = CoroutinePool(limit=1)
    pool.start()
    told = Accepted()

    async def coroutine(headers: dict[str, str], request_id: str) -> None:
        await asyncio.sleep(0.2)

    message(pool, coroutine, None, told)
    pool.stop()
    assert told == ["accepted", "succeeded"]


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "rediss://127.0.0.1:1/0?ssl_cert_reqs=required"])
def test_messages_are_taken_for_good_over_every_kind_of_connection(url: str) -> None:
    with celery_app.connection_for_read(url) as connection:
        assert isinstance(connection.transport, Transport)
