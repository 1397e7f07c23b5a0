"""The order of fallbacks, their cost in attempts, and when there is no fallback."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User

from generation import caching
from generation.db.functions import Now
from generation.models import GenerationAttempt, GenerationQueue, ModelState, ProviderModel, StatusChange
from generation.providers import circuit_breaker
from generation.requests import lifecycle, representations
from generation.states import Status
from tests.support.requests import queued
from tests.support.vendors import Vendors, attempts, end_pauses

pytestmark = pytest.mark.django_db(transaction=True)

FAILURES = {
    "status=503": "unavailable",
    "status=429": "rate_limited",
    "status=401": "auth",
    "quota": "quota_exhausted",
    "empty": "empty_result",
    "reset=before": "unknown_outcome",
}
#: What may have been paid for.
PAID = {"empty_result", "unknown_outcome"}


@pytest.mark.parametrize("behavior", FAILURES)
def test_a_fallback_starts_at_once_with_its_own_attempt(alice: User, vendors: Vendors, behavior: str) -> None:
    vendors.fake.script(behavior)
    request = vendors.ask(alice)
    code = FAILURES[behavior]
    assert (request.status, request.result["provider"]) == (Status.COMPLETED, "stability")
    assert attempts(request) == [("openai", code), ("stability", "succeeded")]
    assert request.attempts == (2 if code in PAID else 1)
    assert vendors.called == ["openai", "stability"]


def test_every_attempt_says_whom_it_asked_for_what_and_what_that_cost(alice: User, vendors: Vendors) -> None:
    vendors.fake.script("status=503")
    first, second = GenerationAttempt.objects.filter(request=vendors.ask(alice)).order_by("claim")
    assert (first.model, first.cost, first.provider_request_id) == ("gpt-image-2", None, "req_fake_1")
    assert (second.model, str(second.cost), second.usage) == ("core", "0.030000", {"images": 1})
    assert first.prompt == second.prompt != ""
    moments = [first.call_started_at, first.finished_at, second.call_started_at, second.finished_at]
    assert moments == sorted(filter(None, moments))
    assert first.call_deadline_at is None


def test_the_history_has_every_step(alice: User, vendors: Vendors) -> None:
    vendors.fake.script("status=503")
    request = vendors.ask(alice)
    steps = StatusChange.objects.filter(request=request).values_list("to_status", "reason", "error_code")
    assert list(steps) == [
        ("queued", "submitted", ""),
        ("in-progress", "claimed", ""),
        ("queued", "postponed", "unavailable"),
        ("in-progress", "claimed", ""),
        ("completed", "completed", ""),
    ]
    assert not GenerationQueue.objects.exists()


def test_the_free_provider_is_called_last_and_always_configured(alice: User, vendors: Vendors) -> None:
    vendors.fake.script("status=503", "status=401")
    request = vendors.ask(alice, max_attempts=1)
    assert attempts(request) == [("openai", "unavailable"), ("stability", "auth"), ("clipart", "succeeded")]
    assert (request.status, request.attempts) == (Status.COMPLETED, 1)
    assert representations.status(request)["result"]["cost"] == 0


def test_a_named_provider_is_the_only_one(alice: User, vendors: Vendors) -> None:
    vendors.fake.script("status=503")
    request = vendors.ask(alice, metadata={"provider": "openai"})
    assert (request.status, request.attempts) == (Status.QUEUED, 1)
    assert attempts(request) == [("openai", "unavailable")]


def test_a_provider_without_the_option_is_not_called(alice: User, vendors: Vendors) -> None:
    vendors.fake.script("status=503")
    request = vendors.ask(alice, metadata={"seed": 7})
    assert attempts(request) == [("stability", "unavailable"), ("clipart", "succeeded")]


def test_a_request_cancelled_during_a_call_has_no_fallback(
    alice: User, vendors: Vendors, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendors.fake.script("status=503")
    request = queued(alice)
    move_on = lifecycle.fall_back

    def too_late(*arguments: Any, **more: Any) -> Any:
        lifecycle.cancel([request.pk], actor=alice)
        return move_on(*arguments, **more)

    monkeypatch.setattr(lifecycle, "fall_back", too_late)
    assert vendors.run(request).status == Status.CANCELLED
    assert vendors.called == ["openai"]


# --- No fallback ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["input", "output"])
def test_a_refusal_is_not_slipped_past(alice: User, vendors: Vendors, stage: str) -> None:
    vendors.fake.script(f"moderation={stage}")
    request = vendors.ask(alice)
    assert (request.status, request.error["code"], request.error["stage"]) == (Status.FAILED, f"refused_{stage}", stage)
    assert vendors.called == ["openai"]


def test_a_refusal_goes_to_another_where_the_client_says_so(alice: User, vendors: Vendors) -> None:
    vendors.fake.script("moderation=input")
    request = vendors.ask(alice, metadata={"onRefusal": "fallback"})
    assert attempts(request) == [("openai", "refused_input"), ("stability", "succeeded")]
    assert request.attempts == 2


def test_a_refusal_decides_even_if_another_provider_was_only_unavailable(alice: User, vendors: Vendors) -> None:
    vendors.fake.script("status=503", "moderation=input")
    request = vendors.ask(alice)
    assert attempts(request) == [("openai", "unavailable"), ("stability", "refused_input")]
    assert (request.status, request.error["provider"]) == (Status.FAILED, "stability")


def test_a_broken_paid_image_is_not_bought_from_another_provider(alice: User, vendors: Vendors) -> None:
    vendors.fake.script("status=503", "malformed")
    vendors.use("stability", "openai")
    request = vendors.ask(alice)
    assert attempts(request) == [("stability", "unavailable"), ("openai", "invalid_image")]
    assert request.status == Status.FAILED


def test_a_fallback_that_uses_up_an_attempt_needs_one(alice: User, vendors: Vendors) -> None:
    vendors.fake.script("empty")
    request = vendors.ask(alice, max_attempts=1)
    assert (request.status, request.error["code"]) == (Status.FAILED, "empty_result")
    assert vendors.called == ["openai"]


def test_two_calls_that_may_have_been_billed_for_nothing_are_the_last(alice: User, vendors: Vendors) -> None:
    vendors.fake.script("reset=before", "reset=before")
    request = vendors.ask(alice, max_attempts=10)
    assert attempts(request) == [("openai", "unknown_outcome"), ("stability", "unknown_outcome")]
    assert (request.status, request.error["code"]) == (Status.FAILED, "unknown_outcome")


def test_two_unknown_outcomes_are_final_even_with_a_fallback_in_between(alice: User, vendors: Vendors) -> None:
    vendors.use("openai", "stability")
    vendors.fake.script("reset=before", "status=503", "reset=before")
    request = vendors.ask(alice, max_attempts=10)
    assert (request.status, request.attempts) == (Status.QUEUED, 2)
    assert vendors.run_again(request).status == Status.FAILED
    assert vendors.called == ["openai", "stability", "openai"]


# --- When all fail ----------------------------------------------------------------------------------------------------


def test_where_one_was_away_and_the_other_has_no_credit_it_is_tried_again(alice: User, vendors: Vendors) -> None:
    vendors.use("openai", "stability")
    vendors.fake.script("status=503", "quota")
    request = vendors.ask(alice)
    assert (request.status, request.attempts) == (Status.QUEUED, 1)
    vendors.run_again(request)
    assert (request.status, request.attempts) == (Status.COMPLETED, 2)


def test_where_one_asks_to_wait_that_is_done_and_uses_up_no_attempt(alice: User, vendors: Vendors) -> None:
    vendors.use("openai", "stability")
    vendors.fake.script("status=429;retry-after=30", "status=401")
    request = vendors.ask(alice, max_attempts=1)
    assert (request.status, request.attempts, request.waits) == (Status.QUEUED, 0, 1)
    assert not GenerationQueue.objects.filter(available_at__lt=Now() + timedelta(seconds=25)).exists()
    end_pauses()
    vendors.run_again(request)
    assert (request.status, request.attempts) == (Status.COMPLETED, 1)


def test_a_wait_refunds_no_attempt_that_another_provider_may_have_billed(alice: User, vendors: Vendors) -> None:
    vendors.use("openai", "stability")
    vendors.fake.script("status=429;retry-after=30", "reset=before")
    request = vendors.ask(alice)
    assert (request.status, request.attempts, request.waits) == (Status.QUEUED, 1, 0)


def test_a_request_that_no_provider_can_do_fails(alice: User, vendors: Vendors) -> None:
    vendors.use("openai", "stability")
    vendors.fake.script("status=401", "quota")
    request = vendors.ask(alice)
    assert (request.status, request.error["code"], request.error["provider"]) == (
        Status.FAILED,
        "quota_exhausted",
        "stability",
    )


def test_with_all_breakers_open_it_waits_for_the_first_to_close(alice: User, vendors: Vendors) -> None:
    vendors.use("openai", "stability")
    vendors.fake.script("status=401", "status=429;retry-after=60")
    vendors.ask(alice)
    request = vendors.ask(alice)
    assert (request.status, request.attempts) == (Status.QUEUED, 0)
    entry = GenerationQueue.objects.get(pk=request.pk)
    assert entry.waits_for == "stability"
    assert len(vendors.called) == 2


# --- Models that are gone ---------------------------------------------------------------------------------------------


def test_a_removed_model_is_replaced_by_its_successor_with_a_notice(alice: User, vendors: Vendors) -> None:
    successor = ProviderModel.objects.get(name="gpt-image-2.5-flare")
    ProviderModel.objects.filter(name="gpt-image-2").update(successor=successor)
    caching.clear_all()
    vendors.fake.script("status=404")
    request = vendors.ask(alice, metadata={"model": "gpt-image-2"}, max_attempts=1)
    assert attempts(request) == [("openai", "model_retired"), ("openai", "succeeded")]
    shown = representations.status(request)["result"]
    assert shown["model"] == "gpt-image-2.5-flare"
    assert shown["notice"] == "The model gpt-image-2 is not available; gpt-image-2.5-flare was used."
    assert models_asked(vendors) == ["gpt-image-2", "gpt-image-2.5-flare"]


def test_one_answer_sets_no_model_aside(alice: User, vendors: Vendors) -> None:
    vendors.fake.script("status=404")
    vendors.ask(alice)
    assert vendors.ask(alice).result["model"] == "gpt-image-2"
    assert ProviderModel.objects.get(name="gpt-image-2").enabled
    assert not ModelState.objects.filter(model="gpt-image-2").exists()  # it has given an image since


def test_two_answers_set_a_model_aside_for_minutes(alice: User, vendors: Vendors) -> None:
    for _ in range(2):
        vendors.fake.script("status=404")
        vendors.ask(alice)
    assert vendors.ask(alice).result["model"] == "gpt-image-2.5-sunburst"
    assert ProviderModel.objects.get(name="gpt-image-2").enabled
    ModelState.objects.update(set_aside_until=Now())
    caching.clear_all()
    assert vendors.ask(alice).result["model"] == "gpt-image-2"


def test_answers_far_apart_set_no_model_aside(alice: User, vendors: Vendors) -> None:
    for _ in range(3):
        vendors.fake.script("status=404")
        vendors.ask(alice)
        ModelState.objects.update(failed_at=Now() - timedelta(minutes=11))
    assert not circuit_breaker.unserved_models()


def test_a_model_that_alone_could_do_it_is_asked_although_set_aside(alice: User, vendors: Vendors) -> None:
    vendors.use("openai")
    for model in ProviderModel.objects.filter(provider="openai"):
        for _ in range(2):
            circuit_breaker.failed("openai", "model_retired", model=model.name)
    assert vendors.ask(alice).status == Status.COMPLETED


def models_asked(vendors: Vendors) -> list[str]:
    return [call.options["model"] for call in vendors.fake.journal()]


def test_a_retired_model_without_successor_is_followed_by_the_next_able(alice: User, vendors: Vendors) -> None:
    vendors.fake.script("status=404")
    request = vendors.ask(alice)
    assert request.result["model"] == "gpt-image-2.5-sunburst"
    assert representations.status(request)["result"]["notice"] is None


def test_a_named_model_that_is_gone_without_a_successor_is_the_end(alice: User, vendors: Vendors) -> None:
    vendors.fake.script("status=404")
    request = vendors.ask(alice, metadata={"model": "gpt-image-2"})
    assert (request.status, request.error["code"]) == (Status.FAILED, "model_retired")


def test_a_wrong_address_which_knows_no_model_at_all_retires_none(alice: User, vendors: Vendors) -> None:
    vendors.use("stability", "clipart")
    vendors.fake.script(default="status=404")
    before = set(ProviderModel.objects.filter(enabled=True))
    request = vendors.ask(alice)
    assert attempts(request) == [("stability", "model_retired")] * 5 + [("clipart", "succeeded")]
    assert set(ProviderModel.objects.filter(enabled=True)) == before


def test_an_unserved_model_of_the_settings_is_followed_by_a_known_one(
    alice: User, vendors: Vendors, settings: Any
) -> None:
    settings.PROVIDER_MODELS = {"openai": "my-own-diffusion"}
    vendors.fake.script("status=404")
    request = vendors.ask(alice)
    assert [call.options["model"] for call in vendors.fake.journal()] == ["my-own-diffusion", "gpt-image-2"]
    assert request.status == Status.COMPLETED
