"""The HTML pages as sent by the server: permissions, content and escaping."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import partial
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from generation import caching
from generation.models import GenerationRequest, Pause, StatusChange
from generation.models.options import InputImage, Inputs
from generation.reports import timeline, trends
from generation.requests import lifecycle, services
from generation.requests.claims import AttemptFailure, Claim
from generation.requests.new_request import NewImage, NewRequest
from generation.states import ErrorCode, Reason, Status
from tests.api.helpers import UNKNOWN_ID, completed
from tests.support.measured import worker
from tests.support.queries import queries_of
from tests.support.requests import PROMPT, claimed, in_status, queued

HTML = "<img src=x onerror=alert(1)></script><b>\"bold'"
PASSWORD = "a-password-for-tests"


def _browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def page(alice: User) -> Client:
    """Alice's browser."""
    return _browser(alice)


def _fail(claim: Claim, code: str, message: str) -> None:
    assert lifecycle.fail(claim, AttemptFailure(message=message, code=code, retryable=False, provider="openai"))


@pytest.mark.parametrize("at", ["/", "/queue", "/keys", "/uploads", f"/requests/{UNKNOWN_ID}"])
def test_an_anonymous_visitor_is_sent_to_sign_in_and_back(client: Client, alice: User, at: str) -> None:
    response = client.get(at)
    assert (response.status_code, response["Location"]) == (302, f"/sign-in?next={at}")
    alice.set_password(PASSWORD)
    alice.save()
    entered = client.post(response["Location"], {"username": "alice", "password": PASSWORD, "next": at})
    assert (entered.status_code, entered["Location"]) == (302, at)


@pytest.mark.parametrize("elsewhere", ["https://elsewhere.example/", "//elsewhere.example", "javascript:alert(1)"])
def test_sign_in_does_not_redirect_to_other_sites(client: Client, alice: User, elsewhere: str) -> None:
    alice.set_password(PASSWORD)
    alice.save()
    response = client.post("/sign-in", {"username": "alice", "password": PASSWORD, "next": elsewhere})
    assert (response.status_code, response["Location"]) == (302, "/")


@pytest.mark.parametrize("fields", [{}, {"username": "alice"}, {"username": "a\0", "password": "x"}])
@pytest.mark.parametrize("password", ["wrong", "x" * 100_000])
def test_a_wrong_password_reveals_nothing_else(
    client: Client, alice: User, fields: dict[str, str], password: str
) -> None:
    response = client.post("/sign-in", {"username": "alice", "password": password} | fields)
    assert response.status_code == 200
    assert "_auth_user_id" not in client.session


def test_sign_in_attempts_by_page_and_by_token_share_a_limit(
    client: Client, alice: User, settings: Any, empty_queues: None
) -> None:
    settings.TOKEN_RATE = "3/h"
    who = {"username": "alice", "password": "wrong"}
    name = {"REMOTE_ADDR": "203.0.113.77"}
    for _ in range(2):
        assert client.post("/sign-in", who, **name).status_code == 200  # type: ignore[arg-type]
    client.post("/api/token", who, content_type="application/json", **name)  # type: ignore[arg-type]
    refused = client.post("/sign-in", who, **name)  # type: ignore[arg-type]
    assert refused.status_code == 429
    assert int(refused["Retry-After"]) > 0
    assert "Too many attempts" in refused.content.decode()


def test_signing_out_needs_a_post_with_a_token_and_ends_the_session(alice: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(alice)
    assert browser.get("/sign-out").status_code == 405
    assert browser.post("/sign-out").status_code == 403
    token = str(browser.get("/").context["csrf_token"])
    assert browser.post("/sign-out", {"csrfmiddlewaretoken": token})["Location"] == "/sign-in"
    assert browser.get("/").status_code == 302


def test_the_queue_page_is_for_staff(page: Client, bob: User) -> None:
    assert page.get("/queue").status_code == 403
    assert 'href="/queue"' not in page.get("/").content.decode()
    seen = _browser(bob).get("/queue")
    assert seen.status_code == 200
    assert 'href="/queue"' in seen.content.decode()


def test_the_request_of_another_user_looks_like_an_unknown_one(page: Client, charlie: User) -> None:
    def seen(request_id: str) -> tuple[int, str]:
        answer = page.get(f"/requests/{request_id}")
        return answer.status_code, re.sub(r'value="\w{64}"', "", answer.content.decode())

    never = seen(UNKNOWN_ID)
    assert never[0] == 404
    assert seen(completed(charlie).pk) == never
    assert seen("x") == never


def test_staff_see_the_requests_of_all_users(alice: User, bob: User) -> None:
    answer = _browser(bob).get(f"/requests/{completed(alice).pk}").content.decode()
    assert "Submitted by" in answer
    assert "alice" in answer


def test_a_request_page_shows_history_errors_and_advice(page: Client, alice: User) -> None:
    claim = claimed(alice)
    _fail(claim, ErrorCode.QUOTA_EXHAUSTED, "No credit left")
    told = unescape(page.get(f"/requests/{claim.request.pk}").content.decode())
    for words in ("Submitted", "Started", "Failed", "No credit left", ErrorCode.QUOTA_EXHAUSTED.label):
        assert words in told
    assert "Add credit at the provider" in told


def test_texts_of_users_and_providers_are_escaped(page: Client, alice: User, bob: User) -> None:
    claim = claimed(alice, prompt=f"{HTML} prompt", project_id=f"{HTML} project", page_id=f"{HTML} page")
    pages = [_browser(bob).get("/queue")]
    _fail(claim, ErrorCode.INTERNAL, f"{HTML} message")
    caching.clear_all()
    pages += [page.get(f"/requests/{claim.request.pk}"), _browser(bob).get("/queue")]
    for answer in pages:
        sent = answer.content.decode()
        assert "<img src=x" not in sent
        assert "</script><b>" not in sent


@pytest.mark.parametrize(
    ("base", "has_its_port", "told"),
    [
        ("", True, 'data-realtime-base="" data-realtime-port="8001"'),
        ("", False, 'data-realtime-base="" data-realtime-port=""'),
        ("wss://here:1", False, 'data-realtime-base="wss://here:1" data-realtime-port=""'),
    ],
)
def test_a_page_has_the_url_of_its_updates(
    page: Client, settings: Any, base: str, has_its_port: bool, told: str
) -> None:
    settings.REALTIME_BASE_URL, settings.REALTIME_HAS_ITS_PORT = base, has_its_port
    settings.REALTIME_PORT = 8001
    assert told in page.get("/").content.decode()


def test_a_page_has_nothing_inline(page: Client, bob: User) -> None:
    """Inline code would need an exception in the Content Security Policy."""
    for answer in (page.get("/"), page.get("/keys"), _browser(bob).get("/queue"), Client().get("/sign-in")):
        sent = answer.content.decode()
        assert "unsafe" not in answer["Content-Security-Policy"]
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", sent)
        for attributes in re.findall(r"<script([^>]*)>", sent):
            assert "src=" in attributes or 'type="application/json"' in attributes


# The admin has its own policy.
@pytest.mark.parametrize("path", ["/sign-in", "/api/docs"])
def test_a_page_loads_own_files_only_and_cannot_be_framed(client: Client, path: str, settings: Any) -> None:
    directives = dict(part.split(" ", 1) for part in client.get(path)["Content-Security-Policy"].split("; "))
    assert directives == {
        "default-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self' "
        + " ".join(f"ws://{host}:{settings.REALTIME_PORT}" for host in ("127.0.0.1", "localhost")),
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/visual-generation/requests", 200),
        (f"/api/visual-generation/status/{UNKNOWN_ID}", 404),
        ("/api/schema", 200),
        ("/nowhere", 404),
        ("/healthz", 200),
    ],
)
def test_other_responses_get_a_policy_that_denies_everything(page: Client, path: str, code: int) -> None:
    answer = page.get(path)
    assert answer.status_code == code
    assert answer["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"


@pytest.mark.parametrize("status", [status for status in Status if status != Status.COMPLETED])
def test_a_request_is_shown_whatever_its_status(page: Client, alice: User, status: Status) -> None:
    found = in_status(alice, status).pk
    sent = page.get(f"/requests/{found}").content.decode()
    assert f'data-status="{status}"' in sent
    assert ('data-action="cancel"' in sent) == (status in {Status.QUEUED, Status.IN_PROGRESS})
    assert ('data-action="retry"' in sent) == (status in {Status.FAILED, Status.CANCELLED})
    assert 'id="download"' not in sent


def test_the_last_day_is_counted_by_hour(alice: User) -> None:
    completed(alice)
    failed = claimed(alice)
    _fail(failed, ErrorCode.TIMEOUT, "Too slow")
    running = claimed(alice)
    hours = trends.by_hour()
    assert len(hours) == 24
    assert [(hour.completed, hour.failed) for hour in hours if hour.completed or hour.failed] == [(1, 1)]
    assert [hour.wait is not None for hour in hours].count(True) == 1
    assert trends.failures() == [(ErrorCode.TIMEOUT, 1)]
    assert [one.pk for one in trends.running()] == [running.request.pk]


# --- References -------------------------------------------------------------------------------------------------------


def _page_of(owner: User, *sources: GenerationRequest) -> GenerationRequest:
    """A request whose references are these."""
    images = tuple(
        NewImage(role="character", path=f"references[{number}].requestId", request_id=source.pk)
        for number, source in enumerate(sources)
    )
    inputs = Inputs(images=tuple(InputImage(role=one.role) for one in images), cancel_on_failure=True)
    draft = NewRequest(type="illustration", prompt=PROMPT, priority="normal", images=images, inputs=inputs)
    return services.submit(owner=owner, draft=draft)


def test_a_page_reads_references_by_the_same_queries_for_any_number(page: Client, alice: User) -> None:
    source = completed(alice)
    few, many = _page_of(alice, source), _page_of(alice, *(completed(alice) for _ in range(5)))
    page.get(f"/requests/{few.pk}")
    counts = {len(queries_of(partial(page.get, f"/requests/{one.pk}"))) for one in (few, many)}
    assert len(counts) == 1
    before = len(queries_of(lambda: page.get(f"/requests/{source.pk}")))
    for _ in range(14):
        _page_of(alice, source)
    assert len(queries_of(lambda: page.get(f"/requests/{source.pk}"))) == before
    assert "Older ones are not listed" in page.get(f"/requests/{source.pk}").content.decode()


def test_a_page_without_references_mentions_none(page: Client, alice: User) -> None:
    body = page.get(f"/requests/{completed(alice).pk}").content.decode()
    assert re.search(r'id="inputs"[^>]* hidden>', body)
    assert re.search(r'id="referring"[^>]* hidden>', body)


@pytest.mark.parametrize("reason", [Reason.CLIENT_LEFT, Reason.DEADLINE, Reason.REFERENCE_FAILED])
def test_the_timeline_has_words_for_each_way_to_be_cancelled(page: Client, alice: User, reason: Reason) -> None:
    request = queued(alice)
    change = {"from_status": Status.QUEUED, "to_status": Status.CANCELLED, "reason": reason}
    StatusChange.objects.create(request=request, sequence=2, **change)
    assert f"{timeline.steps(request)[-1].title}</h3>" in page.get(f"/requests/{request.pk}").content.decode()


def test_the_page_of_a_queued_request_says_when_it_starts_and_why_not(page: Client, alice: User) -> None:
    worker("worker-1", slots=1)
    claimed(alice)
    request = queued(alice)

    def text(request_id: str = request.pk) -> str:
        caching.clear_all()
        return unescape(page.get(f"/requests/{request_id}").content.decode())

    assert "Position 1 in the queue. Starts in about 30–85 s." in text()
    Pause.objects.create(scope="everything", reason="The bill")
    assert "Position 1 in the queue." in text()
    assert "Starts in" not in text()
    assert "Staff have paused all requests: The bill." in text()
    Pause.objects.all().delete()
    claimed(alice, priority="urgent")
    later = queued(alice, not_before=datetime.now(UTC) + timedelta(hours=3))
    shown = text(later.pk)
    assert "It is not to start before" in shown
    assert "Starts in about 3 h" in shown
