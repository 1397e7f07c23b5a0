"""Estimates: their formulas over simulated days, their figures, and the sample that is measured."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User

from generation import caching
from generation.models import GivenEstimate
from generation.queue import figures, forecasts, given_estimates
from generation.queue.figures import DEFAULT, Run, Spread
from generation.queue.forecasts import Factors, Measured, Start
from generation.queue.given_estimates import Given
from generation.reports import doctor, prometheus
from generation.requests import lifecycle, positions
from tests.support.measured import ended, worker
from tests.support.queries import queries_of
from tests.support.requests import back_in_queue, claimed, queued
from tests.support.simulation import LOADS, simulated

# --- The formulas -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("load", LOADS)
def test_p90_covers_85_to_95_percent_of_a_simulated_day(load: str) -> None:
    accuracy = simulated(load, seed=1)
    assert accuracy.count > 10_000
    assert 0.85 <= accuracy.covered_p90 <= 0.95
    assert accuracy.error < 0.3


@pytest.mark.parametrize(
    ("ahead", "slots", "running", "p50"),
    [(0, 2, 0, 0), (1, 2, 0, 0), (2, 2, 0, 10), (0, 2, 2, 10), (3, 2, 2, 40), (0, 2, 5, 10), (0, 0.5, 0, 40)],
)
def test_a_request_starts_when_enough_slots_are_free(ahead: int, slots: float, running: int, p50: float) -> None:
    start = forecasts.start(ahead, slots=slots, running=running, occupancy=Spread(20, 30, 20, 5))
    assert start.p50 == p50
    assert start.p90 > p50 or not p50


@pytest.mark.parametrize(
    ("seconds", "nearest", "up"),
    [
        (0, 0, 0),
        (0.4, 0, 1),
        (0.5, 1, 1),
        (59.4, 59, 60),
        (59.9, 60, 60),
        (62, 60, 65),
        (62.5, 65, 65),
        (599, 600, 600),
        (629, 600, 660),
        (630, 660, 660),
        (3_600, 3_600, 3_600),
    ],
)
def test_rounding_is_to_seconds_then_to_five_then_to_minutes(seconds: float, nearest: int, up: int) -> None:
    assert forecasts.rounded(seconds) == nearest
    assert forecasts.rounded(seconds, up=True) == up


@pytest.mark.parametrize("p50", [0, 0.2, 30, 58.7, 599.9, 5_000])
def test_the_quantiles_of_an_estimate_are_in_order(p50: float) -> None:
    found = forecasts.estimate(Start(p50, p50 + 0.1), Spread(0, 0, 0, 0), is_measured=False)
    assert found.start_p50 <= found.start_p90 <= found.done_p90
    assert found.start_p50 <= max(1, found.done_p50) <= found.done_p90


def _measured(ratio: float, count: int = 100, *, waited: float = 60) -> list[Measured]:
    return [Measured(Start(waited, waited), Start(waited, waited), waited * ratio) for _ in range(count)]


@pytest.mark.parametrize(
    ("ratio", "p50", "p90"), [(1, 1, 1), (2, 1.98, 1.98), (0.8, 0.8, 0.8), (0.01, 0.5, 0.5), (100, 3, 3)]
)
def test_factors_correct_what_was_measured_within_bounds(ratio: float, p50: float, p90: float) -> None:
    found = forecasts.factors(_measured(ratio))
    assert (found.p50, found.p90) == pytest.approx((p50, p90), abs=0.01)


def test_few_measurements_correct_nothing() -> None:
    assert forecasts.factors(_measured(2, count=49)) == Factors()


def test_requests_that_did_not_wait_are_not_counted() -> None:
    at_once = [Measured(Start(0, 0), Start(0, 0), 0.3)] * 500
    assert forecasts.accuracy(at_once) is None
    found = forecasts.accuracy(at_once + _measured(2, count=10))
    assert found is not None
    assert (found.count, found.covered_p90, found.error) == (10, 0, 0.5)


# --- The figures ------------------------------------------------------------------------------------------------------


def test_the_narrowest_group_with_enough_requests_is_used() -> None:
    runs = [Run("cover", "a", with_images=False, seconds=10)] * 20 + [Run("cover", "b", with_images=True, seconds=40)]
    found = figures.figures_of([*runs, Run("background", "b", with_images=False, seconds=100)], [])
    assert found.duration("cover", "a", with_images=False).p50 == 10
    assert found.duration("cover", "b", with_images=True) == found.by_type["cover"]
    assert found.duration("background", "b", with_images=False) == found.of_all
    assert (found.is_measured("cover"), found.is_measured("background")) == (True, False)
    assert found.occupancy == DEFAULT


def test_only_the_newest_requests_of_a_group_are_used() -> None:
    newest = [Run("cover", "a", with_images=False, seconds=10)] * 200
    found = figures.figures_of([*newest, *[Run("cover", "a", with_images=False, seconds=99)] * 100], [])
    assert found.duration("cover", "a", with_images=False) == Spread(10, 10, 10, 0, 200)


def test_without_requests_the_figures_are_assumed(db: None) -> None:
    found = figures.read()
    assert found.duration("cover", "a", with_images=False) == found.occupancy == DEFAULT
    assert not found.is_measured("cover")


def test_figures_are_read_by_one_statement(alice: User) -> None:
    ended(alice, lasted=10, type="cover")
    ended(alice, lasted=30, type="cover")
    ended(alice, lasted=80, failed=True)
    [_] = queries_of(figures.read)
    found = figures.read()
    assert found.duration("cover", "openmoji-17", with_images=False).mean == pytest.approx(20)
    assert found.occupancy.mean == pytest.approx((10 + 30 + 80) / 3)
    assert found.of_all.count == 2


# --- The sample -------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _own_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given_estimates, "_sample", given_estimates._Sample())


def _given(request_id: str, *, p50: float = 10, ago: float = 0) -> Given:
    at = datetime.now(UTC) - timedelta(seconds=ago)
    return Given(request_id, at, Start(p50, 2 * p50), Start(p50, 2 * p50))


def test_a_batch_is_sampled_evenly() -> None:
    assert list(given_estimates.spread(1)) == [0]
    assert list(given_estimates.spread(4)) == [0, 1, 2, 3]
    assert list(given_estimates.spread(100)) == list(range(5, 100, 10))
    assert all(len(given_estimates.spread(count)) <= 10 for count in range(1, 200))


@pytest.mark.django_db(transaction=True)
def test_a_process_writes_ten_rows_a_second_at_most() -> None:
    for number in range(60):
        given_estimates.note([_given(f"vga_{number}")])
    assert GivenEstimate.objects.count() == 1  # the others are written with the next one after a second
    given_estimates._sample._written_at -= 1
    given_estimates.note([_given("vga_later")])
    assert GivenEstimate.objects.count() == 11


@pytest.mark.django_db(transaction=True)
def test_an_estimate_is_kept_and_measured(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    worker("worker-1", slots=1)
    for _ in range(2):
        ended(alice, lasted=30)
    claimed(alice)
    request = queued(alice)
    caching.clear_all()  # the submit has read the number of running requests
    positions.keep_estimates([request], most_at_once=None)
    assert not GivenEstimate.objects.exists()  # there are too few measurements
    monkeypatch.setattr(figures, "ENOUGH", 2)
    positions.keep_estimates([request], most_at_once=None)
    row = GivenEstimate.objects.get()
    assert (row.request_id, row.estimated_p50, row.given_p50) == (request.pk, 30, 30)
    assert given_estimates.measure() == 0
    claim = lifecycle.claim(request.pk, worker="worker-1")
    assert claim
    back_in_queue(claim)
    GivenEstimate.objects.update(given_at=datetime.now(UTC) - timedelta(seconds=40))
    assert given_estimates.measure() == 1
    row.refresh_from_db()
    assert row.started_after == pytest.approx(40, abs=2)
    assert given_estimates.measure() == 0


@pytest.mark.django_db(transaction=True)
def test_requests_that_wait_for_more_than_their_turn_are_not_sampled(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "ENOUGH", 0)
    worker("worker-1", slots=1)
    request = queued(alice)
    positions.keep_estimates([request], most_at_once=3)
    request.is_parked = True
    positions.keep_estimates([request], most_at_once=None)
    assert not GivenEstimate.objects.exists()


def _row(request_id: str, *, ago: float = 0, started_after: float | None = None, p50: float = 10) -> None:
    at = datetime.now(UTC) - timedelta(seconds=ago)
    GivenEstimate.objects.create(
        request_id=request_id,
        estimated_p50=p50,
        estimated_p90=2 * p50,
        given_p50=p50,
        given_p90=2 * p50,
        given_at=at,
        started_after=started_after,
        measured_at=None if started_after is None else at,
    )


def test_what_ended_without_a_start_or_is_gone_is_dropped(alice: User) -> None:
    cancelled, waiting = queued(alice), queued(alice)
    assert lifecycle.cancel([cancelled.pk], actor=alice)
    for request_id in (cancelled.pk, waiting.pk, "vga_deleted"):
        _row(request_id)
    assert given_estimates.measure() == 0
    assert [row.pk for row in GivenEstimate.objects.all()] == [waiting.pk]


def test_the_sample_has_bounds(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given_estimates, "_OPEN", 2)
    monkeypatch.setattr(given_estimates, "_KEPT", 3)
    waiting = [queued(alice).pk for _ in range(4)]
    for age, request_id in enumerate(waiting):
        _row(request_id, ago=100 - age)
    for age in range(5):
        _row(f"vga_{age}", ago=age, started_after=10)
    given_estimates.measure()
    assert {row.pk for row in GivenEstimate.objects.all()} == {*waiting[:2], "vga_0", "vga_1", "vga_2"}


# --- What is told -----------------------------------------------------------------------------------------------------


def _metrics() -> Iterator[tuple[str, dict[str, str], float]]:
    for metric in prometheus._estimates():
        for sample in metric.samples:
            yield sample.name, sample.labels, sample.value


@pytest.mark.parametrize(
    ("late", "count", "is_found"), [(30, 100, True), (10, 100, False), (0, 100, True), (30, 90, False)]
)
def test_the_doctor_tells_when_estimates_are_not_met(db: None, late: int, count: int, is_found: bool) -> None:
    for number in range(count):
        _row(f"vga_{number}", started_after=25 if number < late else 5)
    caching.clear_all()
    assert bool(list(doctor._estimates())) == is_found
    covered = {labels["q"]: value for name, labels, value in _metrics() if labels}
    assert covered == {"p50": pytest.approx((count - late) / count), "p90": pytest.approx((count - late) / count)}
    assert given_estimates.factors().p50 < 1


def test_without_measurements_nothing_is_told(db: None) -> None:
    assert not list(doctor._estimates())
    assert not list(_metrics())
    assert given_estimates.factors() == Factors()
