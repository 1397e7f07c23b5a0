from pathlib import Path

import pytest

from generation import states
from generation.states import TRANSITIONS, Reason, Status, Transition

README = Path(__file__).parents[2] / "README.md"


def test_the_diagram_in_the_readme_is_the_one_that_the_transitions_make() -> None:
    assert f"```mermaid\n{states.diagram()}\n```" in README.read_text()


def test_a_status_that_nothing_leads_to_is_refused() -> None:
    without_failed = tuple(edge for edge in TRANSITIONS if edge.target is not Status.FAILED)
    with pytest.raises(ValueError, match="nothing leads to failed"):
        states.check_transitions(without_failed)


def test_an_active_status_without_a_way_out_is_refused() -> None:
    stuck = tuple(edge for edge in TRANSITIONS if edge.source is not Status.IN_PROGRESS or edge.target is Status.QUEUED)
    stuck += (
        Transition(Status.QUEUED, Status.COMPLETED, Reason.COMPLETED),
        Transition(Status.QUEUED, Status.FAILED, Reason.FAILED),
    )
    states.check_transitions(stuck)
    with pytest.raises(ValueError, match="nothing leads on from in-progress"):
        states.check_transitions(tuple(edge for edge in stuck if edge.source is not Status.IN_PROGRESS))


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        (Transition(Status.COMPLETED, Status.QUEUED, Reason.RETRY), "completed is final"),
        (Transition(None, Status.FAILED, Reason.FAILED), "begins queued"),
        (TRANSITIONS[1], "twice"),
    ],
)
def test_a_step_that_breaks_the_life_of_a_request_is_refused(extra: Transition, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        states.check_transitions((*TRANSITIONS, extra))


@pytest.mark.parametrize(
    ("weight", "queue"),
    [(1000, "urgent"), (999, "high"), (100, "high"), (99, "normal"), (10, "normal"), (9, "low"), (1, "low")],
)
def test_a_weight_goes_to_the_highest_queue_that_it_reaches(weight: int, queue: str) -> None:
    assert states.queue_for(weight) == queue
