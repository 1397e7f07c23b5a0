"""Unicode normalization of names in the API, the pages and the commands."""

from __future__ import annotations

import unicodedata
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from rest_framework.test import APIClient

from generation.models import GenerationRequest
from generation.requests import filters
from generation.states import Status
from tests.api.helpers import BATCH, REQUESTS, SUBMIT, answer, batch_body, body, post_json
from tests.support.requests import in_status

BLANKS = [" ", "\t", "\u00a0", "\u3000", "\r\n"]


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
@pytest.mark.parametrize("name", ["Zoë", "renée.ångström", "ｄora"])
def test_a_user_signs_in_by_any_spelling_of_the_name(db: None, settings: Any, name: str, form: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    User.objects.create_superuser(name, password="secret")
    spelled = f" {unicodedata.normalize(form, name)}\u3000"
    credentials = {"username": spelled, "password": "secret"}
    answer(post_json(APIClient(), credentials, at="/api/token"))
    for page in ("/sign-in", "/admin/login/"):
        assert Client().post(page, credentials).status_code == 302, page


def test_a_filter_and_a_command_accept_any_spelling_of_a_user(bob: User) -> None:
    User.objects.filter(pk=bob.pk).update(username="Zoë")
    request = in_status(bob, Status.FAILED)
    spelled = f" {unicodedata.normalize('NFD', 'Zoë')} "
    assert list(filters.matching(GenerationRequest.objects.all(), {"owner": spelled})) == [request]
    call_command("requeue", f" {request.pk} ", by=spelled, stdout=StringIO())
    request.refresh_from_db()
    assert request.status == Status.QUEUED


def test_the_admin_finds_a_user_by_any_spelling(client: Client, db: None) -> None:
    client.force_login(User.objects.create_superuser("Zoë"))
    page = client.get("/admin/auth/user/", {"q": f" {unicodedata.normalize('NFD', 'Zoë')} "})
    assert [user.username for user in page.context["cl"].result_list] == ["Zoë"]


@pytest.mark.parametrize("blank", BLANKS)
def test_spaces_around_a_project_and_a_page_are_ignored(api: APIClient, blank: str) -> None:
    def around(name: str) -> str:
        return f"{blank}{name}{blank}"

    submitted = answer(post_json(api, body(projectId=around("p 1"), pageId=around("7"))))["requestId"]
    batch = answer(post_json(api, {"requests": [body(projectId=around("p 1"))]}, at=BATCH))
    batched = batch["requests"][0]["requestId"]
    for name in ("p 1", around("p 1")):
        page = answer(api.get(REQUESTS, {"projectId": name}))["results"]
        assert [(one["requestId"], one["projectId"]) for one in page] == [(batched, "p 1"), (submitted, "p 1")]
        found = filters.matching(GenerationRequest.objects.order_by("pk"), {"project": name})
        assert [one.pk for one in found] == [submitted, batched]
    assert len(answer(api.get(REQUESTS, {"pageId": around("7")}))["results"]) == 1
    batch_id = batch["batchId"]
    assert len(answer(api.get(REQUESTS, {"batchId": around(batch_id)}))["results"]) == 1
    assert list(filters.matching(GenerationRequest.objects.all(), {"batch": around(batch_id)}))
    assert answer(api.get(f"{BATCH}/%20{batch_id}%20"))["batchId"] == batch_id


def test_a_project_of_spaces_is_empty(api: APIClient) -> None:
    request_id = answer(post_json(api, body(projectId=" \u3000")))["requestId"]
    assert answer(api.get(f"/api/visual-generation/status/{request_id}"))["projectId"] is None


@pytest.mark.parametrize(("at", "data"), [(SUBMIT, body()), (BATCH, batch_body(2))], ids=["submit", "batch"])
def test_spaces_around_an_idempotency_key_are_ignored(api: APIClient, at: str, data: Any) -> None:
    first = api.post(at, data, "json", HTTP_IDEMPOTENCY_KEY="one key")
    again = api.post(at, data, "json", HTTP_IDEMPOTENCY_KEY=" one key \t")
    assert (again.content, again["Idempotent-Replayed"]) == (first.content, "true")
