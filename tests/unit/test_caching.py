"""Answers that are kept for a second or two."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from generation.caching import ttl_cache


def test_concurrent_callers_of_a_cached_function_do_not_wait() -> None:
    both = threading.Barrier(2)

    @ttl_cache(seconds=60)
    def name() -> str:
        both.wait(5)  # one alone would not come beyond it
        return "dragon"

    with ThreadPoolExecutor(2) as pool:
        assert [one.result(10) for one in [pool.submit(name), pool.submit(name)]] == ["dragon"] * 2
    assert name() == "dragon"


def test_a_cached_function_is_called_again_when_expired_or_cleared() -> None:
    read: list[str] = []

    def name(of: str) -> int:
        read.append(of)
        return len(read)

    lasting, over = ttl_cache(seconds=60, maxsize=2)(name), ttl_cache(seconds=0)(name)
    assert [lasting("a"), lasting("a"), lasting("b")] == [1, 1, 2]
    assert [over("a"), over("a")] == [3, 4]
    lasting.cache_clear()
    assert lasting("a") == 5
