"""WebSocket subscriptions: which client receives which updates."""

from __future__ import annotations

import time
from typing import Any

import pytest

from generation.realtime.rate_limit import BURST, RATE
from tests.realtime.live import UNKNOWN_IDS, Live


def test_a_request_is_sent_with_its_state_and_changes(live: Live) -> None:
    request_id = live.submit()
    with live.socket() as socket:
        first = socket.ask(type="subscribe", requestId=request_id)
        assert (first["type"], first["requestId"], first["data"]["sequence"]) == ("subscribed", request_id, 1)
        live.cancel(request_id)
        live.retry(request_id)
        updates = [socket.hear(), socket.hear()]
    assert [(one["type"], one["requestId"]) for one in updates] == [("update", request_id)] * 2
    assert [one["data"]["status"] for one in updates] == ["cancelled", "queued"]
    assert [one["data"]["sequence"] for one in updates] == [2, 3]
    assert {"status", "progress", "sequence", "result", "metadata"} <= updates[0]["data"].keys()


def test_a_batch_has_the_api_format_and_sends_all_its_requests(live: Live) -> None:
    batch_id, ids = live.submit_batch(3)
    with live.socket() as socket:
        first = socket.ask(type="subscribe", batchId=batch_id)
        assert (first["type"], first["batchId"]) == ("subscribed", batch_id)
        assert first["data"] == live.client("alice").get(f"/batch/{batch_id}").json()
        for request_id in ids:
            live.cancel(request_id)
        assert [socket.hear()["requestId"] for _ in ids] == ids


def test_a_project_has_the_list_format_and_sends_new_requests(live: Live) -> None:
    old = [live.submit(projectId="a book") for _ in range(22)]
    with live.socket() as socket:
        first = socket.ask(type="subscribe", projectId="a book")
        listed = live.client("alice").get("/requests", params={"projectId": "a book", "limit": 20}).json()
        assert [one["requestId"] for one in first["data"]["results"]] == [one["requestId"] for one in listed["results"]]
        following = live.client("alice").get(first["data"]["next"]).json()
        assert [one["requestId"] for one in following["results"]] == [old[1], old[0]]
        new = live.submit(projectId="a book")
        update = socket.hear()
        assert (update["requestId"], update["data"]["sequence"]) == (new, 1)
        live.cancel(old[0])
        assert socket.hear()["requestId"] == old[0]


def test_overlapping_subscriptions_get_each_change_once(live: Live) -> None:
    batch_id, (request_id, _) = live.submit_batch(2, projectId="thrice")
    with live.socket() as socket:
        for target in ({"requestId": request_id}, {"batchId": batch_id}, {"projectId": "thrice"}):
            assert socket.ask(type="subscribe", **target)["type"] == "subscribed"
        live.cancel(request_id)
        assert socket.hear()["data"]["sequence"] == 2
        assert socket.hears_nothing()


def test_several_subscribers_all_get_it(live: Live) -> None:
    request_id = live.submit()
    with live.socket("alice") as first, live.socket("alice") as second, live.socket("bob") as staff:
        for socket in (first, second, staff):
            socket.ask(type="subscribe", requestId=request_id)
        live.cancel(request_id)
        heard = [socket.hear() for socket in (first, second, staff)]
    assert heard[0]["data"]["status"] == "cancelled"
    assert heard.count(heard[0]) == 3


@pytest.mark.parametrize("kind", ["requestId", "batchId", "projectId"])
def test_after_unsubscribing_no_update_is_sent(live: Live, kind: str) -> None:
    batch_id, (request_id, _) = live.submit_batch(2, projectId="left")
    target = {kind: {"requestId": request_id, "batchId": batch_id, "projectId": "left"}[kind]}
    with live.socket() as socket, live.socket() as witness:
        for one in (socket, witness):
            one.ask(type="subscribe", **target)
        assert socket.ask(type="unsubscribe", **target) == {"type": "unsubscribed", **target}
        assert socket.ask(type="unsubscribe", **target) == {"type": "unsubscribed", **target}
        live.cancel(request_id)
        assert witness.hear()["type"] == "update"
        assert socket.hears_nothing()


# --- Isolation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["requestId", "batchId"])
def test_foreign_and_unknown_topics_get_the_same_error(live: Live, kind: str) -> None:
    batch_id, (request_id, _) = live.submit_batch(2)
    hers = {"requestId": request_id, "batchId": batch_id}[kind]
    with live.socket("charlie") as stranger, live.socket("alice") as owner:
        assert owner.ask(type="subscribe", **{kind: hers})["type"] == "subscribed"
        refused = stranger.ask(type="subscribe", **{kind: hers})
        assert refused == stranger.ask(type="subscribe", **{kind: UNKNOWN_IDS[kind]})
        assert refused["code"] == "not_found"
        live.cancel(request_id)
        assert owner.hear()["type"] == "update"
        assert stranger.hears_nothing()


def test_a_project_of_the_same_name_is_another_project(live: Live) -> None:
    hers = live.submit("alice", projectId="same name")
    his = live.submit("charlie", projectId="same name")
    with live.socket("charlie") as stranger, live.socket("alice") as owner, live.socket("bob") as staff:
        seen = {}
        for name, socket in (("charlie", stranger), ("alice", owner), ("bob", staff)):
            first = socket.ask(type="subscribe", projectId="same name")
            seen[name] = {one["requestId"] for one in first["data"]["results"]}
        assert seen == {"charlie": {his}, "alice": {hers}, "bob": {hers, his}}
        live.cancel(hers)
        assert owner.hear()["requestId"] == staff.hear()["requestId"] == hers
        assert stranger.hears_nothing()
        live.cancel(his)
        assert stranger.hear()["requestId"] == staff.hear()["requestId"] == his
        assert owner.hears_nothing()


def test_a_project_without_own_requests_is_empty(live: Live) -> None:
    live.submit("alice", projectId="hers alone")
    with live.socket("charlie") as stranger:
        foreign, unknown = (stranger.ask(type="subscribe", projectId=name) for name in ("hers alone", "unused"))
        assert foreign["data"] == unknown["data"] == {"results": [], "next": None, "previous": None}


# --- What it does not accept ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"requestId": None},
        {"requestId": 7},
        {"requestId": ["vga_1"]},
        {"requestId": {"a": 1}},
        {"batchId": True},
        {"projectId": 1.5},
        {"requestId": "vga_1", "batchId": "vgb_1"},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["subscribe", "unsubscribe"])
def test_messages_of_wrong_types_are_rejected(live: Live, kind: str, message: dict[str, Any]) -> None:
    with live.socket() as socket:
        assert socket.ask(type=kind, **message)["code"] == "invalid_message"
        assert socket.hears_nothing()


@pytest.mark.parametrize(
    "target",
    [
        {"requestId": ""},
        {"requestId": "' OR 1=1 --"},
        {"requestId": "\ud800"},
        {"batchId": "\0"},
        {"projectId": ""},
        {"projectId": "a" * 256},
        {"projectId": "\ud800"},
        {"projectId": "nul\0"},
    ],
    ids=repr,
)
def test_a_malformed_id_is_not_found(live: Live, target: dict[str, str]) -> None:
    with live.socket() as socket:
        assert socket.ask(type="subscribe", **target)["code"] == "not_found"
        assert socket.hears_nothing()


@pytest.mark.parametrize(
    "raw", ["", "not json", "[]", "null", "7", '"text"', "[" * 60_000, '{"type": NaN}', "1" * 5000, b"\0\1", b"{}"]
)
def test_an_invalid_message_is_rejected(live: Live, raw: str | bytes) -> None:
    with live.socket() as socket:
        socket.connection.send(raw)
        assert socket.hear()["type"] == "error"
        assert socket.hears_nothing()


def test_a_socket_accepts_200_subscriptions_at_once_and_no_more(live: Live) -> None:
    with live.socket() as socket:
        names = [f"project {number}" for number in range(200)]
        for kind in ("subscribe", "unsubscribe"):  # as a client that replaces all its subscriptions
            for name in names:
                socket.say(type=kind, projectId=name)
        heard = [socket.hear() for _ in range(400)]
        assert [(one["type"], one["projectId"]) for one in heard] == [
            *(("subscribed", name) for name in names),
            *(("unsubscribed", name) for name in names),
        ]


def test_a_socket_holds_200_subscriptions(live: Live) -> None:
    with live.socket() as socket:
        socket.say(type="subscribe", projectIds=[f"project {number}" for number in range(200)])
        assert {socket.hear()["type"] for _ in range(200)} == {"subscribed"}
        assert socket.ask(type="subscribe", projectId="one more")["code"] == "too_many_subscriptions"
        refused = socket.ask(type="subscribe", projectIds=["one more"])
        assert (refused["code"], refused["projectId"]) == ("too_many_subscriptions", "one more")
        assert socket.ask(type="subscribe", projectId="project 7")["type"] == "subscribed"  # already subscribed
        socket.ask(type="unsubscribe", projectId="project 7")
        assert socket.ask(type="subscribe", projectId="one more")["type"] == "subscribed"


# --- Lists of ids -----------------------------------------------------------------------------------------------------


def test_a_list_of_ids_is_answered_one_by_one(live: Live) -> None:
    first, second = live.submit(), live.submit()
    hers = live.submit("bob")
    with live.socket() as socket:
        socket.say(type="subscribe", requestIds=[first, hers, UNKNOWN_IDS["requestId"], f" {second} ", first])
        heard = [socket.hear() for _ in range(4)]
        assert [(one["type"], one["requestId"]) for one in heard] == [
            ("subscribed", first),
            ("error", hers),
            ("error", UNKNOWN_IDS["requestId"]),
            ("subscribed", second),
        ]
        assert heard[1] | {"requestId": ""} == heard[2] | {"requestId": ""}
        live.cancel(second)
        assert socket.hear()["requestId"] == second
        socket.say(type="unsubscribe", requestIds=[first, second])
        assert [socket.hear()["type"] for _ in range(2)] == ["unsubscribed"] * 2
        live.retry(second)
        assert socket.hears_nothing()


def test_each_id_of_a_list_counts_as_a_message(live: Live) -> None:
    began, passed = time.monotonic(), 0
    with live.socket() as socket:
        for _ in range(10):
            socket.say(type="unsubscribe", projectIds=[f"project {number}" for number in range(200)])
        for _ in range(10):
            if (first := socket.hear())["type"] == "unsubscribed":
                assert [socket.hear()["type"] for _ in range(199)] == ["unsubscribed"] * 199
                passed += 200
            else:
                assert first["code"] == "rate_limited"
    assert 400 <= passed <= BURST + RATE * (time.monotonic() - began)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"requestIds": "vga_1"}, "invalid_message"),
        ({"requestIds": ["vga_1", 7]}, "invalid_message"),
        ({"requestIds": ["vga_1", None]}, "invalid_message"),
        ({"requestIds": {"vga_1": 1}}, "invalid_message"),
        ({"requestIds": ["vga_1"], "requestId": "vga_1"}, "invalid_message"),
        ({"requestIds": ["vga_1"], "batchIds": ["vgb_1"]}, "invalid_message"),
        ({"requestIds": ["vga_1"] * 201}, "too_many_subscriptions"),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["subscribe", "unsubscribe"])
def test_invalid_lists_are_rejected(live: Live, kind: str, message: dict[str, Any], code: str) -> None:
    with live.socket() as socket:
        assert socket.ask(type=kind, **message)["code"] == code
        assert socket.hears_nothing()


# --- Spellings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blank", [" ", "\t", "\u00a0", "\u3000", "\n"])
def test_spaces_around_an_id_are_ignored(live: Live, blank: str) -> None:
    name = f"{blank}spelled {ord(blank)}{blank}"
    batch_id, (request_id, _) = live.submit_batch(2, projectId=name)
    for kind, id_ in (("projectId", name.strip()), ("batchId", batch_id), ("requestId", request_id)):
        with live.socket() as socket, live.stream({kind: f"{blank}{id_}{blank}"}) as stream:
            first = socket.ask(type="subscribe", **{kind: f"{blank}{id_}{blank}"})
            assert (first["type"], first[kind]) == ("subscribed", id_)
            assert stream.hear()["data"] == first
            (live.retry if kind == "batchId" else live.cancel)(request_id)
            assert socket.hear()["requestId"] == stream.hear()["data"]["requestId"] == request_id
            assert socket.ask(type="unsubscribe", **{kind: f"{id_}{blank}"})["type"] == "unsubscribed"


def test_null_means_absent(live: Live) -> None:
    with live.socket() as socket:
        message = {"type": "subscribe", "projectId": "any", "requestId": None, "batchIds": None}
        assert socket.ask(**message)["type"] == "subscribed"


def test_a_byte_order_mark_is_skipped(live: Live) -> None:
    with live.socket() as socket:
        socket.connection.send('\ufeff{"type": "ping"}')
        assert socket.hear() == {"type": "pong"}
