"""The stream of Server-Sent Events."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import httpx2
import pytest
import redis
from cryptography.fernet import Fernet

from tests.realtime.live import STUDIO, UNKNOWN_IDS, Live, Stream
from tests.support.traces import tapped_redis


def test_a_stream_has_the_current_state_and_every_later_change(live: Live) -> None:
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


def test_one_stream_can_have_several_topics_of_each_kind(live: Live) -> None:
    batch_id, (member, _) = live.submit_batch(2)
    alone, in_project = live.submit(), live.submit(projectId="streamed")
    query = {"requestId": [alone, member], "batchId": batch_id, "projectId": "streamed"}
    with live.stream(query) as stream:
        assert [stream.hear()["event"] for _ in range(4)] == ["subscribed"] * 4
        for request_id in (in_project, member, alone):
            live.cancel(request_id)
            assert stream.hear()["data"]["requestId"] == request_id


def test_missed_changes_are_replayed_in_order_before_the_state(live: Live) -> None:
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
        assert "metadata" not in replayed[0]["data"]["data"]  # the history has only the status
        assert "metadata" in replayed[1]["data"]["data"]
        assert stream.hear()["event"] == "subscribed"
        live.retry(second)
        assert stream.hear()["id"] == f"{second}:3"


@pytest.mark.parametrize("last", ["nonsense", ":", "vga_1:2", "vga_1234567890123456_nobodyhasthisone00:1", "9" * 500])
def test_an_unknown_event_id_resets_the_state(live: Live, last: str) -> None:
    with live.stream({"requestId": live.submit()}, Last_Event_ID=last) as stream:
        reset = stream.hear()
        assert (reset["event"], reset["id"], reset["data"]) == ("reset", "", {"type": "reset"})
        assert stream.hear()["event"] == "subscribed"


def test_the_event_id_of_another_users_change_replays_nothing(live: Live) -> None:
    hers, his = live.submit("alice"), live.submit("charlie")
    live.cancel(hers)
    live.cancel(his)
    with live.stream({"requestId": his}, "charlie", Last_Event_ID=f"{hers}:1") as stream:
        assert stream.hear()["event"] == "reset"
        assert stream.hear()["event"] == "subscribed"


def hear_until(stream: Stream, event_id: str) -> dict[str, Any]:
    """The event with this id; others may come before it."""
    while (heard := stream.hear())["id"] != event_id:
        pass
    return heard


def test_a_client_that_missed_too_much_gets_a_reset(live: Live) -> None:
    first = live.submit(projectId="long away")
    for _ in range(11):
        live.submit_batch(100, projectId="long away")
    with live.stream({"projectId": "long away"}, Last_Event_ID=f"{first}:1") as stream:
        assert [stream.hear()["event"] for _ in range(2)] == ["reset", "subscribed"]
        live.cancel(first)
        hear_until(stream, f"{first}:2")  # a change from just before the subscription may come as well


def test_a_change_committed_after_a_later_one_is_sent(live: Live) -> None:
    """For a client whose last event has the higher number, of a project whose first page has neither request."""
    late, heard = live.submit(projectId="overtaken"), live.submit(projectId="overtaken")
    live.submit_batch(20, projectId="overtaken")
    live.cancel(late)
    live.cancel(heard)
    with live.stream({"projectId": "overtaken"}, Last_Event_ID=f"{heard}:2") as stream:
        assert stream.hear()["event"] == "subscribed"
        told = hear_until(stream, f"{late}:2")
    assert told["data"]["data"]["status"] == "cancelled"


def test_many_topics_are_sent_as_fast_as_the_client_reads(live: Live) -> None:
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
    with live.stream(query, Last_Event_ID=f"{first}:1") as stream:  # one-time allocations are not measured
        assert [stream.hear()["event"] for _ in range(961)] == ["update"] * 961
    before = live.memory()
    with contextlib.ExitStack() as held:
        streams = [held.enter_context(live.stream(query, Last_Event_ID=f"{first}:1")) for _ in range(10)]
        with live.socket() as other:  # meanwhile the streams could query as much as they would
            for _ in range(50):
                other.ask(type="subscribe", requestId=first)
        assert live.memory() - before < 25 * 1024 * 1024  # unbounded, it would be 8 MB per stream
        for stream in streams:
            assert [stream.hear()["event"] for _ in range(961)] == ["update"] * 961


def test_redis_gets_neither_prompts_nor_signed_urls(live: Live) -> None:
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


def test_unreadable_messages_do_not_affect_others(live: Live) -> None:
    request_id = live.submit()
    with live.socket() as socket, redis.Redis.from_url(live.stack.env["REDIS_URL"]) as client:
        socket.ask(type="subscribe", requestId=request_id)
        for garbage in (b"garbage", b"", Fernet(Fernet.generate_key()).encrypt(b"x")):
            assert client.publish("vga__group__updates", garbage) >= 1
        live.cancel(request_id)
        assert socket.hear(seconds=5)["data"]["status"] == "cancelled"


# --- Who may, and what is refused -------------------------------------------------------------------------------------


def test_a_missing_or_invalid_token_is_rejected(live: Live) -> None:
    query = {"requestId": live.submit()}
    assert live.refusal(query, None) == (401, {"error": "Access denied", "code": "not_authenticated"})
    for token in ("nonsense", live.token_for(-1)):
        refused = live.refusal(query, None, Authorization=f"Bearer {token}")
        assert refused == (401, {"error": "Invalid token", "code": "token_not_valid"})


def test_the_session_is_accepted_from_own_pages_only(live: Live) -> None:
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
def test_foreign_and_unknown_topics_get_the_same_error(live: Live, kind: str) -> None:
    batch_id, (request_id, _) = live.submit_batch(2)
    hers = {"requestId": request_id, "batchId": batch_id}[kind]
    refused = live.refusal({kind: hers}, "charlie")
    assert refused == live.refusal({kind: UNKNOWN_IDS[kind]}, "charlie") == live.refusal({kind: "\0"}, "charlie")
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
def test_invalid_queries_are_rejected(live: Live, query: dict[str, Any], code: str) -> None:
    status, body = live.refusal(query)
    assert (status, body["code"]) == (400, code)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD"])
def test_only_get_is_allowed(live: Live, method: str) -> None:
    answer = httpx2.request(method, live.events_url)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize("page", ["ours", "of a named origin"])
def test_a_page_of_another_origin_may_read_the_stream(watchful: Live, page: str) -> None:
    origin = f"http://127.0.0.1:{watchful.stack.port}" if page == "ours" else STUDIO
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization, last-event-id",
    }
    preflight = httpx2.options(watchful.events_url, headers=asked)
    assert (preflight.status_code, preflight.content) == (200, b"")
    assert {"authorization", "last-event-id"} <= set(preflight.headers["access-control-allow-headers"].split(", "))
    assert preflight.headers["access-control-allow-methods"] == "GET"
    with watchful.stream({"projectId": "any"}, Origin=origin) as stream:
        readable = [preflight.headers, stream.response.headers]
    for token in ({}, {"Authorization": "Bearer nonsense"}):
        refused = httpx2.get(watchful.events_url, headers={"Origin": origin, **token})
        assert refused.status_code == 401
        readable.append(refused.headers)
    for headers in readable:
        assert headers["access-control-allow-origin"] == origin
        assert "Retry-After" in headers["access-control-expose-headers"]
        assert headers.get("access-control-allow-credentials") == ("true" if page == "ours" else None)
        assert headers["vary"] == "Origin"


@pytest.mark.parametrize("origin", ["https://evil.example", "http://studio.example.org", "null"])
def test_a_page_of_an_origin_that_is_not_allowed_reads_nothing(watchful: Live, origin: str) -> None:
    asked = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    for answer in (httpx2.options(watchful.events_url, headers=asked), httpx2.get(watchful.events_url, headers=asked)):
        assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("host", ["10.42.8.201:8001", "evil.example", "a host?", ""])
def test_a_probe_may_name_any_host(live: Live, host: str) -> None:
    for at, expected in (("/healthz", 200), ("/readyz", 503), ("/metrics", 403), ("/api/schema", 400)):
        answer = httpx2.get(f"http://{live.address}{at}", headers={"Host": host})
        assert answer.status_code == expected, at


def test_other_paths_of_the_api_are_not_found(live: Live) -> None:
    answer = httpx2.get(f"http://{live.address}/api/visual-generation/nothing")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


# --- How long it lasts ------------------------------------------------------------------------------------------------


def test_the_end_of_a_token_ends_the_stream(live: Live) -> None:
    authorization = f"Bearer {live.token_for(4)}"
    with live.stream({"requestId": live.submit()}, None, Authorization=authorization) as stream:
        assert stream.hear()["event"] == "subscribed"
        end = stream.hear()
        assert (end["event"], end["data"]) == ("closed", {"code": 4401})
        assert list(stream.response.iter_raw()) == [] if not stream.response.is_stream_consumed else True


def test_a_comment_is_sent_in_idle_periods(watchful: Live) -> None:
    with watchful.stream({"requestId": watchful.submit()}) as stream:
        stream.hear()
        assert [stream.hear()["comment"] for _ in range(3)] == ["still here"] * 3


def test_a_deactivated_user_gets_no_more_updates(watchful: Live) -> None:
    with watchful.stream({"projectId": "any"}, "charlie") as stream:
        stream.hear()
        watchful.database.execute("UPDATE auth_user SET is_active = false WHERE username = 'charlie'")
        while "event" not in (heard := stream.hear()):
            pass
        assert (heard["event"], heard["data"]) == ("closed", {"code": 4401})
    watchful.database.execute("UPDATE auth_user SET is_active = true WHERE username = 'charlie'")


def test_the_process_stops_while_streams_are_open(watchful: Live) -> None:
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
