"""The table of transitions and the database's own constraint say the same."""

from __future__ import annotations

from itertools import product

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from generation.models import GenerationRequest, StatusChange
from generation.states import TRANSITIONS, Reason, Status
from tests.support.requests import PROMPT

pytestmark = pytest.mark.django_db

LEGAL = {(edge.source or "", edge.target.value, edge.reason.value) for edge in TRANSITIONS}
ALL = set(product(["", *Status.values], Status.values, Reason.values))


def _accepted(request: GenerationRequest, step: tuple[str, str, str]) -> bool:
    source, target, reason = step
    try:
        with transaction.atomic():
            StatusChange.objects.create(
                request=request, sequence=1, from_status=source, to_status=target, reason=reason
            )
            transaction.set_rollback(True)
    except IntegrityError:
        return False
    return True


@pytest.fixture
def request_row(alice: User) -> GenerationRequest:
    row: GenerationRequest = GenerationRequest.objects.create(
        id="vga_1700000000000000_aaaaaaaaa", owner=alice, type="cover", prompt=PROMPT
    )
    return row


def test_the_database_accepts_every_step_of_the_table_and_no_other(request_row: GenerationRequest) -> None:
    assert {step for step in ALL if _accepted(request_row, step)} == LEGAL


@pytest.mark.parametrize(
    "step",
    [
        ("queued", "in-progress", "nonsense"),
        ("nonsense", "queued", "submitted"),
        ("", "nonsense", "submitted"),
        ("", "", "submitted"),
        ("", "queued", ""),
        ("", "Queued", "submitted"),
    ],
)
def test_the_database_refuses_a_step_with_a_word_that_is_no_status(
    request_row: GenerationRequest, step: tuple[str, str, str]
) -> None:
    assert not _accepted(request_row, step)
