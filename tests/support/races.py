"""Several things at the same moment, on connections of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable

from django.db import connection


def at_once(*steps: Callable[[], bool]) -> list[bool]:
    """Run the steps in threads that start together; what each returned."""
    barrier = threading.Barrier(len(steps))
    returned: list[bool | BaseException] = [False] * len(steps)

    def run(index: int, step: Callable[[], bool]) -> None:
        try:
            connection.ensure_connection()
            barrier.wait(10)
            returned[index] = step()
        except BaseException as error:
            returned[index] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(steps)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for value in returned:
        if isinstance(value, BaseException):
            raise value
    return [value is True for value in returned]


def waits_for_a_lock() -> bool:
    """Return whether a session waits for a lock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])
