"""An image that was paid for and stored is kept, whatever becomes of its worker and of the storage."""

from __future__ import annotations

import errno
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import default_storage

from generation import caching
from generation.db.functions import Now
from generation.models import GenerationAttempt, GenerationQueue, ProviderModel, Spending
from generation.providers import budgets
from generation.requests import lifecycle, maintenance, permits
from generation.states import Status
from generation.storage import images, receipts
from tests.integration.test_executor import Killed, execute, png, stored_and_killed
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
    assert maintenance.rescue_expired() == 1
    request.refresh_from_db()
    assert (request.status, request.error) == (Status.COMPLETED, None)
    assert images.read(request.result["image_key"]) == png()
    assert receipts.find(request.pk) is None
    assert GenerationAttempt.objects.get(request=request).outcome == "succeeded"


def test_the_last_attempt_waits_for_a_storage_that_stumbles(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    request, other = queued(alice, max_attempts=1), begun(claimed(alice, max_attempts=1))
    expire(other)
    stored_and_killed(request, monkeypatch)
    storage_that_stumbles(monkeypatch, "open", f"receipts/{request.pk}", times=1)
    assert maintenance.rescue_expired() == 1
    other.request.refresh_from_db()
    assert other.request.status == Status.FAILED
    assert maintenance.rescue_expired() == 1
    request.refresh_from_db()
    assert request.status == Status.COMPLETED


def test_an_adopted_image_is_booked_once(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    ProviderModel.objects.filter(provider="clipart").update(price_rule={"per_image": "0.03"})
    caching.clear_all()
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

    def overtaken(_: Any) -> bool:
        receipts.save(request.pk, {"result": RESULT, "model": "m", "paid_by": 2})
        return False

    monkeypatch.setattr(lifecycle, "end_unlocked", lambda endings: [None for _ in endings])
    monkeypatch.setattr(lifecycle, "end", overtaken)
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


def test_a_call_of_the_last_attempt_is_booked_beside_an_adopted_image(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    ProviderModel.objects.filter(provider="clipart").update(price_rule={"per_image": "0.03"})
    caching.clear_all()
    request = queued(alice, max_attempts=2)
    stored_and_killed(request, monkeypatch)
    receipt = receipts.find(request.pk)
    assert receipt
    receipts.drop(request.pk)
    lifecycle.rescue(request.pk)
    GenerationQueue.objects.update(available_at=Now())
    claim = lifecycle.claim(request.pk, worker="worker-2")
    assert claim
    begun(claim)
    receipts.save(request.pk, receipt)  # the first worker was slow, not dead
    expire(claim)
    assert lifecycle.rescue(request.pk) == Status.COMPLETED
    assert (spent(alice), Spending.objects.get(owner=alice).calls) == (2 * PRICE, 2)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({"model": "m", "paid_by": 1, "something": "of a newer version"}, True),
        ({"paid_by": 1}, False),
        ({"model": "m", "cost": "dear"}, False),
        ({"model": "m", "result": []}, False),
    ],
)
def test_a_strange_receipt_keeps_no_other_request_from_its_rescue(
    alice: User, said: dict[str, Any], kept: bool
) -> None:
    claims = [claimed(alice, max_attempts=1) for _ in range(2)]
    result = RESULT | {"image_key": images.save("results", "ab" * 32, "image/png", b"image")}
    receipts.save(claims[0].request.pk, {"result": result} | said)
    for claim in claims:
        expire(claim)
    assert maintenance.rescue_expired() == 2
    for claim in claims:
        claim.request.refresh_from_db()
    assert claims[0].request.status == (Status.COMPLETED if kept else Status.FAILED)
    assert claims[1].request.status == Status.FAILED


def test_a_request_that_cannot_be_rescued_stops_no_other(alice: User) -> None:
    claims = [claimed(alice, max_attempts=1) for _ in range(2)]
    for claim in claims:
        expire(claim)
    claims[0].attempt().delete()  # only a hand in the database can have taken it
    assert maintenance.rescue_expired() == 1
    claims[1].request.refresh_from_db()
    assert claims[1].request.status == Status.FAILED


def test_a_storage_that_is_away_is_asked_once_in_a_pass(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    claims = [claimed(alice, max_attempts=1) for _ in range(3)] + [claimed(alice)]
    for claim in claims:
        expire(claim)
    asked = []

    def away(request_id: str) -> None:
        asked.append(request_id)
        raise OSError(errno.ETIMEDOUT, "no answer")

    monkeypatch.setattr(receipts, "find", away)
    assert maintenance.rescue_expired() == 1
    assert asked == [claims[0].request.pk]


def test_a_lease_that_is_renewed_during_a_rescue_books_once(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = begun(claimed(alice, max_attempts=1))
    expire(claim)
    answer: dict[str, Any] = {"result": RESULT, "model": "core", "cost": "0.03", "estimate": "0.03", "paid_by": 1}

    def renew(_: str) -> dict[str, Any]:
        assert permits.extend_leases([(claim.request.pk, claim.number)], worker=claim.request.worker)
        return answer

    monkeypatch.setattr(receipts, "find", renew)
    assert lifecycle.rescue(claim.request.pk) is None
    assert lifecycle.complete(claim, **answer)
    assert (spent(alice), Spending.objects.get(owner=alice).calls) == (PRICE, 1)


def test_an_adopted_image_and_its_cost_are_noted_together(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    first = begun(claimed(alice), None)  # its price was not known
    expire(first)
    assert lifecycle.rescue(first.request.pk) == Status.QUEUED
    second = lifecycle.claim(first.request.pk, worker="worker-2")
    assert second

    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(budgets, "book_late", die)
        with pytest.raises(Killed):
            lifecycle.complete(second, result=RESULT, model="core", cost="0.03", paid_by=1)
    assert lifecycle.complete(second, result=RESULT, model="core", cost="0.03", paid_by=1)
    assert spent(alice) == PRICE
