"""The three ways of authentication of live connections, and their ends."""

from __future__ import annotations

import time
from typing import Any

import pytest
from rest_framework_simplejwt.tokens import AccessToken
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.realtime.live import STUDIO, Live, Socket
from tests.support.stack import wait_until

AUTHENTICATED = {"type": "authenticated"}


def test_a_token_in_the_first_message_is_accepted(live: Live) -> None:
    with live.socket(None) as socket:
        assert socket.ask(type="authenticate", token=live.token()) == AUTHENTICATED


@pytest.mark.parametrize("seconds", [{"iat": 5}, {"nbf": 5}, {"exp": -5}], ids=str)
def test_a_clock_skew_of_seconds_is_accepted(live: Live, seconds: dict[str, int]) -> None:
    token: Any = AccessToken(live.token())  # type: ignore[arg-type]
    for claim, difference in seconds.items():
        token[claim] = int(time.time()) + difference
    with live.socket(None) as socket:
        assert socket.ask(type="authenticate", token=str(token)) == AUTHENTICATED
    with live.stream({"projectId": "any"}, None, Authorization=f"Bearer {token}") as stream:
        assert stream.hear()["event"] == "subscribed"


def test_a_token_in_the_url_is_ignored(live: Live) -> None:
    with connect(f"ws://{live.address}/ws/visual-generation?token={live.token()}") as connection:
        assert Socket(connection).ask(type="subscribe", projectId="any")["code"] == "not_authenticated"
    assert live.refusal({"projectId": "any", "token": live.token("charlie")}, None)[0] == 401


def test_a_token_in_the_handshake_without_origin_is_accepted(live: Live) -> None:
    with live.socket(None, additional_headers={"Authorization": f"bearer {live.token()}"}) as socket:
        assert socket.hear() == AUTHENTICATED


@pytest.mark.parametrize("header", ["Bearer nonsense", "Bearer "])
def test_an_invalid_token_in_the_handshake_closes_the_socket(live: Live, header: str) -> None:
    with live.socket(None, additional_headers={"Authorization": header}) as socket:
        assert socket.end() == 4401


@pytest.mark.parametrize("origin", ["http://127.0.0.1:{port}", "http://127.0.0.1:{realtime}", "http://127.0.0.1"])
def test_the_session_of_own_pages_is_accepted(live: Live, origin: str) -> None:
    named = origin.format(port=live.stack.port, realtime=live.stack.realtime_port)
    with live.socket(None, additional_headers=live.session(), origin=named) as socket:
        assert socket.hear() == AUTHENTICATED
        request_id = live.submit()
        assert socket.ask(type="subscribe", requestId=request_id)["type"] == "subscribed"


@pytest.mark.parametrize("origin", ["http://evil.example", "https://127.0.0.1.evil.example", "null", "http://[", ""])
def test_the_cookie_is_rejected_from_a_foreign_page(live: Live, origin: str) -> None:
    headers = {**live.session(), "Origin": origin}
    with pytest.raises(InvalidStatus) as refused, live.socket(None, additional_headers=headers):
        pass
    assert refused.value.response.status_code == 403


def test_a_cookie_without_an_origin_is_ignored(live: Live) -> None:
    with live.socket(None, additional_headers=live.session()) as socket:
        assert socket.ask(type="subscribe", requestId=live.submit())["code"] == "not_authenticated"
        assert socket.ask(type="authenticate", token=live.token()) == AUTHENTICATED


def test_a_foreign_page_without_a_cookie_may_use_a_token(live: Live) -> None:
    with live.socket(None, origin="https://studio.example.org") as socket:
        assert socket.ask(type="authenticate", token=live.token()) == AUTHENTICATED


def test_the_cookie_of_an_allowed_origin_is_ignored(watchful: Live) -> None:
    """A browser adds it if both are on the same site; the page uses a token."""
    with watchful.socket(None, additional_headers=watchful.session(), origin=STUDIO) as socket:
        assert socket.ask(type="subscribe", projectId="any")["code"] == "not_authenticated"
        assert socket.ask(type="authenticate", token=watchful.token()) == AUTHENTICATED


@pytest.mark.parametrize("kind", ["expired", "forged", "of another kind"])
def test_invalid_tokens_close_the_socket(live: Live, kind: str) -> None:
    token = {
        "expired": live.token_for(-1),
        "forged": live.token()[:-4] + "AAAA",
        "of another kind": "eyJhbGciOiJub25lIn0.eyJ1c2VyX2lkIjoiMSJ9.",
    }[kind]
    with live.socket(None) as socket:
        socket.say(type="authenticate", token=token)
        assert socket.end() == 4401


def test_a_socket_ends_with_its_token_and_a_newer_one_extends_it(live: Live) -> None:
    with live.socket(None) as short, live.socket(None) as prolonged:
        for socket in (short, prolonged):
            assert socket.ask(type="authenticate", token=live.token_for(4)) == AUTHENTICATED
        assert prolonged.ask(type="authenticate", token=live.token()) == AUTHENTICATED
        assert short.end() == 4401
        assert prolonged.hears_nothing()


def test_a_socket_cannot_change_its_user(live: Live) -> None:
    with live.socket("alice") as socket:
        assert socket.ask(type="authenticate", token=live.token("bob"))["code"] == "another_user"
        assert socket.hears_nothing()


def test_a_client_must_authenticate_within_ten_seconds(live: Live) -> None:
    with live.socket(None) as socket:
        began = time.monotonic()
        assert socket.hears_nothing()
        assert socket.end(seconds=40) == 4401
        assert time.monotonic() - began > 8


@pytest.mark.parametrize("path", ["/", "/ws/", "/ws/visual-generation/more", "/api/visual-generation/events"])
def test_no_other_path_accepts_a_websocket(live: Live, path: str) -> None:
    with pytest.raises(InvalidStatus) as refused, connect(f"ws://{live.address}{path}"):
        pass
    assert refused.value.response.status_code == 403
    live.assert_well()


def test_no_token_is_written_to_a_log(live: Live) -> None:
    assert live.token() not in live.stack.log("realtime")


# --- What is looked at from time to time ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    ["is_active = false", "is_staff = true", "password = 'another'"],
    ids=["deactivated", "rights", "password"],
)
def test_only_connections_of_revoked_users_are_closed(watchful: Live, change: str) -> None:
    before = watchful.database.rows("SELECT is_active, is_staff, password FROM auth_user WHERE username = 'charlie'")[0]
    with watchful.socket("charlie") as charlie, watchful.socket("alice") as alice:
        for socket in (charlie, alice):  # a client with subscriptions is never idle
            socket.ask(type="subscribe", projectId="any")
        watchful.database.execute(f"UPDATE auth_user SET {change} WHERE username = 'charlie'")  # noqa: S608  a test's own
        assert charlie.end() == 4401
        assert alice.hears_nothing()
    restore = "UPDATE auth_user SET is_active = %s, is_staff = %s, password = %s WHERE username = 'charlie'"
    watchful.database.execute(restore, *before.values())


def test_signing_out_ends_the_sockets_of_that_session(watchful: Live) -> None:
    origin = f"http://127.0.0.1:{watchful.stack.port}"
    headers = watchful.session()
    with watchful.socket(None, additional_headers=headers, origin=origin) as socket:
        assert socket.hear() == AUTHENTICATED
        socket.ask(type="subscribe", projectId="any")
        watchful.database.execute("DELETE FROM django_session")
        assert socket.end() == 4401


def test_an_idle_client_without_subscriptions_is_closed(watchful: Live) -> None:
    with watchful.socket() as idle, watchful.socket() as watching, watchful.socket() as talking:
        watching.ask(type="subscribe", requestId=watchful.submit())
        ended: list[int] = []

        def is_over() -> bool:
            assert talking.hears_nothing()
            if not ended and idle.connection.close_code is not None:
                ended.append(idle.connection.close_code)
            return bool(ended)

        wait_until(is_over, what="the end of the idle socket")
        assert ended == [4408]
        assert watching.hears_nothing()


def key_of(live: Live, **more: Any) -> dict[str, Any]:
    wanted = {"name": "tests", "scopes": ["requests:read", "requests:write"]}
    key: dict[str, Any] = live.client("alice").post("/keys", json=wanted | more).raise_for_status().json()
    return key


def test_an_api_key_is_accepted_as_a_token_is(live: Live) -> None:
    key = key_of(live)["key"]
    request_id = live.submit()
    with live.socket(None) as socket:
        assert socket.ask(type="authenticate", token=key) == AUTHENTICATED
        assert socket.ask(type="subscribe", requestId=request_id)["type"] == "subscribed"
    with live.stream({"requestId": request_id}, None, Authorization=f"Bearer {key}") as stream:
        assert stream.hear()["event"] == "subscribed"
    with connect(f"ws://{live.address}/ws/visual-generation?token={key}") as connection:
        assert Socket(connection).ask(type="subscribe", projectId="any")["code"] == "not_authenticated"


def test_an_invalid_api_key_closes_the_socket(live: Live) -> None:
    key = key_of(live)["key"]
    for secret in (f"{key}a", "vgsk_", key[:-1] + ("a" if key[-1] != "a" else "b")):
        with live.socket(None) as socket:
            socket.say(type="authenticate", token=secret)
            assert socket.end() == 4401
        assert live.refusal({"projectId": "any"}, None, Authorization=f"Bearer {secret}")[0] == 401


def test_a_key_without_the_scope_watches_nothing(live: Live) -> None:
    key = key_of(live, scopes=["metrics"])["key"]
    with live.socket(None) as socket:
        assert socket.ask(type="authenticate", token=key)["code"] == "scope_missing"
    status, error = live.refusal({"projectId": "any"}, None, Authorization=f"Bearer {key}")
    assert (status, error["code"], error["required"]) == (403, "scope_missing", "requests:read")


def test_a_key_of_projects_watches_only_these(live: Live) -> None:
    key = key_of(live, projectIds=["dragons"])["key"]
    inside, outside = live.submit(projectId="dragons"), live.submit(projectId="cats")
    with live.socket(None) as socket:
        assert socket.ask(type="authenticate", token=key) == AUTHENTICATED
        assert socket.ask(type="subscribe", requestId=inside)["type"] == "subscribed"
        assert socket.ask(type="subscribe", projectId="dragons")["type"] == "subscribed"
        for hidden in ({"requestId": outside}, {"projectId": "cats"}):
            assert socket.ask(type="subscribe", **hidden)["code"] == "not_found"
    for hidden in ({"requestId": outside}, {"projectId": "cats"}):
        assert live.refusal(hidden, None, Authorization=f"Bearer {key}")[0] == 404


def test_a_socket_ends_with_its_key(watchful: Live) -> None:
    key, other = key_of(watchful), key_of(watchful)
    with watchful.socket(None) as revoked, watchful.socket(None) as kept:
        for socket, its in ((revoked, key), (kept, other)):
            assert socket.ask(type="authenticate", token=its["key"]) == AUTHENTICATED
        watchful.client("alice").delete(f"/keys/{key['keyId']}").raise_for_status()
        assert revoked.end() == 4401
        assert kept.hears_nothing()


def test_a_socket_ends_with_the_previous_secret_of_its_key(watchful: Live) -> None:
    key = key_of(watchful)
    with watchful.socket(None) as socket:
        assert socket.ask(type="authenticate", token=key["key"]) == AUTHENTICATED
        rotated = watchful.client("alice").post(f"/keys/{key['keyId']}/rotate", json={"overlapHours": 0})
        rotated.raise_for_status()
        assert socket.end() == 4401
