"""``manage.py requeue``: what it queues or sends again, and what it leaves alone."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from generation.db.functions import Now
from generation.models import GenerationQueue, GenerationRequest, StatusChange
from generation.requests import lifecycle
from generation.requests.claims import Failure
from generation.states import Status
from tests.support.broker import lose_all_messages, messages
from tests.support.requests import claimed, in_status, queued
from workers import dispatcher

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("empty_queues")]


def requeue(*arguments: str) -> list[str]:
    """The lines that it prints."""
    out = io.StringIO()
    call_command("requeue", *arguments, stdout=out)
    return out.getvalue().splitlines()


def failed(owner: User, code: str) -> str:
    claim = claimed(owner)
    assert lifecycle.fail(claim, Failure(message="It went wrong", code=code, retryable=False))
    return claim.request.pk


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
def test_a_request_ended_without_image_is_retried_with_fresh_attempts(alice: User, status: Status) -> None:
    request = in_status(alice, status)
    lose_all_messages()
    assert requeue(request.pk) == [f"{request.pk}: queued again"]
    request.refresh_from_db()
    assert (request.status, request.attempts, request.error) == (Status.QUEUED, 0, None)
    assert messages() == {"normal": [request.pk]}


def test_a_requeued_request_is_due_at_once(alice: User) -> None:
    request, other = queued(alice), queued(alice)
    lose_all_messages()
    assert dispatcher.run_once()["sent"] == 0
    assert requeue(request.pk) == [f"{request.pk}: is queued; will be sent again"]
    assert dispatcher.run_once()["sent"] == 1
    assert messages() == {"normal": [request.pk]}
    assert GenerationQueue.objects.filter(pk=other.pk, dispatch_count=1).exists()


def test_an_already_queued_request_is_reported_as_queued(alice: User) -> None:
    request = queued(alice)
    GenerationQueue.objects.update(dispatched_at=None, redispatch_at=None)
    assert requeue(request.pk) == [f"{request.pk}: skipped, since it is queued"]


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.IN_PROGRESS])
def test_completed_and_running_requests_cannot_be_retried(alice: User, status: Status) -> None:
    request = in_status(alice, status)
    assert requeue(request.pk) == [f"{request.pk}: skipped, since it is {status.value}"]
    before = request.sequence
    request.refresh_from_db()
    assert (request.status, request.sequence) == (status, before)


def test_an_unknown_id_is_told_and_keeps_no_other_from_its_turn(alice: User) -> None:
    request = in_status(alice, Status.FAILED)
    assert requeue("vga_1_nothing", request.pk) == [
        "vga_1_nothing: there is no such request",
        f"{request.pk}: queued again",
    ]


def test_all_that_failed_with_a_code_are_queued_and_no_others(alice: User) -> None:
    away, other_away, refused = failed(alice, "unavailable"), failed(alice, "unavailable"), failed(alice, "auth")
    assert sorted(requeue("--failed", "unavailable")) == [f"{one}: queued again" for one in sorted([away, other_away])]
    assert GenerationRequest.objects.get(status=Status.FAILED).pk == refused


def test_a_lost_message_is_sent_again(alice: User) -> None:
    without_row, without_message = queued(alice), queued(alice)
    retry = claimed(alice)
    assert lifecycle.retry_later(retry, Failure(message="", code="timeout", retryable=True), delay=timedelta(minutes=5))
    lose_all_messages()
    GenerationQueue.objects.filter(pk=without_row.pk).delete()
    assert requeue("--lost") == ["1 queue rows restored", "1 to be sent again", "2 sent"]
    assert set(messages()["normal"]) == {without_row.pk, without_message.pk}
    assert not GenerationQueue.objects.filter(pk=retry.request.pk, available_at__lte=Now()).exists()


def test_without_a_broker_what_got_lost_is_left_to_the_dispatcher(alice: User, no_broker: None) -> None:
    request = queued(alice)
    GenerationQueue.objects.all().delete()
    assert requeue("--lost")[-1].startswith("None sent: Redis cannot be reached")
    assert GenerationQueue.objects.filter(pk=request.pk).exists()


def test_the_history_names_the_actor(alice: User, bob: User) -> None:
    by_bob, by_nobody = failed(alice, "auth"), failed(alice, "auth")
    requeue(by_bob, "--by", "bob")
    requeue(by_nobody)
    actors = StatusChange.objects.filter(reason="retried").values_list("request", "actor__username")
    assert set(actors) == {(by_bob, "bob"), (by_nobody, None)}


@pytest.mark.parametrize("name", ["charlie", "unknown"])
def test_only_staff_can_be_named(alice: User, charlie: User, name: str) -> None:
    request_id = failed(alice, "auth")
    with pytest.raises(CommandError, match=f"There is no staff member {name}"):
        requeue(request_id, "--by", name)
    assert GenerationRequest.objects.get().status == Status.FAILED


def test_it_wants_to_know_what() -> None:
    with pytest.raises(CommandError, match="Give ids, --failed CODE or --lost"):
        requeue()
    with pytest.raises(CommandError, match="invalid choice: 'bad_luck'"):
        requeue("--failed", "bad_luck")
