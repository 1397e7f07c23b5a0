"""Few attempts of a process work at a time, however many there are."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.support.stack import wait_until
from workers.attempt_slots import AttemptSlots


def test_no_more_than_so_many_have_a_turn() -> None:
    slots, free = AttemptSlots(2), threading.Event()
    lock = threading.Lock()
    inside: list[int] = []
    most = 0

    def work(number: int) -> None:
        nonlocal most
        with slots:
            with lock:
                inside.append(number)
                most = max(most, len(inside))
            free.wait(5)
            with lock:
                inside.remove(number)

    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(work, number) for number in range(8)]
        wait_until(lambda: len(inside) == 2, what="two at work")
        free.set()
        for one in done:
            one.result(5)
    assert most == 2


def test_a_slot_is_released_while_blocked_and_acquired_again() -> None:
    slots, free = AttemptSlots(1), threading.Event()
    order: list[str] = []

    def first() -> None:
        with slots:
            with slots.released():
                order.append("left")
                free.wait(5)
            order.append("back")

    def second() -> None:
        with slots:
            order.append("taken")
            free.set()
            order.append("given")

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(first)
        wait_until(lambda: order == ["left"], what="the first")
        pool.submit(second).result(5)
        one.result(5)
    assert order == ["left", "taken", "given", "back"]


@pytest.mark.parametrize("within", [True, False])
def test_a_fault_gives_the_turn_back_once(within: bool) -> None:
    slots = AttemptSlots(1)
    with suppress(RuntimeError), slots:
        if within:
            with slots.released():
                raise RuntimeError
        raise RuntimeError
    assert slots.acquire(blocking=False)
    assert not slots.acquire(blocking=False)
