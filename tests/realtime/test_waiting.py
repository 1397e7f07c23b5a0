"""Calls with ``Prefer: wait`` at the process of live updates. Requests end there by a cancel, since no worker runs."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest

from tests.realtime.live import BODY, Live, another_realtime
from tests.support.stack import wait_until

PREFIX = "/api/visual-generation"
JSON = {"Content-Type": "application/json"}


class Waiting:
    """Calls of one user at a realtime process, each in a thread of its own."""

    def __init__(self, live: Live, *, token: str = "") -> None:
        self._live = live
        self._threads = ThreadPoolExecutor(64)
        self.client = httpx2.Client(
            base_url=f"http://{live.address}{PREFIX}",
            headers={"Authorization": f"Bearer {token or live.token()}"},
            timeout=60,
            limits=httpx2.Limits(max_connections=100),
        )

    def begin(self, method: str, at: str, *, prefer: str = "wait=50", **more: Any) -> Future[httpx2.Response]:
        """Begin a call that waits."""
        headers = {"Prefer": prefer} | more.pop("headers", {})
        return self._threads.submit(self.client.request, method, at, headers=headers, **more)

    def close(self) -> None:
        self._threads.shutdown()
        self.client.close()


@pytest.fixture
def calls(live: Live) -> Iterator[Waiting]:
    waiting = Waiting(live)
    yield waiting
    waiting.close()


def newest(live: Live, before: set[str]) -> str:
    """Return the id of the request that was submitted since."""
    return str(wait_until(lambda: sorted(ids(live) - before)[-1:], what="a new request")[0])


def ids(live: Live) -> set[str]:
    return {row["requestId"] for row in live.client("alice").get("/requests?limit=100").json()["results"]}


def applied(response: httpx2.Response, seconds: int) -> None:
    assert response.headers["Preference-Applied"] == f"wait={seconds}"
    assert "Prefer" in response.headers["Vary"]


def test_a_submit_waits_for_the_end(live: Live, calls: Waiting) -> None:
    before = ids(live)
    call = calls.begin("POST", "/submit", json=BODY)
    request_id = newest(live, before)
    assert not call.done()
    live.cancel(request_id)
    response = call.result(timeout=10)
    assert response.status_code == 200
    applied(response, 50)
    answer = response.json()
    assert (answer["requestId"], answer["status"], answer["estimatedWaitTime"]) == (request_id, "cancelled", 0)
    assert answer["request"] == live.client("alice").get(f"/status/{request_id}").json()
    assert response.headers["Location"].endswith(f"/status/{request_id}")
    assert len(response.headers["X-Request-ID"]) == 32


def test_a_submit_that_does_not_end_in_time_is_accepted(live: Live, calls: Waiting) -> None:
    began = time.monotonic()
    response = calls.begin("POST", "/submit", prefer="wait=1", json=BODY).result()
    assert 1 <= time.monotonic() - began < 10
    assert response.status_code == 202
    applied(response, 1)
    answer = response.json()
    assert answer.keys() == {"success", "requestId", "status", "estimatedWaitTime"}
    assert response.headers["Location"].endswith(f"/status/{answer['requestId']}")
    assert 1 <= int(response.headers["Retry-After"]) <= 60


def test_a_status_waits_for_the_end(live: Live, calls: Waiting) -> None:
    request_id = live.submit()
    in_time, too_long = (
        calls.begin("GET", f"/status/{request_id}"),
        calls.begin("GET", f"/status/{request_id}", prefer="wait=1"),
    )
    response = too_long.result()
    applied(response, 1)
    assert (response.status_code, response.json()["status"]) == (200, "queued")
    live.cancel(request_id)
    response = in_time.result(timeout=10)
    applied(response, 50)
    assert (response.json()["status"], response.json()["cancelReason"]) == ("cancelled", "staff")
    again = calls.client.get(f"/status/{request_id}", headers={"Prefer": "wait"})
    assert again.headers["ETag"] == response.headers["ETag"]
    assert "Preference-Applied" not in again.headers


def test_a_status_known_to_the_client_waits_for_another(live: Live, calls: Waiting) -> None:
    request_id = live.submit()
    etag = calls.client.get(f"/status/{request_id}").headers["ETag"]
    known = {"If-None-Match": etag}
    assert calls.client.get(f"/status/{request_id}", headers=known).status_code == 304
    call = calls.begin("GET", f"/status/{request_id}", headers=known)
    time.sleep(0.3)
    assert not call.done()
    live.cancel(request_id)
    assert call.result(timeout=10).json()["status"] == "cancelled"


def test_a_batch_waits_for_all_of_its_requests(live: Live, calls: Waiting) -> None:
    before = ids(live)
    call = calls.begin("POST", "/batch", json={"requests": [BODY] * 3})
    wait_until(lambda: len(ids(live) - before) == 3, what="the batch")
    *others, last = sorted(ids(live) - before)
    batch_id = live.client("alice").get(f"/status/{last}").json()["batchId"]
    status = calls.begin("GET", f"/batch/{batch_id}")
    for request_id in others:
        live.cancel(request_id)
    time.sleep(0.3)
    assert not call.done()
    assert not status.done()
    live.cancel(last)
    made, read = call.result(timeout=10), status.result(timeout=10)
    applied(made, 50)
    applied(read, 50)
    assert made.json()["batch"] == read.json()
    assert read.json()["counts"]["cancelled"] == 3


def test_a_submit_waits_for_all_of_its_variations(live: Live, calls: Waiting) -> None:
    before = ids(live)
    call = calls.begin("POST", "/submit", json=BODY | {"variations": 3})
    wait_until(lambda: len(ids(live) - before) == 3, what="the variations")
    first, *others = sorted(ids(live) - before)
    for request_id in (first, others[0]):
        live.cancel(request_id)
    time.sleep(0.3)
    assert not call.done()
    live.cancel(others[1])
    response = call.result(timeout=10)
    applied(response, 50)
    made = response.json()
    assert made["requestIds"] == [first, *others]
    assert made["request"] == live.client("alice").get(f"/status/{first}").json()
    assert [one["requestId"] for one in made["batch"]["requests"]] == [first, *others]
    assert made["batch"]["counts"]["cancelled"] == 3


def test_a_retry_waits(live: Live, calls: Waiting) -> None:
    request_id = live.submit()
    live.cancel(request_id)
    call = calls.begin("POST", f"/retry/{request_id}")
    wait_until(lambda: live.client("alice").get(f"/status/{request_id}").json()["status"] == "queued", what="the retry")
    live.cancel(request_id)
    assert call.result(timeout=10).json()["request"]["status"] == "cancelled"


def test_a_repeated_submit_waits_for_the_first_request(live: Live, calls: Waiting) -> None:
    key = {"Idempotency-Key": "wait-twice"}
    first = calls.begin("POST", "/submit", prefer="wait=0", json=BODY, headers=key).result().json()["requestId"]
    again = calls.begin("POST", "/submit", json=BODY, headers=key)
    time.sleep(0.2)
    live.cancel(first)
    response = again.result(timeout=10)
    assert response.headers["Idempotent-Replayed"] == "true"
    assert (response.json()["requestId"], response.json()["status"]) == (first, "cancelled")


@pytest.mark.parametrize(
    "prefer", ["", "wait=0", "wait=-1", "wait=ten", "wait=1.5", "respond-async", "waiting", "await=3"]
)
def test_what_is_no_wait_is_ignored(live: Live, calls: Waiting, prefer: str) -> None:
    response = calls.begin("GET", f"/status/{live.submit()}", prefer=prefer).result(timeout=5)
    assert response.status_code == 200
    assert "Preference-Applied" not in response.headers
    assert "Prefer" in response.headers["Vary"]


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait", 60),
        ("wait=", 60),
        ("WAIT=7", 7),
        ("respond-async, wait=7", 7),
        ('wait="7"; x=y', 7),
        ("wait=999999999", 60),
    ],
)
def test_a_wait_is_read_as_the_standard_writes_it(live: Live, calls: Waiting, prefer: str, seconds: int) -> None:
    request_id = live.submit()
    call = calls.begin("GET", f"/status/{request_id}", prefer=prefer)
    time.sleep(0.1)
    live.cancel(request_id)
    applied(call.result(timeout=10), seconds)


def test_the_web_process_ignores_the_preference(live: Live) -> None:
    response = live.client("alice").post("/submit", json=BODY, headers={"Prefer": "wait=5"})
    assert response.status_code == 200
    assert "Preference-Applied" not in response.headers


def test_errors_do_not_wait(live: Live, calls: Waiting) -> None:
    assert calls.begin("POST", "/submit", json={}).result(timeout=5).status_code == 400
    unknown = calls.begin("GET", "/status/vga_1234567890123456_nobodyhasthisone00").result(timeout=5)
    assert unknown.status_code == 404
    anonymous = httpx2.get(f"http://{live.address}{PREFIX}/status/{live.submit()}", headers={"Prefer": "wait"})
    assert anonymous.status_code == 401
    foreign = httpx2.get(
        f"http://{live.address}{PREFIX}/status/{live.submit()}",
        headers={"Prefer": "wait", "Authorization": f"Bearer {live.token('charlie')}"},
    )
    assert foreign.status_code == 404


def test_a_client_that_leaves_cancels_nothing(live: Live) -> None:
    before = ids(live)
    client = httpx2.Client(headers={"Authorization": f"Bearer {live.token()}"}, timeout=0.5)
    with pytest.raises(httpx2.TimeoutException):
        client.post(f"http://{live.address}{PREFIX}/submit", json=BODY, headers={"Prefer": "wait"})
    client.close()
    time.sleep(0.3)
    assert live.client("alice").get(f"/status/{newest(live, before)}").json()["status"] == "queued"


def test_an_end_without_an_update_is_found(live: Live, calls: Waiting) -> None:
    request_id = live.submit()
    call = calls.begin("GET", f"/status/{request_id}")
    time.sleep(0.3)
    live.database.execute("DELETE FROM generation_queue WHERE request_id = %s", request_id)
    live.database.execute(
        "UPDATE generation_requests SET status = 'cancelled', completed_at = NOW() WHERE id = %s", request_id
    )
    assert call.result(timeout=15).json()["status"] == "cancelled"


def test_a_user_has_a_number_of_waits(live: Live) -> None:
    with another_realtime(live, WAITS_PER_USER="2") as other:
        calls, others = Waiting(other), Waiting(other, token=live.token("charlie"))
        request_id = live.submit()
        three = [calls.begin("GET", f"/status/{request_id}") for _ in range(3)]
        [refused] = wait(three, timeout=20, return_when=FIRST_COMPLETED).done
        assert "Preference-Applied" not in refused.result().headers
        assert refused.result().json()["status"] == "queued"
        of_other = others.begin("GET", f"/status/{live.submit('charlie')}", prefer="wait=1").result()
        applied(of_other, 1)
        live.cancel(request_id)
        for call in three:
            if call is not refused:
                applied(call.result(timeout=10), 50)
        applied(calls.begin("GET", f"/status/{live.submit()}", prefer="wait=1").result(), 1)
        calls.close()
        others.close()


def test_a_stopping_process_answers_its_waits(live: Live) -> None:
    with another_realtime(live) as other:
        calls = Waiting(other)
        submitted = calls.begin("POST", "/submit", json=BODY)
        read = calls.begin("GET", f"/status/{live.submit()}")
        time.sleep(1)
        began = time.monotonic()
        other.stack.signal(f"realtime:{other.address.rpartition(':')[2]}", signal.SIGTERM)
        assert submitted.result(timeout=5).status_code == 202
        assert read.result(timeout=5).json()["status"] == "queued"
        assert time.monotonic() - began < 4
        calls.close()


def test_a_revoked_key_gets_no_answer_after_its_wait(live: Live) -> None:
    wanted = {"name": "short", "scopes": ["requests:read", "requests:write"]}
    key = live.client("alice").post("/keys", json=wanted).raise_for_status().json()
    calls = Waiting(live, token=key["key"])
    request_id = live.submit()
    call = calls.begin("GET", f"/status/{request_id}")
    time.sleep(0.3)
    live.client("alice").delete(f"/keys/{key['keyId']}").raise_for_status()
    live.cancel(request_id)
    assert call.result(timeout=10).status_code == 401
    calls.close()


def test_hundreds_of_waits_leave_the_api_free(live: Live) -> None:
    with another_realtime(live, WAITS_PER_USER="1000") as other, ExitStack() as opened:
        request_id = live.submit()
        waiting = [opened.enter_context(_open(other, request_id, live.token())) for _ in range(300)]
        began = time.monotonic()
        for _ in range(20):
            httpx2.get(f"http://{other.address}/healthz").raise_for_status()
        assert time.monotonic() - began < 5
        live.cancel(request_id)
        assert all(b"200 OK" in _read(connection) for connection in waiting)


def _open(live: Live, request_id: str, token: str) -> socket.socket:
    host, _, port = live.address.partition(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    connection.sendall(
        f"GET {PREFIX}/status/{request_id} HTTP/1.1\r\nHost: {live.address}\r\nPrefer: wait=55\r\n"
        f"Authorization: Bearer {token}\r\nConnection: close\r\n\r\n".encode()
    )
    return connection


def _read(connection: socket.socket) -> bytes:
    text = b""
    while part := connection.recv(65536):
        text += part
    return text


def test_a_body_that_is_too_large_is_refused(live: Live, calls: Waiting) -> None:
    response = calls.client.post(
        "/submit", content=b"x" * (2 * 1024 * 1024), headers={"Content-Type": "application/json"}
    )
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")

    def endless() -> Iterator[bytes]:
        for _ in range(80):
            yield b"x" * 65536

    try:
        response = calls.client.post("/submit", content=endless(), headers=JSON)
    except httpx2.TransportError:
        return  # the server closed the connection while the client was sending
    assert response.status_code == 413


def test_a_body_in_chunks_is_read(live: Live, calls: Waiting) -> None:
    text = b'{"type": "illustration", "prompt": "Three cats under an apple tree"}'
    response = calls.client.post(
        "/submit", content=iter([text[:10], text[10:]]), headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 200


@pytest.mark.parametrize("path", ["/sign-in", "/api/docs", "/api/schema", "/healthz", "/admin/login/"])
def test_all_paths_are_answered(live: Live, path: str) -> None:
    response = httpx2.get(f"http://{live.address}{path}", follow_redirects=True)
    assert response.status_code == 200


def test_an_unknown_path_is_an_error_in_json(live: Live) -> None:
    response = httpx2.post(f"http://{live.address}/nothing/here", json={})
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
