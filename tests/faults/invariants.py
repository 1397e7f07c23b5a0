"""What holds whatever was broken, by the rows, the files and the provider's own journal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from generation.states import TRANSITIONS
from tests.fakes.images import png
from tests.fakes.journal import Call

Row = dict[str, Any]
#: What :func:`assert_whole` looks at.
TABLES = {
    "requests": "generation_requests",
    "changes": "generation_status_changes",
    "attempts": "generation_attempts",
    "queue": "generation_queue",
    "batches": "generation_batches",
    "limits": "generation_providers",
}
_EDGES = {(edge.source or "", edge.target, edge.reason) for edge in TRANSITIONS}


@dataclass(frozen=True)
class Story:
    """All that is known of one request, each part in its order."""

    request: Row
    changes: list[Row] = field(default_factory=list)
    attempts: list[Row] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)


def assert_whole(
    *,
    requests: Sequence[Row],
    changes: Sequence[Row],
    attempts: Sequence[Row],
    queue: Sequence[Row],
    batches: Sequence[Row],
    limits: Sequence[Row],
    calls: Sequence[Call],
    media: Path,
) -> None:
    """All of them, of rows that were read at one moment and of the calls until then."""
    stories = {row["id"]: Story(row) for row in requests}
    for change in sorted(changes, key=lambda row: row["sequence"]):
        stories[change["request_id"]].changes.append(change)
    for attempt in sorted(attempts, key=lambda row: row["claim"]):
        stories[attempt["request_id"]].attempts.append(attempt)
    of_prompt = {attempt["prompt"]: attempt["request_id"] for attempt in attempts}
    for call in sorted(calls, key=lambda call: call.started):
        # Not every vendor is told the id; the prompts differ.
        stories[call.request_id or of_prompt[call.prompt]].calls.append(call)
    for story in stories.values():
        try:
            _assert_steps(story)
            _assert_claims(story)
            _assert_calls(story)
            _assert_cancels(story)
            _assert_picture(story, media)
        except AssertionError as error:
            error.add_note(_told(story))
            raise
    # A queue row exists exactly while its request is queued.
    assert {row["request_id"] for row in queue} == {row["id"] for row in requests if row["status"] == "queued"}
    for batch in batches:
        if batch["max_concurrent"] is not None:
            members = {row["id"] for row in requests if row["batch_id"] == batch["id"]}
            running = _in_progress(change for member in members for change in stories[member].changes)
            assert _most_at_once(running) <= batch["max_concurrent"], batch["id"]
    for limit in (row for row in limits if row["max_concurrent"] is not None):
        under_way = [(call.started, call.ended) for call in calls if call.vendor == limit["provider"]]
        assert _most_at_once(under_way) <= limit["max_concurrent"], limit["provider"]


def _assert_steps(story: Story) -> None:
    """Only steps of the table, numbered without gaps, each from where the last one led. So what ended stays as it is,
    unless a user retries it."""
    assert [change["sequence"] for change in story.changes] == list(range(1, story.request["sequence"] + 1))
    before = ""
    for change in story.changes:
        assert change["from_status"] == before
        assert (before, change["to_status"], change["reason"]) in _EDGES
        before = change["to_status"]
    assert before == story.request["status"]
    assert all(earlier["at"] <= later["at"] for earlier, later in pairwise(story.changes))


def _assert_claims(story: Story) -> None:
    """Every claim has a number of its own, one higher than the last, and an attempt that ends before the next begins.
    The process that changed the status held the newest."""
    claim = 0
    for change in story.changes:
        claim += change["reason"] == "claimed"
        assert change["claim"] == claim
    assert story.request["claims"] == claim
    assert [attempt["claim"] for attempt in story.attempts] == list(range(1, claim + 1))
    assert all(earlier["finished_at"] <= later["started_at"] for earlier, later in pairwise(story.attempts))
    running = [attempt for attempt in story.attempts if attempt["outcome"] == "running"]
    assert len(running) == (story.request["status"] == "in-progress")


def _assert_calls(story: Story) -> None:
    """Each call has an attempt of its own that was permitted before it began, and none follows a kept result."""
    permitted = [_seconds(attempt["call_started_at"]) for attempt in story.attempts if attempt["call_started_at"]]
    for number, call in enumerate(story.calls, start=1):
        assert len([at for at in permitted if at <= call.started]) >= number
    succeeded = [attempt for attempt in story.attempts if attempt["outcome"] == "succeeded"]
    assert len(succeeded) == (story.request["status"] == "completed")
    for attempt in succeeded:
        assert attempt is story.attempts[-1]
        assert all(call.started < _seconds(attempt["finished_at"]) for call in story.calls)


def _assert_cancels(story: Story) -> None:
    """After a cancel nothing is claimed, and no call is permitted, until a user retries it."""
    for change, following in zip(story.changes, [*story.changes[1:], None], strict=True):
        if change["to_status"] == "cancelled":
            until = following["at"] if following else datetime.max.replace(tzinfo=change["at"].tzinfo)
            for attempt in story.attempts:
                for at in (attempt["started_at"], attempt["call_started_at"]):
                    assert at is None or not change["at"] < at < until


def _assert_picture(story: Story, media: Path) -> None:
    """What is completed has its files, and the image is its own."""
    if story.request["status"] != "completed":
        return
    result = story.request["result"]
    image = (media / result["image_key"]).read_bytes()
    assert hashlib.sha256(image).hexdigest() == result["sha256"]
    assert (media / result["thumbnail_key"]).stat().st_size > 0
    if result["provider"] == "openai":
        assert image == png(story.request["id"])


def _in_progress(changes: Iterable[Row]) -> list[tuple[float, float | None]]:
    """From when to when something was in progress."""
    spans, since = [], {}
    for change in changes:
        request_id, at = change["request_id"], _seconds(change["at"])
        if change["to_status"] == "in-progress":
            since[request_id] = at
        elif change["from_status"] == "in-progress":
            spans.append((since.pop(request_id), at))
    return [*spans, *((at, None) for at in since.values())]


def _most_at_once(spans: Iterable[tuple[float, float | None]]) -> int:
    """How many of these went on at once at the most. What ends at the moment at which another begins was before it."""
    steps = []
    for begun, ended in spans:
        steps.append((begun, 1))
        if ended is not None:
            steps.append((ended, -1))
    most = now = 0
    for _, step in sorted(steps):
        now += step
        most = max(most, now)
    return most


def _seconds(at: datetime) -> float:
    return at.timestamp()


def _told(story: Story) -> str:
    """The story in lines, to find the cause of a failure."""
    lines = [
        (_seconds(change["at"]), f"{change['to_status']} ({change['reason']}, claim {change['claim']})")
        for change in story.changes
    ]
    for attempt in story.attempts:
        name = f"attempt {attempt['claim']}"
        lines.append((_seconds(attempt["started_at"]), f"{name} of {attempt['worker']}"))
        if attempt["call_started_at"]:
            lines.append((_seconds(attempt["call_started_at"]), f"{name} may call"))
        if attempt["finished_at"]:
            lines.append((_seconds(attempt["finished_at"]), f"{name} {attempt['outcome']} {attempt['error_code']}"))
    for call in story.calls:
        lines.append((call.started, f"call {call.number}"))
        if call.ended:
            lines.append((call.ended, f"call {call.number} ended: {call.outcome}"))
    first = min(at for at, _ in lines)
    return "\n".join(
        [story.request["id"], *(f"  {at - first:8.3f} {what}" for at, what in sorted(lines))],
    )
