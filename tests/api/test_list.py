"""GET /requests: newest first, page by page, with filters."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from generation import caching
from generation.models import GenerationRequest
from generation.states import GenerationType, Priority, Status
from tests.api.helpers import REQUESTS, UNKNOWN_BATCH_ID, address, answer, assert_error, completed
from tests.support.batches import batch_of
from tests.support.queries import queries_of
from tests.support.requests import in_status, queued

BASE = "https://images.example"


@pytest.fixture(autouse=True)
def _reached_by_a_name(settings: Any) -> None:
    settings.PUBLIC_BASE_URL = BASE


def _page(client: APIClient, **query: Any) -> dict[str, Any]:
    return answer(client.get(REQUESTS, query))


def _follow(client: APIClient, link: str) -> dict[str, Any]:
    assert link.startswith(f"{BASE}{REQUESTS}?")
    return answer(client.get(link.removeprefix(BASE)))


def _ids(page: dict[str, Any]) -> list[str]:
    return [one["requestId"] for one in page["results"]]


def _listed(client: APIClient, **query: Any) -> list[str]:
    return _ids(_page(client, **query))


# --- Pages ------------------------------------------------------------------------------------------------------------


def test_an_empty_list_is_a_page_without_links(api: APIClient) -> None:
    assert _page(api) == {"results": [], "next": None, "previous": None}


def test_the_newest_comes_first_as_its_status_without_the_image(api: APIClient, alice: User) -> None:
    old, new = completed(alice), in_status(alice, Status.FAILED)
    page = _page(api)
    assert _ids(page) == [new.pk, old.pk]
    for shown in page["results"]:
        assert shown == answer(api.get(f"{address('status', shown['requestId'])}?imageData=false"))


@pytest.mark.parametrize("size", [1, 3, 7, 8])
def test_paging_both_ways_sees_each_once_despite_new_requests(api: APIClient, alice: User, size: int) -> None:
    ids = [queued(alice).pk for _ in range(7)][::-1]
    page = _page(api, limit=size)
    assert page["previous"] is None
    pages = [_ids(page)]
    while page["next"]:
        queued(alice)
        page = _follow(api, page["next"])
        pages.append(_ids(page))
    assert pages == [ids[start : start + size] for start in range(0, 7, size)]
    back: list[str] = []
    while page["previous"]:
        page = _follow(api, page["previous"])
        back = _ids(page) + back
    newer = GenerationRequest.objects.count() - 7
    assert len(back) == len(set(back))
    assert back[newer:] == ids[: len(back) - newer]
    assert set(back) | set(pages[-1]) >= set(ids)


def test_previous_leads_to_the_page_before(api: APIClient, alice: User) -> None:
    for _ in range(6):
        queued(alice)
    first = _page(api, limit=2)
    second = _follow(api, first["next"])
    third = _follow(api, second["next"])
    assert third["next"] is None
    assert _ids(_follow(api, third["previous"])) == _ids(second)
    assert _ids(_follow(api, second["previous"])) == _ids(first)


def test_next_works_after_the_last_row_of_the_page_is_deleted(api: APIClient, alice: User) -> None:
    ids = [queued(alice).pk for _ in range(4)][::-1]
    page = _page(api, limit=2)
    GenerationRequest.objects.filter(pk=ids[1]).delete()
    assert _ids(_follow(api, page["next"])) == ids[2:]


@pytest.mark.parametrize(("limit", "expected"), [(None, 20), (1, 1), ("2.0", 2), (100, 100)])
def test_a_page_has_as_many_requests_as_the_limit(api: APIClient, alice: User, limit: Any, expected: int) -> None:
    batch_of(alice, 100)
    queued(alice)
    page = _page(api) if limit is None else _page(api, limit=limit)
    assert len(page["results"]) == expected
    assert page["next"] is not None


@pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "", "1.5", "1e1", "9" * 5_000, "\0", "²", "null"])
def test_an_invalid_limit_is_rejected(api: APIClient, limit: str) -> None:
    error = assert_error(api.get(REQUESTS, {"limit": limit}), 400, "validation_error")
    assert [fault["path"] for fault in error["errors"]] == ["limit"]


def test_the_links_carry_the_filters_and_the_size(api: APIClient, alice: User) -> None:
    project = "proj & co/ü?=1"
    for _ in range(3):
        queued(alice, project_id=project)
    link = _page(api, projectId=project, status="queued", limit=1)["next"]
    query = parse_qs(urlsplit(link).query)
    assert {name: query[name] for name in ("projectId", "status", "limit")} == {
        "projectId": [project],
        "status": ["queued"],
        "limit": ["1"],
    }
    queued(alice)
    assert len(_ids(_follow(api, link))) == 1
    assert parse_qs(urlsplit(_follow(api, link)["previous"]).query)["projectId"] == [project]


def test_a_list_of_any_length_takes_three_queries(api: APIClient, alice: User) -> None:
    """One query each for the user, the keys of the page, and its rows."""

    def cost() -> int:
        caching.clear_all()
        return len(queries_of(lambda: _page(api, limit=100)))

    queued(alice)
    short = cost()
    completed(alice)
    batch_of(alice, 60)
    assert cost() == short == 3


# --- Filters ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", Status.values)
def test_a_list_of_one_status_has_those_and_no_others(api: APIClient, alice: User, status: str) -> None:
    made = {one: in_status(alice, Status(one)).pk for one in Status.values if one != Status.COMPLETED}
    made[Status.COMPLETED] = completed(alice).pk
    assert _listed(api, status=status) == [made[Status(status)]]


@pytest.mark.parametrize(
    ("name", "field", "values"),
    [
        ("type", "type", GenerationType.values),
        ("priority", "priority", Priority.values),
        ("projectId", "project_id", ["proj_1", "proj_2", "PROJ_1", "proj_%"]),
        ("pageId", "page_id", ["page_1", "page_2", "page_11"]),
    ],
    ids=["type", "priority", "projectId", "pageId"],
)
def test_a_filter_finds_exactly_its_value(
    api: APIClient, alice: User, name: str, field: str, values: list[str]
) -> None:
    queued(alice)
    made = {value: queued(alice, **{field: value}).pk for value in values}
    for value, request_id in made.items():
        found = _listed(api, **{name: value})
        assert request_id in found
        assert {one[name] for one in _page(api, **{name: value})["results"]} == {value}


def test_a_list_of_one_batch_has_its_requests(api: APIClient, alice: User) -> None:
    queued(alice)
    batch, ids = batch_of(alice, 3)
    batch_of(alice, 2)
    assert _listed(api, batchId=batch.pk) == ids[::-1]
    assert _listed(api, batchId=UNKNOWN_BATCH_ID) == []


def test_the_bounds_of_created_at_are_exclusive(api: APIClient, alice: User) -> None:
    moments = ["2026-01-01T00:00:00Z", "2026-01-01T00:00:01.500Z", "2026-01-01T00:00:03Z"]
    first, second, third = (queued(alice).pk for _ in moments)
    for request_id, moment in zip((first, second, third), moments, strict=True):
        GenerationRequest.objects.filter(pk=request_id).update(created_at=moment)
    assert _listed(api, createdAfter=moments[0]) == [third, second]
    assert _listed(api, createdBefore=moments[2]) == [second, first]
    assert _listed(api, createdAfter=moments[0], createdBefore=moments[2]) == [second]
    assert _listed(api, createdAfter="2026-01-01T02:00:01+02:00") == [third, second]
    assert _listed(api, createdAfter=moments[2], createdBefore=moments[0]) == []


def test_filters_are_combined_with_and(api: APIClient, alice: User) -> None:
    fitting = {"type": "cover", "priority": "high", "project_id": "p", "page_id": "1"}
    expected = queued(alice, **fitting).pk
    for name, other in {"type": "background", "priority": "low", "project_id": "q", "page_id": "2"}.items():
        queued(alice, **fitting | {name: other})
    query = {"type": "cover", "priority": "high", "projectId": "p", "pageId": "1", "status": "queued"}
    assert _listed(api, **query, createdAfter="2020-01-01T00:00:00Z") == [expected]


@pytest.mark.parametrize("zone", ["02:00", "0200", "02"])
@pytest.mark.parametrize("name", ["createdAfter", "createdBefore"])
def test_an_unescaped_plus_is_explained(api: APIClient, name: str, zone: str) -> None:
    error = assert_error(api.get(f"{REQUESTS}?{name}=2026-01-01T00:00:00+{zone}"), 400, "validation_error")
    assert error["errors"] == [
        {
            "path": name,
            "msg": f"Escape the plus of the time zone as %2B in a query: 2026-01-01T00:00:00%2B{zone}.",
            "code": "plus",
        }
    ]


@pytest.mark.parametrize(
    "moment",
    [
        "2026-01-01T00:00:00%2B02:00",
        "2026-01-01T00:00:00%2B0200",
        "2026-01-01T00:00:00-02:00",
        "2026-01-01t00:00:00z",
        "2026-01-01T00:00:00.123Z",
        "2026-01-01+00:00:00",
        "2026-01-01T00:00",
        "2026-01-01",
        "+2026-01-01T00:00:00Z+",
    ],
)
def test_a_time_may_have_any_form_of_iso_8601(api: APIClient, alice: User, moment: str) -> None:
    pk = queued(alice).pk
    assert _ids(answer(api.get(f"{REQUESTS}?createdAfter={moment}"))) == [pk]


BAD_FILTERS = {
    "unknown": ("statuses", "queued"),
    "in the database's own words": ("owner__username", "alice"),
    "case": ("Status", "queued"),
    "unknown, NUL": ("a\0b", "1"),
    "status unknown": ("status", "done"),
    "status empty": ("status", ""),
    "status several": ("status", "queued,failed"),
    "type unknown": ("type", "sculpture"),
    "priority unknown": ("priority", "10"),
    "projectId empty": ("projectId", ""),
    "projectId long": ("projectId", "x" * 256),
    "pageId NUL": ("pageId", "\0"),
    "batchId NUL": ("batchId", "vgb_\0"),
    "createdAfter a word": ("createdAfter", "yesterday"),
    "createdAfter empty": ("createdAfter", ""),
    "createdAfter a number": ("createdAfter", "1700000000"),
    "createdAfter beyond the calendar": ("createdAfter", "0001-01-01T00:00:00+14:00"),
    "createdBefore beyond the calendar": ("createdBefore", "9999-12-31T23:59:59-14:00"),
    "createdBefore no day": ("createdBefore", "2026-02-30T00:00:00Z"),
}


@pytest.mark.parametrize(("name", "value"), BAD_FILTERS.values(), ids=BAD_FILTERS.keys())
def test_an_invalid_filter_is_rejected_by_name(api: APIClient, name: str, value: str) -> None:
    error = assert_error(api.get(REQUESTS, {name: value}), 400, "validation_error")
    assert [fault["path"] for fault in error["errors"]] == [name.replace("\0", "?")]


@pytest.mark.parametrize(
    "name",
    [
        "status",
        "type",
        "priority",
        "projectId",
        "pageId",
        "batchId",
        "createdAfter",
        "createdBefore",
        "limit",
        "cursor",
    ],
)
def test_a_repeated_filter_is_rejected(api: APIClient, name: str) -> None:
    error = assert_error(api.get(f"{REQUESTS}?{name}=1&{name}=1"), 400, "validation_error")
    assert [fault["path"] for fault in error["errors"]] == [name]


# --- Cursors ----------------------------------------------------------------------------------------------------------


def _cursor(**parts: Any) -> str:
    return base64.b64encode(urlencode(parts).encode()).decode()


TAMPERED = {
    "empty": "",
    "a word": "next",
    "no base64": "!!!!",
    "half of a letter": "a",
    "not ASCII": "é",
    "bytes that are no text": base64.b64encode(b"\xff\xfe").decode(),
    "nothing in it": "====",
    "no position": _cursor(r=1),
    "position empty": _cursor(p=""),
    "position a number": _cursor(p="20"),
    "position a date": _cursor(p="2026-01-01T00:00:00Z"),
    "position a batch": _cursor(p=UNKNOWN_BATCH_ID),
    "position SQL": _cursor(p="vga_1' OR 1=1 --"),
    "position NUL": _cursor(p="vga_1700000000000000_00000000\0"),
    "position with a line after it": _cursor(p="vga_1700000000000000_000000000\n"),
    "position without end": _cursor(p="vga_1700000000000000_" + "0" * 300),
    "an offset": _cursor(o=1, p="vga_1700000000000000_000000000"),
    "a large offset": _cursor(o=10**9, p="vga_1700000000000000_000000000"),
    "a negative offset": _cursor(o=-1, p="vga_1700000000000000_000000000"),
    "an offset that is none": _cursor(o="x", p="vga_1700000000000000_000000000"),
    "a direction that is none": _cursor(r="x", p="vga_1700000000000000_000000000"),
    "huge": "A" * 5_000,
    "NUL": "\0",
    "percent-encoded twice": quote(quote(_cursor(p="vga_1700000000000000_000000000"))),
}


@pytest.mark.parametrize("cursor", TAMPERED.values(), ids=TAMPERED.keys())
def test_a_tampered_cursor_is_rejected(api: APIClient, alice: User, cursor: str) -> None:
    queued(alice)
    error = assert_error(api.get(REQUESTS, {"cursor": cursor}), 400, "validation_error")
    assert [fault["path"] for fault in error["errors"]] == ["cursor"]


@pytest.mark.parametrize("raw", ["%", "%zz", "%FF%FE", "%00", "cD0%"])
def test_a_cursor_of_percent_signs_is_rejected(api: APIClient, raw: str) -> None:
    assert_error(api.get(f"{REQUESTS}?cursor={raw}"), 400, "validation_error")


# --- Permissions ------------------------------------------------------------------------------------------------------


def test_users_see_their_own_requests_and_staff_see_all(
    api: APIClient, stranger: APIClient, staff: APIClient, alice: User, charlie: User
) -> None:
    hers, his = queued(alice, project_id="p").pk, queued(charlie, project_id="p").pk
    batch, [in_batch] = batch_of(alice, 1)
    assert _listed(api) == [in_batch, hers]
    assert _listed(stranger) == _listed(stranger, projectId="p") == [his]
    assert _listed(stranger, batchId=batch.pk) == []
    assert _listed(staff) == [in_batch, his, hers]


def test_a_foreign_cursor_pages_through_the_callers_own_requests(
    api: APIClient, stranger: APIClient, alice: User, charlie: User
) -> None:
    mine = queued(charlie).pk
    for _ in range(3):
        queued(alice)
    link = _page(api, limit=1)["next"]
    assert _ids(_follow(stranger, link)) == [mine]
