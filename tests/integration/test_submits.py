"""Submits that arrive together are written by one statement."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, connections, transaction

from generation.models import GenerationQueue, GenerationRequest, StatusChange
from generation.requests import inserts, services
from generation.requests.new_request import NewRequest
from tests.support.races import waits_for_a_lock
from tests.support.stack import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("empty_queues")]


def _submit(owner: User, priority: str) -> GenerationRequest:
    try:
        return services.submit(
            owner=owner, draft=NewRequest(type="cover", prompt="A friendly dragon in a garden", priority=priority)
        )
    finally:
        connections.close_all()


@contextmanager
def _together(submits: list[tuple[User, str]]) -> Iterator[list[Future[GenerationRequest]]]:
    """Start the submits while the statement of another one waits for a lock."""
    first, *others = submits
    with ThreadPoolExecutor(len(submits)) as pool:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("LOCK TABLE generation_status_changes IN ACCESS EXCLUSIVE MODE")
            started = [pool.submit(_submit, *first)]
            wait_until(waits_for_a_lock, what="the first statement")
            started += [pool.submit(_submit, *one) for one in others]
            wait_until(lambda: len(inserts._submits._waiting) == len(others), what="the others")
        yield started


def test_submits_that_arrive_together_are_one_statement(alice: User, bob: User) -> None:
    submits = [(alice, "normal"), (bob, "low"), (alice, "urgent"), (bob, "normal"), (alice, "normal")]
    with _together(submits) as started:
        first, *others = [future.result() for future in started]
    assert [(request.owner_id, request.priority) for request in (first, *others)] == [
        (owner.pk, priority) for owner, priority in submits
    ]
    stored = GenerationRequest.objects.in_bulk([request.pk for request in others])
    assert len({request.created_at for request in stored.values()}) == 1
    assert stored[others[0].pk].created_at == others[0].created_at > first.created_at
    assert GenerationQueue.objects.count() == StatusChange.objects.count() == 5
    in_order = GenerationQueue.objects.order_by("-priority_weight", "queued_at", "request_id").exclude(pk=first.pk)
    ahead = {request.pk: request.ahead for request in others}
    # The urgent one saw none ahead, the next ones the first one and each other.
    assert [ahead[pk] for pk in in_order.values_list("pk", flat=True)] == [0, 2, 3, 4]


def test_a_submit_that_cannot_be_written_fails_alone(alice: User) -> None:
    unknown = User(pk=10**6, username="deleted")
    with _together([(alice, "normal"), (alice, "normal"), (unknown, "normal"), (alice, "low")]) as started:
        faulty = started.pop(2)
        for future in started:
            assert GenerationRequest.objects.filter(pk=future.result().pk).exists()
        with pytest.raises(IntegrityError):
            faulty.result()
    assert GenerationRequest.objects.count() == GenerationQueue.objects.count() == 3


def test_a_submit_whose_connection_is_cut_is_repeated(alice: User) -> None:
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("LOCK TABLE generation_status_changes IN ACCESS EXCLUSIVE MODE")
            started = pool.submit(_submit, alice, "normal")
            wait_until(waits_for_a_lock, what="the statement")
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted")
        submitted = started.result()
    assert list(GenerationRequest.objects.values_list("pk", flat=True)) == [submitted.pk]


def test_a_submit_that_was_committed_is_not_written_twice(alice: User) -> None:
    request = _submit(alice, "normal")
    row = inserts.columns(request) | {"priority_weight": 10, "held": False, "sent": False, "cancel_after": None}
    assert inserts._insert_again([row]) == [(request.created_at, 0, None)]
    assert GenerationRequest.objects.count() == GenerationQueue.objects.count() == 1
