"""The staff's pages in a browser: the main ways through them, and that nothing smuggled into one runs."""

from __future__ import annotations

import csv
import io

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.visitor import Visitor
from tests.faults.house import House
from tests.support.stack import PASSWORD

REQUESTS = "/admin/generation/generationrequest/"
SCRIPT = "<script>window.smuggled = 1</script><img src=x onerror='window.smuggled = 1'>"
_SET_UP = f"""
from django.contrib.auth.models import User
from django.db import transaction
from generation.requests.claims import Failure
from generation.requests import lifecycle
from tests.support.requests import claimed
alice = User.objects.get(username="alice")
with transaction.atomic():  # no worker sees it before it has failed
    claim = claimed(alice, prompt={SCRIPT!r}, project_id={SCRIPT!r}, metadata={{"a": {SCRIPT!r}}})
    lifecycle.fail(claim, Failure(message={SCRIPT!r}, code="invalid_request", retryable=False, provider="openai"))
print(claim.request.pk)
"""


@pytest.fixture(scope="module")
def smuggled(house: House) -> str:
    """The id of a request all of whose texts are HTML."""
    return house.stack.manage("shell", "-v0", "-c", _SET_UP).strip()


@pytest.fixture
def bob(visit: Visit, smuggled: str) -> Visitor:
    """Is on the staff."""
    return visit("bob")


def test_staff_sign_in_by_the_form_of_their_pages(visit: Visit) -> None:
    visitor = visit(None)
    visitor.page.goto("/admin/login/")
    visitor.page.locator("[name=username]").fill("bob")
    visitor.page.locator("[name=password]").fill(PASSWORD)
    visitor.page.keyboard.press("Enter")
    visitor.page.wait_for_url("**/admin/")
    expect(visitor.page.locator(".vg-title")).to_have_text("System status")


def test_a_request_is_found_and_cancelled_and_the_page_names_the_actor(bob: Visitor) -> None:
    page = bob.page
    page.goto("/admin/generation/pause/")
    page.get_by_label("Reason to pause Background").fill("for the test")
    page.get_by_role("button", name="Pause Background").click()
    expect(page.get_by_role("status")).to_contain_text("type background")
    request_id = bob.submit_by_api("A walrus in a quiet harbour", type="background")
    page.goto(REQUESTS)
    page.locator("#searchbar").fill("walrus harbour")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="A walrus in a quiet harbour").click()
    page.get_by_role("link", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Yes, cancel 1 request").click()
    expect(page.get_by_text("Cancelled 1 request.")).to_be_visible()
    expect(page.locator(".vg-head .vg-badge").first).to_have_text("Cancelled")
    expect(page.locator(".vg-log")).to_contain_text("bob")
    assert request_id in page.url
    page.goto("/admin/generation/pause/")
    page.get_by_role("button", name="Resume Background").click()
    expect(page.get_by_role("status")).to_have_count(0)


def test_everything_that_matches_is_done_while_one_watches(bob: Visitor) -> None:
    page = bob.page
    page.goto("/admin/generation/pause/")
    page.get_by_role("button", name="Pause Background").click()
    for number in range(3):
        bob.submit_by_api(f"A narwhal number {number} in the ice", type="background")
    page.goto(f"{REQUESTS}?q=narwhal")
    page.get_by_label("Select record").first.check()
    page.locator("[name=action]").select_option(label="Cancel")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("button", name="Yes, cancel 1 request")).to_be_visible()
    # As the link "select everything that matches" does, which only a list of several pages has.
    page.goto(f"{REQUESTS}?q=narwhal")
    page.get_by_label("Select record").first.check()
    page.locator("[name=action]").select_option(label="Cancel")
    page.locator("[name=select_across]").evaluate("field => { field.value = '1' }")
    page.get_by_role("button", name="Run").click()
    page.get_by_role("button", name="Yes, cancel 3 requests").click()
    expect(page.locator("#state")).to_have_text("done")
    expect(page.locator("#done")).to_have_text("3")
    page.goto("/admin/generation/pause/")
    page.get_by_role("button", name="Resume Background").click()
    expect(page.get_by_role("status")).to_have_count(0)


def test_the_button_exports_what_the_filters_leave(bob: Visitor) -> None:
    page = bob.page
    bob.house.wait_for(bob.submit_by_api("A heron in the reeds", projectId="a-book", priority="high"), "completed")
    bob.house.wait_for(bob.submit_by_api("A heron on a roof", projectId="another-book"), "completed")
    # Each of these begins as the parameter of the page does, and was once dropped with it.
    for query in (
        "project=a-book",
        "priority=high",
        "project=another-book",
        "provider=clipart&project=a-book",
        "q=heron",
    ):
        page.goto(f"{REQUESTS}?{query}")
        listed = page.locator("small.vg-id").all_inner_texts()
        with page.expect_download() as download:
            page.get_by_role("link", name="Export CSV").click()
        rows = list(csv.DictReader(io.StringIO(download.value.path().read_bytes().decode("utf-8-sig"))))
        assert [row["id"] for row in rows] == listed != [], query
    page.goto(f"{REQUESTS}?project=a-book")
    page.get_by_role("link", name="A heron in the reeds").click()
    page.locator(".vg-crumbs a").click()
    page.wait_for_url("**?project=a-book")


def test_a_filter_that_a_list_does_not_know_is_refused(bob: Visitor) -> None:
    page = bob.page
    page.goto(f"{REQUESTS}?project_id=a-book")
    expect(page.get_by_text("unknown filter")).to_be_visible()
    assert page.url.endswith(REQUESTS)


def test_the_image_is_shown(bob: Visitor) -> None:
    page = bob.page
    request_id = bob.submit_by_api("A lighthouse above the sea")
    bob.house.wait_for(request_id, "completed")
    page.goto(f"{REQUESTS}{request_id}/change/")
    image = page.locator(".vg-image img")
    expect(image).to_be_visible()
    page.wait_for_function("() => document.querySelector('.vg-image img').naturalWidth > 0")


def test_text_of_other_users_never_runs_as_script(bob: Visitor, smuggled: str) -> None:
    page = bob.page
    for address in (REQUESTS, f"{REQUESTS}{smuggled}/change/", f"{REQUESTS}act/?action=retry&ids={smuggled}"):
        page.goto(address)
        expect(page.get_by_text("<script>window.smuggled = 1</script>").first).to_be_visible()
        assert page.evaluate("window.smuggled") is None
    for details in page.locator("details").all():
        details.locator("summary").click()
    assert page.evaluate("window.smuggled") is None


def test_the_filters_open_and_the_lists_fit_a_telephone(bob: Visitor) -> None:
    page = bob.page
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(REQUESTS)
    page.locator("a", has_text="Filters").first.click()
    page.locator("#changelist-filter [name=owner]").fill("alice")
    page.get_by_role("button", name="Apply Filters").click()
    page.wait_for_url("**owner=alice**")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
