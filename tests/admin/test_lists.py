"""Links of the lists keep what a list is filtered by, and addresses that make no sense lead to no error."""

from __future__ import annotations

import csv
import html
import io
import itertools
import re
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client

from generation.models import BulkAction, GenerationRequest, ProviderState
from generation.requests import filters, lifecycle, permits, services
from generation.requests.claims import AttemptFailure
from generation.requests.new_request import NewRequest
from generation.states import Status
from tests.admin.pages import ACT, BULK, EXPORT, LISTS, REQUESTS, act, list_of, listed, text, told
from tests.support.requests import completed, in_status, queued

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("empty_queues")]

#: What half of the requests have and the other half has not.
CHOSEN = {
    "q": "dragon",
    "status": "failed",
    "approval": "none",
    "priority": "high",
    "type": "cover",
    "provider": "openai",
    "error": "refused_input",
    "owner": "alice",
    "project": "a-book",
}


@pytest.fixture
def book(alice: User, charlie: User) -> dict[str, str]:
    """Three requests that fulfil every condition, among three of another customer; the conditions."""
    draft = NewRequest(
        type="cover", prompt="A green dragon on a hill", priority="high", project_id="a-book", max_attempts=1
    )
    batch, chosen = services.submit_batch(owner=alice, drafts=[draft] * 3, priority="high", max_concurrent=None)
    for request in chosen:
        claim = lifecycle.claim(request.pk, worker="worker-1")
        assert claim is not None
        permits.begin_call(claim, provider="openai", model="m", prompt="p", deadline=timedelta(seconds=60))
        failure = AttemptFailure(message="Safety first", code="refused_input", retryable=False, provider="openai")
        assert lifecycle.fail(claim, failure)
    for _ in range(3):
        other = completed(charlie, project_id="another-book", priority="low", prompt="A castle by the sea")
        services.approve(user=charlie, request=other, approval="approved")
    moment = chosen[0].created_at
    return {
        **CHOSEN,
        "batch": batch.pk,
        "on": f"{moment:%Y-%m}",
        "after": "2020-01-01T00:00",
        "before": "2200-01-01T00:00",
    }


def test_every_condition_is_covered(book: dict[str, str]) -> None:
    assert set(book) == set(filters.CONDITIONS)


_LINK = re.compile(r'<a\b[^>]*\bhref="([^"]*)"')


def _links(client: Client, address: str, begin: str = 'id="content-main"') -> list[str]:
    """The links of a page that stand behind its navigation, or behind another mark."""
    body = client.get(address).content.decode()
    return [html.unescape(href) for href in _LINK.findall(body[body.index(begin) :])]


def _export_link(client: Client, query: str) -> str:
    body = client.get(f"{REQUESTS}?{query}").content.decode()
    found = re.search(r'href="([^"]*/export/[^"]*)"', body)
    assert found
    return html.unescape(found[1])


def _exported(client: Client, address: str) -> list[str]:
    answer: Any = client.get(address)
    content = b"".join(answer.streaming_content)
    return [row["id"] for row in csv.DictReader(io.StringIO(content.decode("utf-8-sig")))]


def test_every_link_of_a_filtered_list_keeps_the_filter(viewer: Client, book: dict[str, str]) -> None:
    for name, value in book.items():
        query = urlencode({name: value})
        expected = listed(viewer, query)
        assert len(expected) == (6 if name in {"on", "after", "before"} else 3), name
        assert _exported(viewer, _export_link(viewer, query)) == expected, name
        kinds = set()
        for href in dict.fromkeys(_links(viewer, f"{REQUESTS}?{query}")):
            parts = urlsplit(href)
            if "/change/" in parts.path and "row" not in kinds:
                kinds.add("row")
                back = _links(viewer, href, "vg-crumbs")[0]
                assert listed(viewer, urlsplit(back).query) == expected, (name, href)
            elif not parts.path and name in parse_qs(parts.query):
                kinds.add("list")
                assert listed(viewer, parts.query) == expected, (name, href)
        assert kinds == {"row", "list"}, name


def test_every_pair_of_conditions_is_exported_as_it_is_listed(viewer: Client, book: dict[str, str]) -> None:
    risky = {"project", "priority", "provider"}  # they begin as the page's parameter does
    for pair in itertools.combinations(book.items(), 2):
        if risky & {name for name, _ in pair}:
            query = urlencode(pair)
            expected = _exported(viewer, f"{EXPORT}?{query}")
            link = _export_link(viewer, query)
            assert parse_qs(urlsplit(link).query) == parse_qs(query), pair
            assert len(expected) == 3, pair


def test_pages_of_a_filtered_list_stay_filtered(
    viewer: Client, book: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("generation.admin.requests.GenerationRequestAdmin.list_per_page", 1)
    for name in ("project", "priority", "provider"):
        query = urlencode({name: book[name]})
        whole = [row.pk for row in filters.matching(GenerationRequest.objects.order_by("-pk"), {name: book[name]})]
        walked: list[str] = []
        address = f"{REQUESTS}?{query}"
        while address:
            walked += listed(viewer, urlsplit(address).query)
            links = _links_of_pages(viewer, address)
            if len(walked) > 1:
                assert listed(viewer, urlsplit(links["Newest"]).query) == whole[:1]
            address = f"{REQUESTS}{links['Older']}" if "Older" in links else ""
        assert walked == whole, name


def _links_of_pages(client: Client, address: str) -> dict[str, str]:
    body = client.get(address).content.decode()
    pages = body[body.index('class="vg-pages"') :]
    return {label: html.unescape(href) for href, label in re.findall(r'<a href="([^"]*)"[^>]*>([^<]*)</a>', pages)}


def test_another_filter_begins_at_the_first_page(viewer: Client, alice: User) -> None:
    request = queued(alice, project_id="a-book")
    page = viewer.get(f"{REQUESTS}?p=older.{request.pk}&project=a-book").content.decode()
    form = page[page.index('id="filter-form"') :]
    assert 'name="p"' not in form[: form.index("</form>")]


# --- What a list does not know ---

UNKNOWN = [
    *("project_id=a-book", "owner__id=1", "owner__username=alice", "status__exact=failed", "status__foo=1", "id__in=1"),
    *("created_at__gte=abc", "created_at__gte=2020-01-01", "batch__owner=1", "prompt__regex=(", "unknown=1", "=1"),
    "page_id=1",
]


def test_an_unknown_filter_is_refused_at_every_door(operator: Client, alice: User) -> None:
    one = queued(alice, project_id="a-book")
    other = queued(alice, project_id="another-book")
    everything = {"action": "act_cancel", "select_across": "1", "_selected_action": [one.pk], "index": "0"}
    some = {"action": "act_cancel", "_selected_action": [one.pk], "index": "0"}
    for query in UNKNOWN:
        address = f"{REQUESTS}?owner=alice&{query}"
        for answer in (
            operator.get(address),
            operator.get(f"{EXPORT}?owner=alice&{query}"),
            operator.post(address, everything),
            operator.post(address, some),
            act(operator, "cancel", everything="1", filter=query),
        ):
            assert (answer.status_code, answer["Location"]) == (302, REQUESTS), query
    page = text(operator.get(REQUESTS))
    assert page.count("unknown filter") == 5 * len(UNKNOWN)
    assert not BulkAction.objects.exists()
    assert set(GenerationRequest.objects.filter(pk__in=[one.pk, other.pk]).values_list("status", flat=True)) == {
        Status.QUEUED
    }


def test_a_stored_action_with_an_unknown_condition_acts_on_nothing(alice: User) -> None:
    queued(alice, project_id="a-book")
    assert not filters.matching(GenerationRequest.objects.all(), {"project_id": "a-book"}).exists()
    assert not filters.matching(GenerationRequest.objects.all(), {"owner": "alice", "status__exact": ""}).exists()


def test_other_lists_refuse_what_they_do_not_show(administrator: Client, alice: User) -> None:
    ProviderState.objects.get_or_create(provider="openai")
    for name, query in (
        ("generation_providerstate", "provider=openai"),
        ("generation_providermodel", "name=gpt-image-2"),
        ("auth_user", "email__contains=a"),
        ("auth_user", "password__startswith=pbkdf2"),
        ("auth_user", "groups__permissions__codename=x"),
        ("admin_logentry", "user__username=alice"),
        ("admin_logentry", "q=alice"),
        ("generation_spending", "owner=1"),
    ):
        assert "unknown filter" in told(administrator, administrator.get(f"{list_of(name)}?{query}")), (name, query)
    for name, query in (
        ("generation_providermodel", "provider=openai&enabled__exact=1&o=1.-2&q=gpt"),
        ("auth_user", "is_staff__exact=1&is_active__exact=0"),
        ("generation_providermodel", "_popup=1&_to_field=id"),
    ):
        assert administrator.get(f"{list_of(name)}?{query}").status_code == 200, (name, query)


#: For every list.
ODD = [
    *("status__foo=1", "created_at__gte=abc", "o=9999", "o=-1.-1.0.x", "p=-1", "p=" + "9" * 22, "p=%00"),
    "p=older.%00",
    *(
        "p=newer." + "9" * 25,
        "p=older." + "9" * 5000,
        "q=%00",
        "id__in=1,%00",
        "_to_field=password",
        "%00=1",
        "e=1&x=1",
    ),
]
ODD_IN = {
    "generation_generationrequest": [
        *("on=0000-00-00", "on=9999-12-31", "on=9999", "on=0001", "on=2026-00", "on=2026-99-99", "on=--", "on=%00"),
        *(
            "after=0001-01-01T00:00%2B14:00",
            "before=9999-12-31T23:59-14:00",
            "after=-1",
            "q=%F0%9F%90%89",
            "status=%00",
        ),
        *("project=" + "x" * 5000, "type=cover&type=x", "all=1&_popup=1&_facets=1", "provider=nothing", "batch=vgb_"),
    ],
    "auth_user": [
        *("is_staff__exact=foo", "is_active__exact=2", "groups__id__exact=abc", "groups__id__exact=" + "9" * 30),
        *("groups__isnull=x", "is_staff__isnull=x", "_to_field=id"),
    ],
    "generation_providermodel": ["enabled__exact=%00", "provider__exact=%00", "provider=nothing", "provider__isnull=x"],
    "generation_promptstyle": ["scope__exact=nothing"],
    "generation_generationattempt": ["provider=%00", "provider=" + "x" * 5000],
}


def test_no_address_of_a_list_is_an_error_of_the_server(administrator: Client, alice: User) -> None:
    in_status(alice, Status.FAILED)
    for name in LISTS:
        address = list_of(name)
        for query in [*ODD, *ODD_IN.get(name, [])]:
            assert administrator.get(f"{address}?{query}").status_code in {200, 302}, (name, query)
        assert administrator.get(address).status_code == 200
        for key in ("%00", "9" * 25 if name == "auth_user" else "abc"):
            for page in ("change", "history", "delete"):
                code = administrator.get(f"{address}{key}/{page}/").status_code
                assert code in {200, 302, 403, 404}, (name, key, page)


def test_odd_keys_in_a_selection_select_nothing(administrator: Client) -> None:
    for name in ("auth_user", "generation_providerstate", "generation_providermodel"):
        for action in ("delete_selected", "call_again", "deactivate_selected", "nothing"):
            for key in ("abc", "\0", "9" * 30, "9" * 5000, ""):
                body = {"action": action, "_selected_action": [key], "index": "0"}
                assert administrator.post(list_of(name), body).status_code in {200, 302}, (name, action, key)


def test_odd_keys_of_requests_are_told_and_not_an_error(operator: Client, alice: User) -> None:
    queued(alice)
    for keys in (["\0"], ["nothing"], ["x" * 5000]):
        body = {"action": "act_cancel", "_selected_action": keys, "index": "0"}
        assert operator.post(REQUESTS, body).status_code in {200, 302}
    too_many = {"action": "act_cancel", "_selected_action": [f"vga_{n}" for n in range(600)], "index": "0"}
    assert "Select at most" in told(operator, operator.post(REQUESTS, too_many))
    assert operator.get(f"{BULK}{'9' * 5000}/change/").status_code == 302
    assert operator.get(f"{ACT}?action=cancel&ids=x&filter=%00").status_code in {200, 302}
    for address in ("search/?s=%00", "r/1/%00/", "r/%00/1/", "auth/user/%00/password/", "jsi18n/?x=%00"):
        assert operator.get(f"/admin/{address}").status_code in {200, 403, 404}, address


def test_odd_values_for_a_form_are_not_an_error(administrator: Client) -> None:
    for name in ("generation/budget", "generation/providermodel", "generation/promptstyle", "auth/user"):
        for query in ("owner=%00&name=%00", "owner=abc&groups=abc", "owner=" + "9" * 30, "per_day=abc&shutdown_date=x"):
            assert administrator.get(f"/admin/{name}/add/?{query}").status_code == 200, (name, query)


def test_a_blank_search_is_no_search(viewer: Client, alice: User) -> None:
    request = queued(alice)
    assert listed(viewer, "q=+") == [request.pk]
    assert listed(viewer, "status=active") == [request.pk]
