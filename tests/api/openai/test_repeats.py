"""Calls that are sent again, and clients that leave: the vendor is called, and paid, once."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from signal import Signals
from typing import Any

import httpx2
import openai
import psycopg
import pytest

from config.local.valkey import free_port
from tests.api.openai.conftest import PROMPT, OpenAIStack
from tests.support.stack import wait_until

AGAIN = {"x_stainless_retry_count": "1"}
#: The header by which the SDK tells that it waits for a minute, whatever its own time-out is.
PATIENT = {"x-stainless-read-timeout": "60"}
WAITING_FOR_LOCK = "SELECT FROM pg_locks WHERE relation = 'generation_idempotency_keys'::regclass AND NOT granted"


class Later:
    """A call in a thread."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._result: list[Any] = []
        self._thread = threading.Thread(target=lambda: self._result.append(call()))
        self._thread.start()

    def result(self) -> Any:
        """Wait for the call and return its result."""
        self._thread.join(30)
        return self._result[0]


@contextmanager
def vanishing_call(vendor: OpenAIStack, body: dict[str, Any], **headers: str) -> Iterator[None]:
    """Make a call, and close its connection at the end of the block without reading an answer."""
    data = json.dumps(body).encode()
    lines = {"host": "127.0.0.1", "authorization": f"Bearer {vendor.key}", "content-type": "application/json"}
    lines |= {"content-length": str(len(data))} | {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    with socket.create_connection(("127.0.0.1", vendor.stack.realtime_port)) as connection:
        connection.sendall(f"POST /v1/images/generations HTTP/1.1\r\n{head}\r\n".encode() + data)
        yield


def occupy_the_worker(vendor: OpenAIStack) -> None:
    """Have both slots of the worker wait for the vendor."""
    vendor.fake.script(default="hold")
    with vendor.stack.client() as client:
        for _ in range(2):
            client.post("/submit", json={"type": "cover", "prompt": PROMPT}).raise_for_status()
    vendor.wait_for("in-progress", 2)
    wait_until(lambda: vendor.calls == 2, what="two calls of the vendor")


def free_the_worker(vendor: OpenAIStack) -> None:
    vendor.fake.script()
    vendor.fake.release()


def reasons(vendor: OpenAIStack, request_id: str) -> list[str]:
    changes = vendor.database.rows(
        "SELECT reason FROM generation_status_changes WHERE request_id = %s ORDER BY sequence", request_id
    )
    return [change["reason"] for change in changes]


# --- What the SDK sends again ---


def test_a_failure_after_our_retries_is_final_for_the_sdk(vendor: OpenAIStack) -> None:
    vendor.fake.script(default="status=500")
    with pytest.raises(openai.InternalServerError) as raised:
        vendor.sdk().images.generate(prompt=PROMPT, extra_body={"vga": {"metadata": {"maxAttempts": 2}}})
    assert raised.value.status_code == 502
    assert raised.value.code == "unavailable"
    assert vendor.calls == 2
    assert len(vendor.new_requests()) == 1


def test_an_image_that_takes_too_long_is_answered_504_once(vendor: OpenAIStack) -> None:
    vendor.fake.script(default="hold")
    with pytest.raises(openai.InternalServerError) as raised:
        vendor.sdk(timeout=1.0).images.generate(prompt=PROMPT)
    assert raised.value.status_code == 504
    assert raised.value.code == "still_running"
    [row] = vendor.new_requests()
    assert row["id"] in raised.value.message
    assert row["status"] == "in-progress"
    vendor.fake.release()
    vendor.wait_for("completed")
    assert vendor.calls == 1
    with vendor.sdk(timeout=1.0) as sdk:
        assert sdk.images.generate(prompt=PROMPT, extra_headers={"x-stainless-retry-count": "1"}).data
    assert vendor.calls == 1, "the call that was sent again got the image of the first"


def test_a_call_that_the_sdk_sends_again_joins_the_first(vendor: OpenAIStack) -> None:
    vendor.fake.script(default="delay=1.5")
    answer = vendor.sdk(timeout=1.0).images.generate(prompt=PROMPT, extra_headers=PATIENT)
    assert answer.data
    assert answer.data[0].b64_json
    assert vendor.calls == 1
    assert len(vendor.new_requests()) == 1


def test_a_restart_of_the_server_costs_no_second_image(vendor: OpenAIStack) -> None:
    vendor.fake.script(default="hold")
    sdk = vendor.sdk(max_retries=10)
    call = Later(lambda: sdk.images.generate(prompt=PROMPT, n=2))
    wait_until(lambda: vendor.calls == 2, what="the calls of the vendor")
    vendor.stack.stop("realtime", by=Signals.SIGTERM)
    vendor.stack.start("realtime")
    vendor.fake.release()
    assert len(call.result().data) == 2
    assert vendor.calls == 2


# --- Which call is the same ---


def test_first_calls_that_are_equal_get_an_image_each(vendor: OpenAIStack) -> None:
    answers = [vendor.generate(x_stainless_retry_count="0") for _ in range(2)]
    assert answers[0].headers["x-vga-request-ids"] != answers[1].headers["x-vga-request-ids"]
    again = vendor.generate(**AGAIN)
    assert again.headers["x-vga-request-ids"] == answers[1].headers["x-vga-request-ids"], "the newest"
    assert again.json() == answers[1].json()
    assert vendor.calls == 2


def test_equal_first_calls_at_the_same_moment_get_an_image_each(vendor: OpenAIStack) -> None:
    calls = [Later(lambda: vendor.generate(x_stainless_retry_count="0")) for _ in range(6)]
    assert len({call.result().headers["x-vga-request-ids"] for call in calls}) == 6
    assert vendor.calls == 6


@pytest.mark.parametrize(
    "other",
    [{"prompt": f"{PROMPT}s"}, {"prompt": PROMPT, "n": 2}, {"prompt": PROMPT, "vga": {"priority": "high"}}],
    ids=["prompt", "n", "vga"],
)
def test_another_call_joins_none(vendor: OpenAIStack, other: dict[str, Any]) -> None:
    assert vendor.generate().status_code == 200
    assert vendor.generate(other, **AGAIN).status_code == 200
    assert vendor.calls == 1 + other.get("n", 1)


def test_another_key_joins_no_call(vendor: OpenAIStack) -> None:
    first = vendor.generate()
    with vendor.stack.client() as alice:
        token = alice.headers["Authorization"]
    second = vendor.generate(**AGAIN, Authorization=token)
    assert first.status_code == second.status_code == 200
    assert vendor.calls == 2


def test_a_repeated_call_does_not_join_after_15_minutes(vendor: OpenAIStack) -> None:
    vendor.generate()
    vendor.database.execute("UPDATE generation_idempotency_keys SET created_at = NOW() - INTERVAL '901 seconds'")
    assert vendor.generate(**AGAIN).status_code == 200
    assert vendor.calls == 2


def test_a_repeated_call_that_never_came_before_is_a_new_one(vendor: OpenAIStack) -> None:
    assert vendor.generate(**AGAIN).status_code == 200
    assert vendor.calls == 1


def test_an_idempotency_key_joins_its_call(vendor: OpenAIStack) -> None:
    answers = [vendor.generate(Idempotency_Key="page-7") for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert vendor.calls == 1
    with pytest.raises(openai.ConflictError) as raised:
        vendor.sdk().images.generate(prompt="Another", extra_headers={"Idempotency-Key": "page-7"})
    assert raised.value.code == "idempotency_key_reused"
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert vendor.calls == 1


def test_a_repeated_call_gets_the_error_of_the_first(vendor: OpenAIStack) -> None:
    vendor.fake.script("moderation=output")
    answers = [vendor.generate(), vendor.generate(**AGAIN)]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert answers[0].json() == answers[1].json()
    assert vendor.calls == 1


def test_a_request_cancelled_on_purpose_stays_cancelled(vendor: OpenAIStack) -> None:
    vendor.fake.script(default="hold")
    call = Later(vendor.generate)
    [row] = vendor.wait_for("in-progress")
    with vendor.stack.client() as alice:
        alice.delete(f"/cancel/{row['id']}").raise_for_status()
    answers = [call.result(), vendor.generate(**AGAIN)]
    assert [answer.status_code for answer in answers] == [409, 409]
    assert {answer.json()["error"]["code"] for answer in answers} == {"cancelled"}
    assert {answer.headers["x-should-retry"] for answer in answers} == {"false"}
    assert len(vendor.new_requests()) == 1


# --- Clients that leave ---


def test_a_client_that_leaves_cancels_what_was_not_sent(vendor: OpenAIStack) -> None:
    occupy_the_worker(vendor)
    with vanishing_call(vendor, {"prompt": PROMPT}):
        [row] = vendor.wait_for("queued")
    vendor.wait_for("cancelled")
    assert reasons(vendor, row["id"]) == ["submitted", "client_left"]
    again = Later(lambda: vendor.generate(**AGAIN))
    vendor.wait_for("queued")
    free_the_worker(vendor)
    assert again.result().headers["x-vga-request-ids"] == row["id"]
    assert again.result().status_code == 200
    assert vendor.calls == 3


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_during_the_submit_cancels_it(vendor: OpenAIStack, stream: bool) -> None:
    occupy_the_worker(vendor)
    with psycopg.connect(vendor.stack.env["DATABASE_URL"]) as other:
        other.execute("LOCK TABLE generation_idempotency_keys IN EXCLUSIVE MODE")
        with vanishing_call(vendor, {"prompt": PROMPT, "stream": stream}):
            wait_until(lambda: vendor.database.rows(WAITING_FOR_LOCK), what="the submit")
        assert vendor.raw.get("/models").status_code == 200, "the process has seen the end of the connection"
    [row] = vendor.wait_for("cancelled")
    assert reasons(vendor, row["id"]) == ["submitted", "client_left"]


def test_a_process_that_stops_during_its_first_call_answers_it(vendor: OpenAIStack) -> None:
    occupy_the_worker(vendor)
    vendor.stack.stop("realtime")
    vendor.stack.start("realtime")
    base = f"http://127.0.0.1:{vendor.stack.realtime_port}"
    wait_until(lambda: answers(base), what="the process")
    with psycopg.connect(vendor.stack.env["DATABASE_URL"]) as other:
        other.execute("LOCK TABLE generation_idempotency_keys IN EXCLUSIVE MODE")
        call = Later(vendor.generate)
        wait_until(lambda: vendor.database.rows(WAITING_FOR_LOCK), what="the submit")
        vendor.stack.signal("realtime", Signals.SIGTERM)
        wait_until(lambda: not answers(base), what="the end of new connections")
    assert (call.result().status_code, call.result().json()["error"]["code"]) == (503, "restarting")
    vendor.stack.stop("realtime")
    vendor.stack.start("realtime")
    wait_until(lambda: answers(base), what="the process")


def test_a_client_that_returns_keeps_its_deadline(vendor: OpenAIStack) -> None:
    occupy_the_worker(vendor)
    with vanishing_call(vendor, {"prompt": PROMPT}, **{"cancel-after": "1h"}):
        vendor.wait_for("queued")
    [left] = vendor.wait_for("cancelled")
    again = Later(lambda: vendor.generate(**AGAIN, Cancel_After="1h"))
    [row] = vendor.wait_for("queued")
    assert (row["id"], row["cancel_at"]) == (left["id"], left["cancel_at"])
    vendor.database.execute("UPDATE generation_requests SET cancel_at = NOW() WHERE id = %s", row["id"])
    assert again.result().json()["error"]["code"] == "cancelled"
    late = vendor.generate(**AGAIN, Cancel_After="1h")
    assert (late.status_code, late.json()["error"]["code"]) == (409, "cancelled")
    assert reasons(vendor, row["id"]) == ["submitted", "client_left", "retried", "deadline"]


def test_calls_that_join_and_end_leave_nothing_behind(vendor: OpenAIStack) -> None:
    vendor.generate()
    before = waiting_calls(vendor)
    for _ in range(3):
        vendor.generate(**AGAIN)
    assert waiting_calls(vendor) == before


def test_a_client_that_leaves_late_gets_its_image_when_it_returns(vendor: OpenAIStack) -> None:
    vendor.fake.script(default="hold")
    with vanishing_call(vendor, {"prompt": PROMPT}):
        wait_until(lambda: vendor.calls == 1, what="the call of the vendor")
    vendor.fake.release()
    [row] = vendor.wait_for("completed")
    again = vendor.generate(**AGAIN)
    assert again.headers["x-vga-request-ids"] == row["id"]
    assert again.status_code == 200
    assert vendor.calls == 1


def test_a_first_call_that_leaves_spares_what_the_second_waits_for(vendor: OpenAIStack) -> None:
    occupy_the_worker(vendor)
    with vanishing_call(vendor, {"prompt": PROMPT}):
        [row] = vendor.wait_for("queued")
        second = Later(lambda: vendor.generate(**AGAIN))
        wait_until(lambda: len(waiting_calls(vendor)) == 2, what="the second call")
    wait_until(lambda: len(waiting_calls(vendor)) == 1, what="the end of the first call")
    free_the_worker(vendor)
    assert second.result().status_code == 200
    assert second.result().headers["x-vga-request-ids"] == row["id"]
    assert reasons(vendor, row["id"]) == ["submitted", "claimed", "completed"]
    assert vendor.calls == 3


def test_the_last_of_the_calls_that_leave_cancels(vendor: OpenAIStack) -> None:
    occupy_the_worker(vendor)
    with vanishing_call(vendor, {"prompt": PROMPT}):
        vendor.wait_for("queued")
        with vanishing_call(vendor, {"prompt": PROMPT}, **AGAIN):
            wait_until(lambda: len(waiting_calls(vendor)) == 2, what="both calls")
    vendor.wait_for("cancelled")
    free_the_worker(vendor)
    vendor.wait_for("completed", 2)
    assert vendor.calls == 2


def waiting_calls(vendor: OpenAIStack) -> list[str]:
    rows = vendor.database.rows("SELECT answer FROM generation_idempotency_keys WHERE answer <> ''")
    waiting: list[str] = json.loads(rows[0]["answer"])["waiting"] if rows else []
    return waiting


def test_a_reader_that_leaves_early_harms_no_other_call(vendor: OpenAIStack) -> None:
    with vanishing_call(vendor, {"prompt": PROMPT, "stream": True}):
        vendor.wait_for("completed")
    answer: httpx2.Response = vendor.generate()
    assert answer.status_code == 200
    assert vendor.calls == 2


# --- While a call waits ---


def test_too_many_waiting_calls_are_refused_and_cost_nothing(vendor: OpenAIStack) -> None:
    port = free_port()
    vendor.stack.start("realtime:strict", REALTIME_PORT=str(port), WAITS_PER_USER="1")
    try:
        strict = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(strict), what="the second process")
        occupy_the_worker(vendor)
        first = Later(lambda: vendor.raw.post(f"{strict}/v1/images/generations", json={"prompt": PROMPT}))
        vendor.wait_for("queued")
        before = len(vendor.new_requests())
        for body in ({"prompt": "Another"}, {"prompt": "A third", "stream": True}):
            refused = vendor.raw.post(f"{strict}/v1/images/generations", json=body)
            assert refused.status_code == 429
            assert refused.json()["error"]["code"] == "rate_limit_exceeded"
            assert refused.headers["retry-after"] == "5"
        assert len(vendor.new_requests()) == before
        free_the_worker(vendor)
        assert first.result().status_code == 200
        assert vendor.calls == 3
    finally:
        vendor.stack.stop("realtime:strict")


def answers(base: str) -> bool:
    try:
        return httpx2.get(f"{base}/healthz").status_code == 200
    except httpx2.TransportError:
        return False


def test_a_key_that_is_revoked_meanwhile_gets_no_image(vendor: OpenAIStack) -> None:
    with vendor.stack.client() as alice:
        made = alice.post("/keys", json={"name": "brief", "scopes": ["requests:write"]}).raise_for_status().json()
        vendor.fake.script(default="hold")
        named = {"Authorization": f"Bearer {made['key']}"}
        plain_call = Later(lambda: vendor.generate(**named))
        stream_call = Later(lambda: vendor.generate({"prompt": PROMPT, "stream": True}, **named))
        wait_until(lambda: vendor.calls == 2, what="the calls of the vendor")
        alice.delete(f"/keys/{made['keyId']}").raise_for_status()
    vendor.fake.release()
    plain, stream = plain_call.result(), stream_call.result()
    assert plain.status_code == 401
    assert plain.json()["error"]["code"] == "invalid_api_key"
    assert stream.status_code == 200
    assert "b64_json" not in stream.text
    assert '"invalid_api_key"' in stream.text


def test_a_stream_that_takes_too_long_ends_with_an_error_event(vendor: OpenAIStack) -> None:
    vendor.fake.script(default="hold")
    answer = vendor.generate({"prompt": PROMPT, "stream": True}, x_stainless_timeout="1")
    assert answer.headers["content-type"].startswith("text/event-stream")
    event = [line for line in answer.text.splitlines() if line and not line.startswith(":")]
    assert event[0] == "event: error"
    shown = json.loads(event[1].removeprefix("data: "))
    assert shown["type"] == "error"
    assert shown["error"]["code"] == "still_running"
    vendor.fake.release()
    vendor.wait_for("completed")


@pytest.mark.parametrize("header", ["nan", "inf", "-1", "0", "soon", "1e999", ""])
def test_a_time_out_that_makes_no_sense_is_ignored(vendor: OpenAIStack, header: str) -> None:
    assert vendor.generate(x_stainless_read_timeout=header, x_stainless_retry_count=header).status_code == 200


def test_a_deadline_cancels_a_call_that_waits(vendor: OpenAIStack) -> None:
    vendor.fake.script(default="hold")
    answer = vendor.generate(Cancel_After="5s")
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "cancelled"
    assert vendor.generate(Cancel_After="soon").json()["error"]["param"] == "Cancel-After"
