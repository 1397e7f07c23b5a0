"""``useCache``: one image for several equal requests, made by one call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import default_storage
from django.db import connection

from generation.db.functions import Now
from generation.models import GenerationAttempt, GenerationQueue, GenerationRequest, SharedPicture, Spending
from generation.providers import catalogue, result_cache
from generation.requests import lifecycle, representations
from generation.states import Status
from tests.support.requests import queued
from tests.support.stack import wait_until
from tests.support.vendors import Vendors, attempts

pytestmark = pytest.mark.django_db(transaction=True)

CACHED: dict[str, Any] = {"metadata": {"useCache": True}}


@pytest.fixture(autouse=True)
def _one_vendor(vendors: Vendors) -> None:
    vendors.use("stability")


def shown(request: GenerationRequest) -> dict[str, Any]:
    result: dict[str, Any] = representations.status(request)["result"]
    return result


def test_the_same_request_gets_the_earlier_image_without_call_or_cost(alice: User, vendors: Vendors) -> None:
    first = vendors.ask(alice, **CACHED)
    second = vendors.ask(alice, **CACHED)
    assert len(vendors.called) == 1
    assert (shown(first)["cached"], shown(first)["cost"]) == (False, 0.03)
    assert (shown(second)["cached"], shown(second)["cost"]) == (True, 0)
    assert shown(first)["sha256"] == shown(second)["sha256"]
    assert representations.status(second, image_data=True)["result"]["imageData"].startswith("data:image/png;base64,")
    assert attempts(second) == [("", "succeeded")]
    assert GenerationAttempt.objects.get(request=second).call_started_at is None
    spent = Spending.objects.get(owner=alice)
    assert (str(spent.cost), spent.calls) == ("0.030000", 1)


def test_a_request_without_the_cache_gets_its_own_image(alice: User, vendors: Vendors) -> None:
    vendors.ask(alice, **CACHED)
    assert not shown(vendors.ask(alice))["cached"]
    assert len(vendors.called) == 2


def test_each_variation_has_its_own_image_in_the_cache(alice: User, vendors: Vendors) -> None:
    plain = vendors.ask(alice, **CACHED)
    first, second = (vendors.ask(alice, variation=index, **CACHED) for index in (0, 1))
    again = vendors.ask(alice, variation=1, **CACHED)
    assert len(vendors.called) == 2
    assert shown(plain)["sha256"] == shown(first)["sha256"]
    assert [shown(one)["cached"] for one in (plain, first, second, again)] == [False, True, False, True]
    assert attempts(again) == [("", "succeeded")]


def test_an_image_made_without_the_cache_is_not_shared(alice: User, vendors: Vendors) -> None:
    vendors.ask(alice)
    assert not shown(vendors.ask(alice, **CACHED))["cached"]


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "A friendly dragon playing in a castle"},
        {"type": "cover"},
        {"metadata": {"useCache": True, "seed": 7}},
        {"metadata": {"useCache": True, "negativePrompt": "fire"}},
        {"metadata": {"useCache": True, "outputFormat": "webp"}},
        {"metadata": {"useCache": True, "aspectRatio": "portrait"}},
        {"metadata": {"useCache": True, "resolution": "2K", "provider": "clipart"}},
        {"metadata": {"useCache": True, "imageStyle": "cartoon"}},
        {"metadata": {"useCache": True, "title": "Dragons"}},
        {"metadata": {"useCache": True, "model": "ultra"}},
        {"metadata": {"useCache": True, "provider": "clipart"}},
    ],
)
def test_a_different_request_gets_its_own_image(alice: User, vendors: Vendors, other: dict[str, Any]) -> None:
    vendors.use("stability", "clipart")
    first = vendors.ask(alice, **CACHED)
    second = vendors.ask(alice, **other)
    assert second.status == Status.COMPLETED
    assert not shown(second)["cached"]
    assert shown(first)["cached"] is False


@pytest.mark.parametrize(
    "same",
    [
        {"priority": "urgent"},
        {"project_id": "book-2", "page_id": "7"},
        {"max_attempts": 1},
        {"metadata": {"useCache": True, "aspectRatio": "square"}},
        {"metadata": {"useCache": True, "resolution": "1K"}},
        {"metadata": {"useCache": True, "aspectRatio": "3:3", "chapter": 4}},
        {"metadata": {"useCache": True, "provider": "stability"}},
        {"metadata": {"useCache": True, "model": "core"}},
    ],
)
def test_options_that_do_not_change_the_image_share_its_cache_key(
    alice: User, vendors: Vendors, same: dict[str, Any]
) -> None:
    vendors.ask(alice, **CACHED)
    assert shown(vendors.ask(alice, **CACHED | same))["cached"]


def test_an_image_of_another_owner_is_not_shared(alice: User, charlie: User, vendors: Vendors) -> None:
    vendors.ask(alice, **CACHED)
    assert not shown(vendors.ask(charlie, **CACHED))["cached"]
    assert len(vendors.called) == 2


def test_an_image_whose_file_is_gone_is_made_and_shared_again(alice: User, vendors: Vendors) -> None:
    first = vendors.ask(alice, **CACHED)
    default_storage.delete(first.result["image_key"])
    second = vendors.ask(alice, **CACHED)
    assert not shown(second)["cached"]
    assert shown(vendors.ask(alice, **CACHED))["cached"]
    assert len(vendors.called) == 2


def test_an_image_whose_request_was_deleted_is_made_again(alice: User, vendors: Vendors) -> None:
    vendors.ask(alice, **CACHED)
    GenerationRequest.objects.all().delete()
    assert SharedPicture.objects.get().holder_id is None
    assert not shown(vendors.ask(alice, **CACHED))["cached"]


# --- At the same time -------------------------------------------------------------------------------------------------


def during_a_call(vendors: Vendors, request: GenerationRequest, meanwhile: Callable[[], None]) -> None:
    """Run the request, and while the provider is at it, something else."""
    vendors.fake.script("hold")

    def run() -> None:
        vendors.run(request)
        connection.close()

    worker = threading.Thread(target=run)
    worker.start()
    try:
        wait_until(lambda: vendors.fake.stats().active == 1, what="the call")
        meanwhile()
    finally:
        vendors.fake.release()
        worker.join(20)


def test_equal_requests_in_progress_share_one_call(alice: User, vendors: Vendors) -> None:
    first = queued(alice, **CACHED)
    waiting: list[GenerationRequest] = []

    def ask_too() -> None:
        waiting.extend(vendors.ask(alice, **CACHED) for _ in range(3))
        for request in waiting:
            assert (request.status, request.attempts) == (Status.QUEUED, 0)
            assert GenerationQueue.objects.filter(pk=request.pk, available_at__gt=Now()).exists()

    during_a_call(vendors, first, ask_too)
    for request in waiting:
        assert shown(vendors.run(request))["cached"]  # it is due, although the minute is not over
    assert len(vendors.called) == 1


def fails(request: GenerationRequest, vendors: Vendors, alice: User) -> None:
    vendors.fake.script("moderation=input")
    assert vendors.run(request).status == Status.FAILED


def is_cancelled(request: GenerationRequest, vendors: Vendors, alice: User) -> None:
    assert lifecycle.claim(request.pk, worker="w")
    assert lifecycle.cancel([request.pk], actor=alice)


def waits_for_another_try(request: GenerationRequest, vendors: Vendors, alice: User) -> None:
    vendors.fake.script("status=503")
    assert vendors.run(request).status == Status.QUEUED


@pytest.mark.parametrize("ends", [fails, is_cancelled, waits_for_another_try])
def test_the_next_request_makes_the_image_if_the_holder_has_stopped(
    alice: User, vendors: Vendors, ends: Callable[[GenerationRequest, Vendors, User], None]
) -> None:
    first = queued(alice, **CACHED)
    held = lifecycle.claim(first.pk, worker="another worker")
    assert held
    assert result_cache.get_or_start(held.request, catalogue.choices(first.options)[0]) == result_cache.CachedResult()
    waiting = [vendors.ask(alice, **CACHED) for _ in range(2)]
    assert vendors.called == []
    assert lifecycle.release(held)
    ends(first, vendors, alice)
    before = len(vendors.called)
    assert not shown(vendors.run(waiting[0]))["cached"]
    assert shown(vendors.run(waiting[1]))["cached"]
    assert len(vendors.called) == before + 1


def test_no_request_waits_for_one_that_has_not_begun(alice: User, vendors: Vendors) -> None:
    vendors.fake.script("status=503")
    low = vendors.ask(alice, priority="low", **CACHED)
    assert low.status == Status.QUEUED
    urgent = vendors.ask(alice, priority="urgent", **CACHED)
    assert not shown(urgent)["cached"]
    assert shown(vendors.run_again(low))["cached"]


def test_a_request_that_begins_to_wait_at_the_end_is_woken(
    alice: User, vendors: Vendors, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = queued(alice, **CACHED)
    give_back = lifecycle.release
    waiting: list[GenerationRequest] = []

    def too_late(*arguments: Any, **more: Any) -> bool:
        vendors.fake.release()
        wait_until(lambda: GenerationRequest.objects.get(pk=first.pk).status == Status.COMPLETED, what="the end")
        connection.close()
        return give_back(*arguments, **more)

    def ask_too() -> None:
        monkeypatch.setattr(lifecycle, "release", too_late)
        waiting.append(vendors.ask(alice, **CACHED))

    during_a_call(vendors, first, ask_too)
    assert shown(vendors.run(waiting[0]))["cached"]


def test_a_waiting_request_checks_again_after_a_minute(alice: User, vendors: Vendors) -> None:
    def ask_too() -> None:
        vendors.ask(alice, **CACHED)
        soon, late = Now() + timedelta(seconds=40), Now() + timedelta(minutes=1)
        assert GenerationQueue.objects.filter(available_at__range=(soon, late)).exists()

    during_a_call(vendors, queued(alice, **CACHED), ask_too)


def test_a_fallback_image_is_shared_and_waiters_wake_only_at_the_end(alice: User, vendors: Vendors) -> None:
    vendors.use("openai", "stability")
    first = queued(alice, **CACHED)
    waiting: list[GenerationRequest] = []
    vendors.fake.script("hold;status=503", "hold")

    def run() -> None:
        vendors.run(first)
        connection.close()

    worker = threading.Thread(target=run)
    worker.start()
    try:
        wait_until(lambda: vendors.fake.stats().active == 1, what="the first call")
        waiting.append(vendors.ask(alice, **CACHED))
        vendors.fake.release()
        wait_until(lambda: vendors.called == ["openai", "stability"], what="the second call")
        assert GenerationQueue.objects.filter(pk=waiting[0].pk, waits_for=first.pk).exists()
    finally:
        vendors.fake.release()
        worker.join(20)
    done = shown(vendors.run(waiting[0]))
    assert (done["cached"], done["provider"]) == (True, "stability")


def test_an_earlier_result_is_completed_by_the_lifecycle_like_any_other(alice: User, vendors: Vendors) -> None:
    first = vendors.ask(alice, **CACHED)
    second = vendors.ask(alice, **CACHED)
    assert second.sequence == 3
    assert second.result == first.result | {"cached": True, "cost": 0.0}
