"""Requests that refer to others, while those are claimed, ended, cancelled or changed."""

from __future__ import annotations

from threading import Thread

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction

from generation.models import GenerationQueue, GenerationRequest
from generation.queue import control
from generation.requests import maintenance
from generation.states import PARKED_WEIGHT
from tests.integration.test_references import complete, entry, is_parked, submit
from tests.support.races import waits_for_a_lock
from tests.support.requests import claimed
from tests.support.stack import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def in_thread(act: object) -> Thread:
    def run() -> None:
        try:
            act()  # type: ignore[operator]
        finally:
            connection.close()

    thread = Thread(target=run)
    thread.start()
    return thread


def locked(request: GenerationRequest) -> None:
    list(GenerationRequest.objects.select_for_update().filter(pk=request.pk))


def test_a_submit_locks_its_sources_in_the_order_of_ids(alice: User) -> None:
    first, second = (claimed(alice).request for _ in range(2))
    assert first.pk < second.pk
    with transaction.atomic():
        locked(first)
        submitting = in_thread(lambda: submit(alice, second, first))
        wait_until(waits_for_a_lock, what="the submit")
        locked(second)  # as a cancel of both does
    submitting.join(10)
    assert GenerationQueue.objects.filter(priority_weight=PARKED_WEIGHT).count() == 1


def test_an_end_sees_a_page_whose_submit_it_waited_for(alice: User) -> None:
    claim = claimed(alice)
    with transaction.atomic():
        page = submit(alice, claim.request)
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # the foreign key locks the source, as at the commit
        ending = in_thread(lambda: complete(claim))
        wait_until(waits_for_a_lock, what="the end")
    ending.join(10)
    assert not is_parked(page)


def test_a_page_that_starts_gets_the_priority_that_is_being_set(alice: User) -> None:
    claim = claimed(alice)
    page = submit(alice, claim.request)
    maintenance.advance_parked()  # the next look is in a minute
    with transaction.atomic():
        control.change_priority([page.pk], "urgent")
        in_thread(lambda: complete(claim)).join(10)
    maintenance.advance_parked()
    assert entry(page).priority_weight == 1000
