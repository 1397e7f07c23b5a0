"""The context of the page of one request."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest

from generation.access import roles
from generation.admin import images
from generation.admin.base import between, history
from generation.models import GenerationRequest
from generation.queue import pauses
from generation.reports import timeline
from generation.requests import input_images, positions
from generation.states import ACTIVE, GIVEN_UP, BulkActionName, ImageRole, Status
from generation.templatetags.formats import NONE, charges, dollars, duration

#: Statuses in which an action has an effect.
_POSSIBLE = {
    BulkActionName.CANCEL: ACTIVE,
    BulkActionName.RETRY: GIVEN_UP,
    BulkActionName.REQUEUE: {Status.QUEUED},
    BulkActionName.PRIORITY: {Status.QUEUED},
}


def context(request: HttpRequest, one: GenerationRequest) -> dict[str, Any]:
    """Return the context of the page."""
    user = request.user
    assert isinstance(user, User)  # noqa: S101  narrows the type; the site requires a signed-in user
    steps = timeline.steps(one)
    attempts = [step.attempt for step in steps if step.attempt]
    cost = charges((attempt.cost, attempt.booked_cost) for attempt in attempts)
    prompts = [attempt.prompt for attempt in attempts if attempt.prompt]
    return {
        "title": "Request",
        "subtitle": one.pk,
        "one": one,
        "actions": [
            {"name": name, "label": BulkActionName(name).label}
            for name, statuses in _POSSIBLE.items()
            if one.status in statuses and user.has_perm(roles.PERMISSIONS[name])
        ],
        "image": images.address(one) if one.status == Status.COMPLETED else "",
        "facts": _facts(one, cost),
        "place": positions.of_request(one) if one.status == Status.QUEUED else None,
        "is_paused": one.status == Status.QUEUED and pauses.is_paused(one),
        "inputs": _inputs(one),
        "steps": steps,
        "sent_prompt": prompts[-1] if prompts else "",
        "problem": timeline.problem_of(one),
        "documents": [
            (name, json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True))
            for name, document in (("metadata", one.metadata), ("result", one.result), ("error", one.error))
            if document
        ],
        "log": history(one, user),
    }


def _inputs(one: GenerationRequest) -> list[dict[str, str | None]]:
    """Return the images that are sent with the request, as text: uploads are seen by their owners only."""
    return [
        {
            "role": ImageRole(image.role).label,
            "name": image.name,
            "request": image.source_id,
            "upload": image.upload_id,
            "status": image.status,
            "status_label": Status(image.status).label if image.status else "",
            "sha256": image.sha256[:12],
        }
        for image in input_images.of_request(one)
    ]


def _facts(one: GenerationRequest, cost: str) -> list[tuple[str, str]]:
    now = datetime.now(UTC)
    began = one.started_at or one.completed_at or now
    took = between(one.started_at, one.completed_at or (now if one.status == Status.IN_PROGRESS else None))
    facts = [
        ("Type", one.get_type_display()),
        ("Priority", one.get_priority_display()),
        ("Owner", one.owner.get_username()),
        ("Project", one.project_id),
        ("Page", one.page_id),
        ("Variation", f"{one.variation + 1}" if one.variation else ""),
        ("Decision", one.get_approval_display()),
        ("Note", one.approval_note),
        ("Submitted", f"{one.created_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("Wait", duration(between(one.created_at, began))),
        ("Duration", duration(took)),
        ("Attempts", f"{one.attempts} of {one.max_attempts}" + (f", postponed {one.waits}×" if one.waits else "")),
        ("Worker", one.worker),
        ("Cost", cost),
        ("Estimated cost", dollars(one.estimated_cost) if one.estimated_cost is not None else ""),
    ]
    return [(name, value) for name, value in facts if value not in {"", NONE}]
