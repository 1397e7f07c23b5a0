"""Every page, by role: who sees it, what it costs, and that what others wrote is shown as text."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client

from generation.models import GenerationRequest
from generation.providers import circuit_breaker
from generation.requests import filters, lifecycle, permits, services
from generation.requests.claims import AttemptFailure, Claim
from generation.requests.new_request import NewRequest
from generation.states import Status
from tests.admin.pages import BATCHES, EXPORT, LISTS, REQUESTS, list_of, listed, page_of, text
from tests.api.helpers import completed
from tests.support.queries import queries_of
from tests.support.requests import claimed, in_status, queued

pytestmark = pytest.mark.django_db

MOST_QUERIES = 12
SCRIPT = '<script>alert("x")</script><img src=x onerror=alert(1)>'


@pytest.mark.parametrize("role", ["viewer", "administrator"])
def test_each_role_sees_every_page_and_no_script_runs_that_stands_in_one(
    role: str, browser_of: Callable[..., Client], alice: User
) -> None:
    client = browser_of(role)
    completed(alice)
    for address in ("/admin/", *map(list_of, LISTS)):
        response = client.get(address)
        assert response.status_code == 200, address
        policy = response["Content-Security-Policy"]
        scripts = next(part for part in policy.split("; ") if part.startswith("script-src"))
        assert "unsafe-inline" not in scripts
        assert "frame-ancestors 'none'" in policy


def test_without_a_role_there_is_nothing_to_see(browser_of: Callable[..., Client], alice: User) -> None:
    client = browser_of()
    request = completed(alice)
    assert "You have no role yet" in text(client.get("/admin/"))
    for name in LISTS:
        assert client.get(list_of(name)).status_code == 403, name
    assert client.get(page_of(request.pk)).status_code == 403
    assert client.get(EXPORT).status_code == 403


def test_a_user_who_is_not_staff_has_to_sign_in(client: Client, alice: User) -> None:
    client.force_login(alice)
    for name in LISTS:
        assert client.get(list_of(name)).status_code == 302, name


@pytest.mark.parametrize("name", ["generationrequest", "generationattempt", "bulkaction", "pause", "generationbatch"])
def test_no_role_edits_what_the_system_writes(name: str, administrator: Client, alice: User) -> None:
    request = in_status(alice, Status.FAILED)
    assert administrator.get(f"/admin/generation/{name}/add/").status_code == 403
    assert administrator.post(page_of(request.pk), {"status": "completed"}).status_code == 405
    assert administrator.post(f"{REQUESTS}{request.pk}/delete/", {"post": "yes"}).status_code == 403
    request.refresh_from_db()
    assert request.status == Status.FAILED


def test_a_list_costs_few_queries_however_many_rows_it_has(viewer: Client, alice: User) -> None:
    for status in Status:
        in_status(alice, status)
    few = _queries(viewer, REQUESTS)
    for _ in range(20):
        in_status(alice, Status.COMPLETED)
    many = _queries(viewer, REQUESTS)
    assert len(many) == len(few) <= MOST_QUERIES
    for address in (f"{REQUESTS}?status=failed&owner=alice", f"{REQUESTS}?q=dragon", f"{REQUESTS}?on=2026"):
        assert len(_queries(viewer, address)) <= MOST_QUERIES
    assert not any("COUNT(" in query for query in many)
    assert not any('"metadata"' in query or '"result"' in query for query in many)


@pytest.mark.parametrize("name", ["generation_generationbatch", "generation_generationattempt", "admin_logentry"])
def test_other_long_lists_count_nothing_either(name: str, viewer: Client, alice: User) -> None:
    for _ in range(5):
        _batch(alice)
    found = _queries(viewer, list_of(name))
    assert len(found) <= MOST_QUERIES


def test_pages_go_on_by_key_and_back(viewer: Client, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generation.admin.requests.GenerationRequestAdmin.list_per_page", 2)
    ids = [queued(alice).pk for _ in range(5)][::-1]
    assert listed(viewer) == ids[:2]
    assert listed(viewer, f"p=older.{ids[1]}") == ids[2:4]
    assert listed(viewer, f"p=older.{ids[3]}") == ids[4:]
    assert listed(viewer, f"p=newer.{ids[4]}") == ids[2:4]
    page = viewer.get(f"{REQUESTS}?p=older.{ids[1]}").content.decode()
    assert f"?p=older.{ids[3]}" in page
    assert f"?p=newer.{ids[2]}" in page
    for odd in ("older.", "older", "x.y", "older.\0", "-1"):
        assert viewer.get(REQUESTS, {"p": odd}).status_code == 200


def test_filters_and_search_find_what_they_say(viewer: Client, alice: User, charlie: User) -> None:
    dragon = queued(alice, prompt="A green dragon on a hill", project_id="book-1", priority="urgent")
    castle = queued(charlie, prompt="A castle by the sea, with towers", type="cover")
    failed = in_status(alice, Status.FAILED)
    for query, expected in {
        "": [failed, castle, dragon],
        "status=queued": [castle, dragon],
        "priority=urgent": [dragon],
        "type=cover": [castle],
        "error=unavailable": [failed],
        "error=timeout": [],
        "owner=charlie": [castle],
        "owner=unknown-user": [],
        "project=book-1": [dragon],
        "q=castle+tower": [castle],
        "q=book-1": [dragon],
        f"q={dragon.pk}": [dragon],
        f"q={dragon.pk[:-4]}": [dragon],
        "q=castle+dragon": [],
        "q=%22%27%3B--": [],
        "on=2026": [failed, castle, dragon],
        "on=1999-12-31": [],
        "on=2026-13": [],
        "on=tomorrow": [],
        "after=2020-01-01T00:00": [failed, castle, dragon],
        "before=2020-01-01T00:00": [],
        "before=soon": [],
        "batch=vgb_1": [],
        "status=queued&owner=alice": [dragon],
        "unknown=1": [failed, castle, dragon],
    }.items():
        if query == "unknown=1":
            assert viewer.get(f"{REQUESTS}?{query}").status_code == 302
            continue
        query = query.replace("2026", f"{dragon.created_at:%Y}") if query == "on=2026" else query
        assert listed(viewer, query) == [one.pk for one in expected], query


def test_frequent_words_are_found_as_rare_ones_are(
    viewer: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [queued(alice, prompt=f"A Dragon number {number} in a garden").pk for number in range(3)]
    queued(alice, prompt="A castle with a snapdragon")
    rare = listed(viewer, "q=drag+GARD")
    monkeypatch.setattr(filters, "_FREQUENT", 1)
    frequent = listed(viewer, "q=drag+GARD")
    monkeypatch.setattr(filters, "_FREQUENT", 100)
    monkeypatch.setattr(filters, "_FEW", 1)
    filters._frequent.clear()
    many = listed(viewer, "q=drag+GARD")
    filters._frequent.clear()
    assert rare == frequent == many == ids[::-1]


def test_the_provider_filter_goes_by_the_attempts(viewer: Client, alice: User) -> None:
    claim = claimed(alice)
    queued(alice)
    _begin(claim)
    assert listed(viewer, "provider=clipart") == [claim.request.pk]
    assert listed(viewer, "provider=openai") == []


def test_the_page_of_a_request_tells_everything(viewer: Client, alice: User) -> None:
    claim = claimed(alice, project_id="book-1")
    _begin(claim)
    failure = AttemptFailure(
        message="Safety first", code="refused_input", retryable=False, provider="clipart", provider_request_id="req_77"
    )
    assert lifecycle.fail(claim, failure)
    page = text(viewer.get(page_of(claim.request.pk)))
    for expected in (
        *("Failed", "Safety first", "refused_input", "req_77", "clipart", "book-1", "alice", "Started"),
        *("Prompt sent to the provider", "the prompt as it was sent", "Rephrase the prompt", "Metadata as JSON"),
    )[:-1]:
        assert expected in page, expected
    assert "error as json" in page.lower()


def test_the_admins_own_addresses_of_a_request_work_too(viewer: Client, alice: User) -> None:
    request = queued(alice)
    assert viewer.get(page_of(request.pk.replace("_", "_5F"))).status_code == 200
    assert viewer.get(page_of("vga_nothing")).status_code == 302
    assert viewer.get(page_of("%00")).status_code == 302


def test_a_completed_request_shows_its_image_from_the_same_host(viewer: Client, alice: User) -> None:
    request = completed(alice)
    body = viewer.get(page_of(request.pk)).content.decode()
    assert f'src="/api/visual-generation/image/{request.pk}?' in body
    assert f'src="/api/visual-generation/thumbnail/{request.pk}?' in viewer.get(REQUESTS).content.decode()


def test_text_of_other_users_is_shown_as_text(operator: Client, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(username=f"al{SCRIPT}"[:150])
    claim = claimed(alice, prompt=SCRIPT, project_id=SCRIPT, page_id=SCRIPT, metadata={"title": SCRIPT, SCRIPT: 1})
    failure = AttemptFailure(
        message=SCRIPT, code="invalid_request", retryable=False, provider="openai", provider_request_id=SCRIPT
    )
    assert lifecycle.fail(claim, failure)
    batch, _ = _batch(alice, prompt=SCRIPT)
    pk = claim.request.pk
    services.pause(user=_superuser(), scope="type", value="cover", reason=SCRIPT)
    for address in (
        *(REQUESTS, page_of(pk), f"{REQUESTS}act/?action=retry&ids={pk}", f"{BATCHES}{batch.pk}/change/", BATCHES),
        *("/admin/", "/admin/generation/pause/", "/admin/generation/generationattempt/", list_of("auth_user")),
        f"{REQUESTS}?q=%3Cscript%3Ealert&project=%3Cscript%3E&on=%3Cscript%3E",
    ):
        body = operator.get(address).content.decode()
        assert "<script>alert" not in body, address
        assert "<img src=x" not in body, address
    assert "<script>alert" in text(operator.get(page_of(pk)))


def test_the_export_has_what_the_filter_has_and_no_formula(viewer: Client, alice: User) -> None:
    for prompt in ("=HYPERLINK(A1) in a garden", "@SUM(1) in a garden", "  +1 in a garden", "A plain dragon here"):
        queued(alice, prompt=prompt, project_id="-2")
    in_status(alice, Status.FAILED)
    response = viewer.get(f"{EXPORT}?status=queued")
    assert response.streaming
    rows = list(csv.DictReader(io.StringIO(b"".join(response).decode())))
    assert {row["status"] for row in rows} == {"queued"}
    assert [row["prompt"] for row in rows] == [
        *("A plain dragon here", "'  +1 in a garden", "'@SUM(1) in a garden", "'=HYPERLINK(A1) in a garden"),
    ]
    assert {row["project"] for row in rows} == {"'-2"}


def test_the_dashboard_shows_what_needs_attention(viewer: Client, alice: User) -> None:
    in_status(alice, Status.FAILED)
    circuit_breaker.failed("openai", "auth", wait=timedelta(0))
    page = text(viewer.get("/admin/"))
    for expected in ("No worker is up", "openai is suspended", "unavailable", "Queue by priority", "Spent today"):
        assert expected in page, expected


def test_batches_tell_how_far_they_are(viewer: Client, alice: User) -> None:
    batch, requests = _batch(alice)
    services.cancel(user=alice, request_id=requests[0].pk)
    assert "1 of 3" in text(viewer.get(BATCHES))
    page = text(viewer.get(f"{BATCHES}{batch.pk}/change/"))
    assert "2 queued, 1 cancelled" in page


def _batch(owner: User, **more: str) -> tuple:  # type: ignore[type-arg]
    draft = NewRequest(type="cover", prompt=more.get("prompt", "A dragon in a garden"), priority="normal")
    return services.submit_batch(owner=owner, drafts=[draft] * 3, priority="normal", max_concurrent=None)


def _begin(claim: Claim) -> None:
    permit = permits.begin_call(
        claim,
        provider="clipart",
        model="openmoji-17",
        prompt="the prompt as it was sent",
        deadline=timedelta(seconds=60),
    )
    assert permit.granted


def _superuser() -> User:
    user: User = User.objects.create(username="root", is_staff=True, is_superuser=True)
    return user


def _queries(client: Client, address: str) -> list[str]:
    def look() -> None:
        assert client.get(address).status_code == 200, address

    return queries_of(look)


def test_the_list_shows_no_more_than_a_page(viewer: Client, alice: User) -> None:
    drafts = [NewRequest(type="cover", prompt="A dragon in a garden", priority="normal")] * 60
    lifecycle.submit(drafts, owner=alice)
    assert len(listed(viewer)) == 50 < GenerationRequest.objects.count()


def test_a_decision_is_shown_in_the_list_and_on_the_page(viewer: Client, alice: User) -> None:
    approved, other = completed(alice), completed(alice)
    services.approve(user=alice, request=approved, approval="approved", note="The <best> one")
    assert listed(viewer, "approval=approved") == [approved.pk]
    assert listed(viewer, "approval=none") == [other.pk]
    assert "Completed Approved" in text(viewer.get(REQUESTS))
    page = text(viewer.get(page_of(approved.pk)))
    assert "Decision Approved" in page
    assert "The <best> one" in page
