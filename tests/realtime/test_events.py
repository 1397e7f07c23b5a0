"""The stream of Server-Sent Events."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import httpx
import pytest
import redis
from cryptography.fernet import Fernet

from tests.realtime.live import NOBODY_HAS_IT, STUDIO, Live
from tests.support.traces import tapped_redis


def test_the_state_now_and_every_change_after_it(live: Live) -> None:
    request_id = live.submit()
    with live.stream({"requestId": request_id}) as stream, live.socket() as socket:
        assert stream.response.status_code == 200
        assert stream.response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.response.headers["cache-control"] == "no-store"
        first = stream.hear()
        assert (first["event"], first["data"]) == ("subscribed", socket.ask(type="subscribe", requestId=request_id))
        live.cancel(request_id)
        update = stream.hear()
        assert (update["event"], update["id"]) == ("update", f"{request_id}:2")
        assert update["data"] == socket.hear()


def test_several_of_each_kind_in_one_stream(live: Live) -> None:
    batch_id, (member, _) = live.submit_batch(2)
    alone, in_project = live.submit(), live.submit(projectId="streamed")
    query = {"requestId": [alone, member], "batchId": batch_id, "projectId": "streamed"}
    with live.stream(query) as stream:
        assert [stream.hear()["event"] for _ in range(4)] == ["subscribed"] * 4
        for request_id in (in_project, member, alone):
            live.cancel(request_id)
            assert stream.hear()["data"]["requestId"] == request_id


def test_what_was_missed_is_told_again_in_order_and_then_the_state_now(live: Live) -> None:
    batch_id, (first, second) = live.submit_batch(2)
    unrelated = live.submit()
    with live.stream({"batchId": batch_id}) as stream:
        stream.hear()
        live.cancel(first)
        last = stream.hear()["id"]
    live.retry(first)
    live.cancel(unrelated)
    live.cancel(second)
    live.cancel(first)
    with live.stream({"batchId": batch_id}, Last_Event_ID=last) as stream:
        replayed = [stream.hear() for _ in range(3)]
        assert [one["id"] for one in replayed] == [f"{first}:3", f"{second}:2", f"{first}:4"]
        assert [one["data"]["data"]["status"] for one in replayed] == ["queued", "cancelled", "cancelled"]
        assert "metadata" not in replayed[0]["data"]["data"]  # the history knows the status alone
        assert "metadata" in replayed[1]["data"]["data"]
        assert stream.hear()["event"] == "subscribed"
        live.retry(second)
        assert stream.hear()["id"] == f"{second}:3"


@pytest.mark.parametrize("last", ["nonsense", ":", "vga_1:2", "vga_1234567890123456_nobodyhasthisone00:1", "9" * 500])
def test_after_an_id_that_nobody_got_from_us_the_state_begins_anew(live: Live, last: str) -> None:
    with live.stream({"requestId": live.submit()}, Last_Event_ID=last) as stream:
        reset = stream.hear()
        assert (reset["event"], reset["id"], reset["data"]) == ("reset", "", {"type": "reset"})
        assert stream.hear()["event"] == "subscribed"


def test_the_id_of_somebody_elses_change_replays_nothing(live: Live) -> None:
    hers, his = live.submit("alice"), live.submit("charlie")
    live.cancel(hers)
    live.cancel(his)
    with live.stream({"requestId": his}, "charlie", Last_Event_ID=f"{hers}:1") as stream:
        assert stream.hear()["event"] == "reset"
        assert stream.hear()["event"] == "subscribed"


def test_who_missed_more_than_can_be_told_is_told_so(live: Live) -> None:
    first = live.submit(projectId="long away")
    for _ in range(11):
        live.submit_batch(100, projectId="long away")
    with live.stream({"projectId": "long away"}, Last_Event_ID=f"{first}:1") as stream:
        assert [stream.hear()["event"] for _ in range(2)] == ["reset", "subscribed"]
        live.cancel(first)
        assert stream.hear()["id"] == f"{first}:2"


def test_a_change_that_was_committed_late_is_told_although_a_later_one_was_heard(live: Live) -> None:
    """As a client sees it whose last event has the higher number: of a project whose first page has neither."""
    late, heard = live.submit(projectId="overtaken"), live.submit(projectId="overtaken")
    live.submit_batch(20, projectId="overtaken")
    live.cancel(late)
    live.cancel(heard)
    with live.stream({"projectId": "overtaken"}, Last_Event_ID=f"{heard}:2") as stream:
        assert stream.hear()["event"] == "subscribed"
        told = {(one := stream.hear())["id"]: one["data"]["data"]["status"] for _ in range(2)}
    assert told[f"{late}:2"] == "cancelled"


def test_as_much_as_a_client_asks_for_comes_as_fast_as_it_reads(live: Live) -> None:
    batches = [live.submit_batch(90, metadata={"text": "x" * 10_000})[0] for _ in range(4)]
    first = live.submit()
    live.cancel(first)
    for batch_id in batches:
        live.client("alice").delete(f"/batch/{batch_id}").raise_for_status()
    with live.stream({"batchId": batches, "requestId": first}, Last_Event_ID=f"{first}:1") as stream:
        heard = [stream.hear() for _ in range(1 + 4 * 90 + 5)]
    assert [one["event"] for one in heard] == ["update"] * 361 + ["subscribed"] * 5
    assert heard[0]["id"] == f"{first}:2"


def test_replays_that_are_not_read_hold_little_memory(live: Live) -> None:
    first = live.submit()
    live.cancel(first)
    batches = [live.submit_batch(60, metadata={"text": "x" * 15_000})[0] for _ in range(8)]
    for batch_id in batches:
        live.client("alice").delete(f"/batch/{batch_id}").raise_for_status()
    query = {"requestId": first, "batchId": batches}
    with live.stream(query, Last_Event_ID=f"{first}:1") as stream:  # what is allocated once is not what is measured
        assert [stream.hear()["event"] for _ in range(961)] == ["update"] * 961
    before = live.memory()
    with contextlib.ExitStack() as held:
        streams = [held.enter_context(live.stream(query, Last_Event_ID=f"{first}:1")) for _ in range(10)]
        with live.socket() as other:  # the others had time to look up as much as they would
            for _ in range(50):
                other.ask(type="subscribe", requestId=first)
        assert live.memory() - before < 25 * 1024 * 1024  # all of it would be 8 MB for each
        for stream in streams:
            assert [stream.hear()["event"] for _ in range(961)] == ["update"] * 961


def test_redis_sees_neither_prompts_nor_signed_addresses(live: Live) -> None:
    with tapped_redis() as tap:
        request_id = live.submit(prompt="A canary in a garden of flowers", projectId="a hidden project")
        with live.socket() as socket:
            assert "canary" in socket.ask(type="subscribe", requestId=request_id)["data"]["prompt"]
            live.cancel(request_id)
            assert "canary" in socket.hear()["data"]["prompt"]
        live.retry(request_id)
    assert b"__group__updates" in tap.heard  # updates went through it
    for words in (b"canary", b"hidden project", b"signature", live.token().encode(), b"alice"):
        assert words not in tap.heard


def test_messages_that_cannot_be_read_lose_no_other(live: Live) -> None:
    request_id = live.submit()
    with live.socket() as socket, redis.Redis.from_url(live.stack.env["REDIS_URL"]) as client:
        socket.ask(type="subscribe", requestId=request_id)
        for garbage in (b"garbage", b"", Fernet(Fernet.generate_key()).encrypt(b"x")):
            assert client.publish("vga__group__updates", garbage) >= 1
        live.cancel(request_id)
        assert socket.hear(seconds=5)["data"]["status"] == "cancelled"


# --- Who may, and what is refused -------------------------------------------------------------------------------------


def test_who_has_no_token_or_one_that_does_not_hold(live: Live) -> None:
    query = {"requestId": live.submit()}
    assert live.refusal(query, None) == (401, {"error": "Access denied", "code": "not_authenticated"})
    for token in ("nonsense", live.token_for(-1)):
        refused = live.refusal(query, None, Authorization=f"Bearer {token}")
        assert refused == (401, {"error": "Invalid token", "code": "token_not_valid"})


def test_the_session_counts_for_our_own_pages_alone(live: Live) -> None:
    query, cookie = {"requestId": live.submit()}, live.session()
    own = f"http://127.0.0.1:{live.stack.port}"
    for headers in ({"Origin": own}, {"Sec-Fetch-Site": "same-origin"}):
        with live.stream(query, None, **cookie, **headers) as stream:
            assert stream.hear()["event"] == "subscribed"
            allowed = stream.response.headers.get("access-control-allow-origin")
            assert allowed == headers.get("Origin")
    assert live.refusal(query, None, **cookie, Origin="http://evil.example")[0] == 403
    assert live.refusal(query, None, **cookie, Sec_Fetch_Site="cross-site")[0] == 401
    assert live.refusal(query, None, **cookie)[0] == 401


@pytest.mark.parametrize("kind", ["requestId", "batchId"])
def test_what_is_somebody_elses_is_as_unknown_as_what_never_was(live: Live, kind: str) -> None:
    batch_id, (request_id, _) = live.submit_batch(2)
    hers = {"requestId": request_id, "batchId": batch_id}[kind]
    refused = live.refusal({kind: hers}, "charlie")
    assert refused == live.refusal({kind: NOBODY_HAS_IT[kind]}, "charlie") == live.refusal({kind: "\0"}, "charlie")
    assert refused[0] == 404
    assert refused[1]["code"] == "not_found"
    with live.stream({kind: hers}, "bob") as stream:
        assert stream.hear()["event"] == "subscribed"


def test_a_project_of_the_same_name_is_another_project(live: Live) -> None:
    hers, his = live.submit("alice", projectId="namesake"), live.submit("charlie", projectId="namesake")
    with live.stream({"projectId": "namesake"}, "charlie") as stream:
        shown = stream.hear()["data"]["data"]["results"]
        assert [one["requestId"] for one in shown] == [his]
        live.cancel(hers)
        live.cancel(his)
        assert stream.hear()["data"]["requestId"] == his


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({}, "validation_error"),
        ({"state": "queued"}, "validation_error"),
        ({"requestId": ["vga_1"] * 201}, "too_many_subscriptions"),
        ({"requestId": ["vga_1"] * 900}, "too_many_subscriptions"),
    ],
    ids=["nothing", "unknown name", "201", "900"],
)
def test_queries_that_are_not_valid(live: Live, query: dict[str, Any], code: str) -> None:
    status, body = live.refusal(query)
    assert (status, body["code"]) == (400, code)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD"])
def test_only_get(live: Live, method: str) -> None:
    answer = httpx.request(method, live.events_url)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize("page", ["ours", "of a named origin"])
def test_a_page_of_another_origin_may_read_the_stream(watchful: Live, page: str) -> None:
    origin = f"http://127.0.0.1:{watchful.stack.port}" if page == "ours" else STUDIO
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization, last-event-id",
    }
    preflight = httpx.options(watchful.events_url, headers=asked)
    assert (preflight.status_code, preflight.content) == (200, b"")
    assert {"authorization", "last-event-id"} <= set(preflight.headers["access-control-allow-headers"].split(", "))
    assert preflight.headers["access-control-allow-methods"] == "GET"
    with watchful.stream({"projectId": "any"}, Origin=origin) as stream:
        readable = [preflight.headers, stream.response.headers]
    for token in ({}, {"Authorization": "Bearer nonsense"}):
        refused = httpx.get(watchful.events_url, headers={"Origin": origin, **token})
        assert refused.status_code == 401
        readable.append(refused.headers)
    for headers in readable:
        assert headers["access-control-allow-origin"] == origin
        assert "Retry-After" in headers["access-control-expose-headers"]
        assert headers.get("access-control-allow-credentials") == ("true" if page == "ours" else None)
        assert headers["vary"] == "Origin"


@pytest.mark.parametrize("origin", ["https://evil.example", "http://studio.example.org", "null"])
def test_a_page_of_an_origin_that_was_not_named_reads_nothing(watchful: Live, origin: str) -> None:
    asked = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    for answer in (httpx.options(watchful.events_url, headers=asked), httpx.get(watchful.events_url, headers=asked)):
        assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("host", ["10.42.8.201:8001", "evil.example", "a host?", ""])
def test_a_probe_may_name_any_host(live: Live, host: str) -> None:
    for at, expected in (("/healthz", 200), ("/readyz", 503), ("/metrics", 403), ("/api/schema", 404)):
        answer = httpx.get(f"http://{live.address}{at}", headers={"Host": host})
        assert answer.status_code == expected, at


def test_the_rest_of_the_api_is_where_it_was(live: Live) -> None:
    answer = httpx.get(f"http://{live.address}/api/visual-generation/nothing")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


# --- How long it lasts ------------------------------------------------------------------------------------------------


def test_the_end_of_a_token_ends_the_stream(live: Live) -> None:
    authorization = f"Bearer {live.token_for(4)}"
    with live.stream({"requestId": live.submit()}, None, Authorization=authorization) as stream:
        assert stream.hear()["event"] == "subscribed"
        end = stream.hear()
        assert (end["event"], end["data"]) == ("closed", {"code": 4401})
        assert list(stream.response.iter_raw()) == [] if not stream.response.is_stream_consumed else True


def test_something_is_said_in_a_quiet_time(watchful: Live) -> None:
    with watchful.stream({"requestId": watchful.submit()}) as stream:
        stream.hear()
        assert [stream.hear()["comment"] for _ in range(3)] == ["still here"] * 3


def test_a_deactivated_user_is_told_nothing_more(watchful: Live) -> None:
    with watchful.stream({"projectId": "any"}, "charlie") as stream:
        stream.hear()
        watchful.database.execute("UPDATE auth_user SET is_active = false WHERE username = 'charlie'")
        while "event" not in (heard := stream.hear()):
            pass
        assert (heard["event"], heard["data"]) == ("closed", {"code": 4401})
    watchful.database.execute("UPDATE auth_user SET is_active = true WHERE username = 'charlie'")


def test_the_process_stops_although_streams_are_open(watchful: Live) -> None:
    with watchful.stream({"requestId": watchful.submit()}) as stream:
        stream.hear()
        watchful.stack.stop("realtime")
    watchful.start_realtime()


def test_an_update_is_the_same_text_everywhere(live: Live) -> None:
    request_id = live.submit(metadata={"title": "line\nbreak \u2028 \r and é"})
    with live.stream({"requestId": request_id}) as stream:
        stream.hear()
        live.cancel(request_id)
        assert stream.hear()["data"]["data"]["metadata"]["title"] == "line\nbreak \u2028 \r and é"
    assert json.dumps(request_id).isascii()
