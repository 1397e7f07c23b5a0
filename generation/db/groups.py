"""Group commit: statements for single rows that are asked for while one is under way go together into the next one.

An item that comes alone is run at once, so grouping adds no delay to an idle process. Under load one statement and one
commit serve many items, and cost a fraction of as many single ones.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Generic, TypeAlias, TypeVar
from weakref import WeakSet

from django.db import connection

from generation.db.outages import is_lost_connection

logger = logging.getLogger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")
_Future: TypeAlias = concurrent.futures.Future[Any] | asyncio.Future[Any]

#: Maximum number of items in one statement. It bounds how long its locks are held.
MAX_ITEMS: Final = 100
#: Seconds after which an idle lane returns its connection and ends its thread.
_IDLE_SECONDS: Final = 1.0


class Lane:
    """A thread with one connection, which runs the groups of one or several kinds, one after another.

    The thread starts with the first item and ends when there is nothing to do.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._groups: list[Group[Any, Any]] = []
        self._is_running = False
        self._wanted = threading.Condition()
        _lanes.add(self)

    def add(self, group: Group[Any, Any]) -> None:
        """Let the lane run this group too."""
        self._groups.append(group)

    def wake(self) -> None:
        """Run the groups that have items. Does not block."""
        with self._wanted:
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
            self._wanted.notify()

    def forget(self) -> None:
        """Start without thread and items: after a fork, they belong to the parent."""
        self._wanted = threading.Condition()
        self._is_running = False
        for group in self._groups:
            group.forget()

    def _work(self) -> None:
        while True:
            with self._wanted:
                if not any(self._groups) and not self._wanted.wait_for(lambda: any(self._groups), _IDLE_SECONDS):
                    self._is_running = False
                    break
            for group in self._groups:
                group.run()
        connection.close()


_lanes: Final[WeakSet[Lane]] = WeakSet()


def _forget_after_fork() -> None:
    for lane in list(_lanes):
        lane.forget()


os.register_at_fork(after_in_child=_forget_after_fork)


class Group(Generic[Item, Result]):
    """Items of one kind that wait for the next statement of a lane."""

    def __init__(self, lane: Lane, act: Callable[[Sequence[Item]], Sequence[Result | None]]) -> None:
        """``act`` runs a statement for the items and returns their results in the same order, None for an item that it
        could not serve: its row does not match, or another transaction has locked it."""
        self._lane = lane
        self._act = act
        self._waiting: deque[tuple[Item, _Future]] = deque()
        lane.add(self)

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def forget(self) -> None:
        """Start without items: after a fork, they belong to the parent."""
        self._waiting = deque()

    def ask(self, item: Item) -> Result | None:
        """Return the result for this item, which a thread waits for.

        The result is None also if the statement failed because of any of several items; then each item should be run
        alone, so that only the faulty one fails. Raises the error if there is no other item, and if the connection was
        lost: then the statement may have been committed.
        """
        future: concurrent.futures.Future[Result | None] = concurrent.futures.Future()
        self._put(item, future)
        return future.result()

    async def ask_async(self, item: Item) -> Result | None:
        """Return the result for this item, as :meth:`ask` does, to a coroutine."""
        future: asyncio.Future[Result | None] = asyncio.get_running_loop().create_future()
        self._put(item, future)
        return await future

    def _put(self, item: Item, future: _Future) -> None:
        self._waiting.append((item, future))
        self._lane.wake()

    def run(self) -> None:
        """Run one statement for the items that wait."""
        taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_ITEMS))]
        if not taken:
            return
        items = [item for item, _ in taken]
        results: Sequence[Result | None] = [None] * len(items)
        failure: BaseException | None = None
        try:
            given = self._act(items)
            if len(given) != len(items):
                raise ValueError(f"{len(given)} results for {len(items)} items")
            results = given
        except Exception as error:
            connection.close()
            if is_lost_connection(error) or len(items) == 1:  # it is the faulty one
                failure = error
            else:
                # Not the text of the error, which may have a row's content.
                logger.warning("%d items are run one by one: %s", len(items), type(error).__name__)
        except BaseException as error:  # nothing may keep the callers waiting
            failure = error
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Future, Any]]] = {}
        for (_, future), result in zip(taken, results, strict=True):
            if isinstance(future, asyncio.Future):
                by_loop.setdefault(future.get_loop(), []).append((future, result))
            else:
                _resolve([(future, result)], failure)
        for loop, outcomes in by_loop.items():
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_resolve, outcomes, failure)


def _resolve(outcomes: Sequence[tuple[_Future, Any]], failure: BaseException | None) -> None:
    for future, result in outcomes:
        if future.done():  # its coroutine was cancelled
            continue
        if failure is not None:
            future.set_exception(failure)
        else:
            future.set_result(result)
