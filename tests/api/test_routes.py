"""Authentication and isolation of users on every route, collected from the URL configuration."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any, Final

import pytest
from django.contrib.auth.models import User
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from rest_framework.test import APIClient

from generation.models import ApiKey, GenerationBatch, GenerationRequest, Upload, WebhookDelivery, WebhookEndpoint
from generation.states import Status
from tests.api.helpers import (
    UNKNOWN_BATCH_ID,
    UNKNOWN_ID,
    UNKNOWN_UPLOAD_ID,
    assert_error,
    batch_body,
    body,
    client_for,
    completed,
    shown,
)
from tests.support.batches import batch_in
from tests.support.keys import key_of
from tests.support.uploads import upload_of
from tests.support.webhooks import delivery_of, endpoint_of

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
#: Routes without authentication. All others need a token.
PUBLIC: Final = {
    *("sign-in", "sign-out", "healthz", "readyz", "metrics", "generation:schema", "generation:docs"),
    *("generation:token", "generation:token-refresh", "generation:token-verify"),
}
#: HTML pages, which answer errors as pages. Those of the dashboard need a session and have their own tests.
DASHBOARD: Final = {"studio", "request", "queue", "keys", "uploads", "webhooks", "webhook", "webhook-calls"}
#: Routes below /v1, which have another format of errors, and tests of their own.
OPENAI: Final = "generation:openai-"
PAGES: Final = {"sign-in", "sign-out", "generation:docs"} | DASHBOARD
#: Path parameters, with values that do not exist.
UNKNOWN: Final = {
    "request_id": UNKNOWN_ID,
    "batch_id": UNKNOWN_BATCH_ID,
    "upload_id": UNKNOWN_UPLOAD_ID,
    "extension": "",
    "key_id": "zzzzzzzz",
    "webhook_id": "vgw_1700000000000000_000000000000000000",
    "delivery_id": "vgd_1700000000000000_000000000000000000",
}


def _patterns(resolver: URLResolver, namespace: str = "") -> Iterator[tuple[str, URLPattern]]:
    """Yield every named route outside the admin, with its name."""
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLResolver):
            if pattern.namespace != "admin":
                yield from _patterns(pattern, f"{pattern.namespace}:" if pattern.namespace else namespace)
        elif pattern.name:
            yield f"{namespace}{pattern.name}", pattern


def _parts(pattern: URLPattern) -> set[str]:
    return set(pattern.pattern.regex.groupindex)


PATTERNS: Final = {
    name: found for name, found in _patterns(get_resolver()) if name not in DASHBOARD and not name.startswith(OPENAI)
}
OF_SOMETHING: Final = sorted(name for name, pattern in PATTERNS.items() if _parts(pattern))
OF_ALL: Final = sorted(PATTERNS.keys() - OF_SOMETHING)


def _address(name: str, **parts: str) -> str:
    """Return the path of the route, with unknown values for missing parameters."""
    return reverse(name, kwargs={part: parts.get(part, UNKNOWN[part]) for part in _parts(PATTERNS[name])})


def _call(client: APIClient, method: str, at: str, data: Any = None) -> Any:
    text: Any = json.dumps({} if data is None else data)
    return client.generic(method, at, text, content_type="application/json")


@pytest.fixture
def hers(alice: User) -> dict[str, list[str]]:
    """Ids of Alice's objects: a request in each status, all in one batch, and one more with an image; and one of each
    other kind."""
    batch, ids = batch_in(alice, [status for status in Status.values if status != Status.COMPLETED])
    webhook = endpoint_of(alice, url="https://secret-hook.example.org/")
    return {
        "request_id": [*ids, completed(alice, project_id="secret-project").pk],
        "batch_id": [batch.pk],
        "key_id": [key_of(alice, name="secret-key")[0].pk],
        "upload_id": [upload_of(alice, name="secret-upload").pk],
        "webhook_id": [webhook.pk],
        "delivery_id": [delivery_of(webhook).pk],
    }


def _everything() -> list[Any]:
    return [
        *GenerationRequest.objects.order_by("pk").values_list("pk", "status", "sequence", "owner"),
        *GenerationBatch.objects.order_by("pk").values_list("pk", "owner"),
        *ApiKey.objects.order_by("pk").values_list("pk", "name", "digest", "revoked_at"),
        *Upload.objects.order_by("pk").values_list("pk", "name", "last_used_at"),
        *WebhookEndpoint.objects.order_by("pk").values_list("pk", "url", "secret", "enabled"),
        *WebhookDelivery.objects.order_by("pk").values_list("pk", "state"),
    ]


def test_every_route_of_the_contract_exists() -> None:
    assert {
        *("submit", "status", "requests", "retry", "batches", "batch", "queue-status", "metrics", "cancel"),
        *("image", "thumbnail", "token", "token-refresh", "token-verify"),
    } <= {name.removeprefix("generation:") for name in PATTERNS}
    assert PATTERNS.keys() >= PUBLIC


@pytest.mark.parametrize("name", sorted(PATTERNS.keys() - PUBLIC))
def test_an_anonymous_call_is_rejected_on_every_route(
    anonymous: APIClient, hers: dict[str, list[str]], name: str
) -> None:
    before = _everything()
    parts = {part: ids[-1] for part, ids in hers.items()}
    for method in METHODS:
        response = _call(anonymous, method, _address(name, **parts), body())
        assert response.status_code == 401, method
        assert response["WWW-Authenticate"].startswith("Bearer")
        if method != "HEAD":
            assert_error(response, 401, "not_authenticated")
    assert _everything() == before


@pytest.mark.parametrize("name", OF_SOMETHING)
def test_foreign_and_unknown_ids_get_identical_responses(
    stranger: APIClient, hers: dict[str, list[str]], name: str
) -> None:
    before = _everything()
    for method in METHODS:
        never = shown(_call(stranger, method, _address(name)))
        for part in _parts(PATTERNS[name]) & hers.keys():
            for there in hers[part]:
                theirs = _call(stranger, method, _address(name, **{part: there}))
                assert shown(theirs) == never, (method, there)
        assert never[0] in {404, 405} or method == "OPTIONS"
    assert _everything() == before


@pytest.mark.parametrize("name", OF_SOMETHING)
def test_the_owner_gets_another_response_than_other_users(
    api: APIClient, hers: dict[str, list[str]], name: str
) -> None:
    """Otherwise the previous test would pass for routes that find nothing for all users."""
    part = (_parts(PATTERNS[name]) & hers.keys()).pop()
    answers = {
        shown(_call(api, method, _address(name, **{part: there})))[0] for method in METHODS for there in hers[part]
    }
    assert answers & {200, 202, 400}  # 400 is about the body


@pytest.mark.parametrize("name", OF_ALL)
def test_a_public_route_reveals_nothing_of_another_user(
    stranger: APIClient, hers: dict[str, list[str]], alice: User, name: str
) -> None:
    before = _everything()
    request = GenerationRequest.objects.get(pk=hers["request_id"][-1])
    secrets = [
        *hers["request_id"],
        *hers["batch_id"],
        *hers["key_id"],
        *hers["upload_id"],
        "secret-key",
        *hers["webhook_id"],
        *hers["delivery_id"],
        "secret-upload",
        "secret-hook",
        request.project_id,
        request.result["sha256"],
        alice.username,
    ]
    for method in METHODS:
        response = _call(stranger, method, _address(name))
        told = b"".join(response) if response.streaming else response.content
        assert response.status_code < 500 or name == "readyz"
        for secret in secrets:
            assert secret.encode() not in told, (method, secret)
    assert _everything() == before


# --- A thousand calls -------------------------------------------------------------------------------------------------

BODIES: Final = [
    *(json.dumps(one).encode() for one in (body(), batch_body(2), batch_body(3, maxConcurrent=1))),
    *(b"{}", b"[]", b"null", b"7"),
    json.dumps(body(metadata={"seed": 1, "mine": [None, {"a": 1.5}]}, projectId="p")).encode(),
    json.dumps({"requests": [body(), {"prompt": None}, 7], "batchOptions": {"maxConcurrent": 0}}).encode(),
    json.dumps({"username": "alice", "password": "wrong"}).encode(),
    json.dumps({"refresh": "x", "token": "y"}).encode(),
    *(b"", b"{", b"\xff", b"\0", b"[" * 5_000, b'{"prompt": NaN}', b'{"type": "\\ud800", "prompt": "\\u0000"}'),
]
TYPES: Final = ["application/json"] * 8 + ["", "text/plain", "multipart/form-data", "application/json; charset=x"]
QUERIES: Final = [
    *[""] * 6,
    *(
        "?imageData=false",
        "?imageData=x",
        "?limit=1",
        "?limit=0",
        "?limit=101&status=queued",
        "?status=failed&type=cover",
    ),
    *("?cursor=cD0x", "?cursor=%00", "?createdAfter=2026-01-01", "?createdBefore=9999-12-31T23:59:59Z", "?batchId=x"),
    *(
        "?expires=1&signature=x",
        "?expires=99999999999&signature=%FF",
        "?format=xml",
        "?%00=%FF",
        "?projectId=p&pageId=%C3",
    ),
]
HEADERS: Final[list[dict[str, str]]] = [
    *[{}] * 6,
    {"HTTP_IDEMPOTENCY_KEY": "one"},
    {"HTTP_IDEMPOTENCY_KEY": "two"},
    {"HTTP_IDEMPOTENCY_KEY": "\0"},
    *[{"HTTP_IF_NONE_MATCH": "*"}] * 3,
    {"HTTP_IF_NONE_MATCH": '"x", W/"y'},
    {"HTTP_RANGE": "bytes=0-9"},
    {"HTTP_RANGE": "bytes=99999-", "HTTP_IF_RANGE": "x"},
    {"HTTP_RANGE": "bytes=-0"},
    {"HTTP_X_FORWARDED_FOR": "unknown, ::1%x"},
    {"HTTP_ACCEPT": "text/html;q=x"},
    {"HTTP_AUTHORIZATION": "Bearer x"},
    {"HTTP_X_HTTP_METHOD_OVERRIDE": "DELETE"},
    {"HTTP_CONTENT_ENCODING": "gzip"},
]
ODD_IDS: Final = [
    "x",
    "%00",
    "%FF%FE",
    "..%2F",
    "vga_1_x",
    "vga_" + "9" * 400,
    "é",
    "vga_1700000000000000_000000000%0A",
]


def test_a_thousand_random_calls_are_all_answered(
    hers: dict[str, list[str]], alice: User, bob: User, charlie: User
) -> None:
    chance = random.Random(20_260_107)  # noqa: S311  the same in every run
    clients = [client_for(user) for user in (alice, alice, alice, bob, charlie, None)]
    known = [*hers["request_id"] * 2, *hers["batch_id"], *hers["upload_id"]]
    seen: set[int] = set()
    for _ in range(1_000):
        at = _address(name := chance.choice([*OF_SOMETHING * 3, *OF_ALL]))
        for unknown in (UNKNOWN_ID, UNKNOWN_BATCH_ID, UNKNOWN_UPLOAD_ID):
            at = at.replace(unknown, chance.choice([*known, unknown, chance.choice(ODD_IDS)]))
        call: dict[str, Any] = {
            "method": chance.choice([*("GET", "POST", "DELETE") * 4, *METHODS, "TRACE"]),
            "path": at + chance.choice(["", "", "/", ".png"]) + chance.choice(QUERIES),
            "data": chance.choice(BODIES),
            "content_type": chance.choice(TYPES),
            **chance.choice(HEADERS),
        }
        response = chance.choice(clients).generic(**call)
        assert response.status_code < 500 or name == "readyz", (call, response.content)
        if response.status_code >= 400 and call["method"] != "HEAD" and name not in PAGES | {"readyz"}:
            assert_error(response, response.status_code)
        seen.add(response.status_code)
        if response.status_code == 200 and name.endswith(":submit") and call["method"] == "POST":
            known.append(response.json()["requestId"])
    assert seen >= {200, 304, 400, 401, 404, 405, 409, 415}
