"""A figure that several want at once, where connections to the database are scarce."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connections, transaction

from generation.remembered import Remembered
from tests.support.stack import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def being_made() -> Iterator[tuple[Remembered[int], threading.Event]]:
    """A figure that a thread is just making. Where the event is set, it comes to an end."""
    count, begun, go = 0, threading.Event(), threading.Event()

    def make() -> int:
        nonlocal count
        count += 1
        made = count
        begun.set()
        if made == 1:
            assert go.wait(10)
        return made

    figure = Remembered(make, seconds=60)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(figure)
        assert begun.wait(5)
        try:
            yield figure, go
        finally:
            go.set()
            assert first.result(5) == 1


def test_whoever_waits_for_another_gives_the_connection_back_first() -> None:
    mine: list[Any] = []

    def ask() -> int:
        mine.append(connections["default"])
        mine[0].ensure_connection()
        return figure()

    with being_made() as (figure, go), ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask)
        wait_until(lambda: mine and mine[0].connection is None, what="the connection's return")
        assert not asked.done()
        go.set()
        assert asked.result(5) == 1


def test_in_a_transaction_nobody_waits_since_the_connection_cannot_be_given_back() -> None:
    with being_made() as (figure, _go), transaction.atomic():
        assert figure() == 2
