"""An image that was paid for and stored is kept, whatever becomes of its worker and of the storage."""

from __future__ import annotations

import errno
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import default_storage

from generation import catalogue, lifecycle, storage, upkeep
from generation.clock import Now
from generation.models import GenerationAttempt, GenerationQueue, ProviderModel, Spending
from generation.states import Status
from tests.integration.test_executor import execute, png, stored_and_killed
from tests.integration.test_money import PRICE, begun, spent
from tests.support.requests import RESULT, claimed, expire, queued
from tests.support.vendors import Vendors

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("empty_queues")]


def storage_that_stumbles(monkeypatch: pytest.MonkeyPatch, method: str, folder: str, times: int) -> None:
    """The next calls of this method for a key in this folder fail with an error that says nothing of the key."""
    left = [OSError(errno.EIO, "SlowDown")] * times
    original = getattr(default_storage, method)

    def stumbling(name: str, *arguments: Any) -> Any:
        if name.startswith(folder) and left:
            raise left.pop()
        return original(name, *arguments)

    monkeypatch.setattr(default_storage, method, stumbling)


@pytest.mark.parametrize(("method", "folder"), [("open", "receipts/"), ("exists", "results/")])
def test_a_storage_that_stumbles_is_no_missing_receipt(
    alice: User, monkeypatch: pytest.MonkeyPatch, method: str, folder: str
) -> None:
    request = queued(alice)
    stored_and_killed(request, monkeypatch)
    assert lifecycle.rescue(request.pk) == Status.QUEUED
    storage_that_stumbles(monkeypatch, method, folder, times=1)
    provider = execute(request, lambda _: png("black"))
    assert (len(provider.asked), request.status) == (0, Status.COMPLETED)


def test_a_storage_that_is_away_releases_the_claim(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.executor._RECEIPT_PATIENCE", timedelta(milliseconds=1))
    request = queued(alice, max_attempts=2)
    stored_and_killed(request, monkeypatch)
    assert lifecycle.rescue(request.pk) == Status.QUEUED
    storage_that_stumbles(monkeypatch, "open", "receipts/", times=8)
    for _ in range(20):
        provider = execute(request, lambda _: png("black"))
        assert (len(provider.asked), request.attempts) == (0, 1 if request.status == Status.QUEUED else 2)
        GenerationQueue.objects.update(available_at=Now())
        if request.status == Status.COMPLETED:
            break
    assert request.status == Status.COMPLETED


def test_a_stored_image_of_the_last_attempt_is_kept(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    request = queued(alice, max_attempts=1)
    stored_and_killed(request, monkeypatch)
    assert upkeep.rescue_expired() == 1
    request.refresh_from_db()
    assert (request.status, request.error) == (Status.COMPLETED, None)
    assert storage.read(request.result["image_key"]) == png()
    assert storage.find_receipt(request.pk) is None
    assert GenerationAttempt.objects.get(request=request).outcome == "succeeded"


def test_the_last_attempt_waits_for_a_storage_that_stumbles(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    request, other = queued(alice, max_attempts=1), begun(claimed(alice, max_attempts=1))
    expire(other)
    stored_and_killed(request, monkeypatch)
    storage_that_stumbles(monkeypatch, "open", f"receipts/{request.pk}", times=1)
    assert upkeep.rescue_expired() == 1
    other.request.refresh_from_db()
    assert other.request.status == Status.FAILED
    assert upkeep.rescue_expired() == 1
    request.refresh_from_db()
    assert request.status == Status.COMPLETED


def test_an_adopted_image_is_booked_once(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    ProviderModel.objects.filter(provider="clipart").update(price_rule={"per_image": "0.03"})
    catalogue.forget()
    request = queued(alice)
    stored_and_killed(request, monkeypatch)
    lifecycle.rescue(request.pk)
    execute(request, lambda _: png("black"))
    assert request.status == Status.COMPLETED
    assert (spent(alice), Spending.objects.get(owner=alice).calls) == (PRICE, 1)
    assert list(GenerationAttempt.objects.order_by("claim").values_list("cost", "booked_cost")) == [
        (PRICE, PRICE),
        (0, None),
    ]


def test_a_stale_claim_leaves_the_receipt_of_the_newer_one(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    request = queued(alice)

    def overtaken(*_: Any, **__: Any) -> bool:
        storage.save_receipt(request.pk, {"result": RESULT, "model": "m", "paid_by": 2})
        return False

    monkeypatch.setattr(lifecycle, "complete", overtaken)
    execute(request, lambda _: png())
    assert default_storage.exists(f"receipts/{request.pk}.json")


@pytest.mark.parametrize("times", [1, 100])
def test_a_shared_image_waits_for_a_storage_that_stumbles(
    alice: User, vendors: Vendors, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    vendors.use("stability")
    cached: dict[str, Any] = {"metadata": {"useCache": True}}
    vendors.ask(alice, **cached)
    second = queued(alice, **cached)
    storage_that_stumbles(monkeypatch, "exists", "results/", times=times)
    vendors.run(second)
    assert (second.status, second.attempts, len(vendors.called)) == (Status.QUEUED, 0, 1)
    if times == 1:
        assert vendors.run_again(second).status == Status.COMPLETED
        assert second.result["cached"] is True
