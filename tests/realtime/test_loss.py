"""Redis lost, slow or unavailable: lost updates are sent later, and changes of requests do not wait for Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from generation.requests.events import Update
from tests.realtime.live import Live, running
from tests.support.proxy import Proxy
from tests.support.stack import wait_until
from tests.support.valkey import Valkey


class _Way(NamedTuple):
    """A stack whose realtime process reaches Redis only through a proxy."""

    live: Live
    proxy: Proxy
    valkey: Valkey
    through: dict[str, str]


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Way]:
    """A stack that searches for lost updates every half second."""
    folder = tmp_path_factory.mktemp("way")
    with Valkey(folder / "valkey") as valkey, Proxy(valkey.port) as proxy:
        through = {"REDIS_URL": f"redis://127.0.0.1:{proxy.port}/0"}
        with running(folder, redis_url=valkey.url, realtime=through, REALTIME_RESYNC_MS="500") as live:
            yield _Way(live, proxy, valkey, through)


def test_a_lost_completion_is_sent_later(way: _Way) -> None:
    live, proxy, _, _ = way
    batch_id, (request_id, *others) = live.submit_batch(3, projectId="lost")
    targets = [{"requestId": request_id}, {"batchId": batch_id}, {"projectId": "lost"}]
    with live.socket() as request, live.socket() as batch, live.socket() as project, live.socket("charlie") as other:
        for socket, target in zip((request, batch, project), targets, strict=True):
            socket.ask(type="subscribe", **target)
        other.ask(type="subscribe", projectId="lost")
        proxy.block()
        live.cancel(request_id)
        live.retry(request_id)
        live.cancel(request_id)
        for socket in (request, batch, project):
            sequences = [0]
            while sequences[-1] < 4:  # a resync round may happen between two changes
                update = socket.hear()
                sequences.append(update["data"]["sequence"])
            assert (update["requestId"], update["data"]["status"]) == (request_id, "cancelled")
            assert sequences == sorted(set(sequences))
        proxy.unblock()
        # The delayed updates arrive now and are outdated, so they are dropped; new ones are sent as usual.
        live.cancel(others[0])
        assert request.hears_nothing()
        assert batch.hear()["requestId"] == project.hear()["requestId"] == others[0]
        assert other.hears_nothing()


def test_updates_go_on_after_the_connection_to_redis_was_cut(way: _Way) -> None:
    live, proxy, _, _ = way
    request_id = live.submit()
    with live.socket() as socket:
        socket.ask(type="subscribe", requestId=request_id)
        for number in range(2, 8):
            proxy.cut()
            (live.cancel if number % 2 == 0 else live.retry)(request_id)
            assert socket.hear()["data"]["sequence"] == number


def test_a_late_older_state_is_not_sent(live: Live) -> None:
    request_id = live.submit()
    owner = live.database.rows("SELECT id FROM auth_user WHERE username = 'alice'")[0]["id"]

    def update(sequence: int) -> Update:
        text = f'{{"type": "update", "requestId": "{request_id}", "data": {{"sequence": {sequence}}}}}'
        return Update(request_id, None, owner, "", sequence, text)

    with live.socket() as socket:
        socket.ask(type="subscribe", requestId=request_id)
        live.publish(update(1), update(3), update(2), update(3), update(4))
        assert [socket.hear()["data"]["sequence"] for _ in range(2)] == [3, 4]
        assert socket.hears_nothing()


def test_an_update_of_unknown_format_does_not_affect_others(live: Live) -> None:
    request_id = live.submit()
    with live.socket() as socket:
        socket.ask(type="subscribe", requestId=request_id)
        another = {"request_id": request_id, "sequence": 2, "of_another_version": 1}
        live.send({}, {"updates": None}, {"updates": [None]}, {"updates": [another]})
        live.cancel(request_id)
        assert socket.hear()["data"]["status"] == "cancelled"
        assert socket.hears_nothing()


def test_a_paused_or_stopped_redis_delays_no_change(way: _Way) -> None:
    live, _, valkey, through = way
    with live.socket() as socket:
        ids = [live.submit() for _ in range(20)]
        for request_id in ids[:10]:
            socket.ask(type="subscribe", requestId=request_id)
        live.cancel(ids[10])
        live.retry(ids[10])

        def cancels_take(which: list[str]) -> float:
            began = time.monotonic()
            for request_id in which:
                live.cancel(request_id)
            return time.monotonic() - began

        valkey.pause()
        assert cancels_take(ids[:5]) < 10
        assert [socket.hear()["data"]["status"] for _ in range(5)] == ["cancelled"] * 5
        valkey.resume()
        valkey.kill()
        assert cancels_take(ids[5:9]) < 10
        assert [socket.hear()["data"]["status"] for _ in range(4)] == ["cancelled"] * 4
        # Started without Redis, and with resync rounds so rare that updates can arrive only through the new Redis.
        live.stack.stop("realtime")
        live.start_realtime(**through, REALTIME_RESYNC_MS="600000")
        assert not _comes_through(live)
        valkey.start()
        wait_until(lambda: _comes_through(live), what="updates through the new Redis")


def _comes_through(live: Live) -> bool:
    """Return whether a change is sent within seconds."""
    request_id = live.submit()
    with live.socket() as socket:
        socket.ask(type="subscribe", requestId=request_id)
        live.cancel(request_id)
        try:
            return bool(socket.hear(seconds=3)["data"]["status"] == "cancelled")
        except TimeoutError:
            return False
