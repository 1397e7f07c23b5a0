"""The bodies of deliveries, made again for each attempt, since the addresses of images in them expire."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

from generation.models import GenerationBatch, GenerationRequest
from generation.requests import input_images, representations, selectors
from generation.states import Status, WebhookEventType

#: Columns of a snapshot that are times.
_TIMES: Final = ("started_at", "completed_at")


class Subject(Protocol):
    """What a body is about."""

    @property
    def event(self) -> str:
        """The type of the event."""

    @property
    def request_id(self) -> str:
        """The id of the request, empty for an event of a batch."""

    @property
    def batch_id(self) -> str:
        """The id of the batch, empty for a request in none."""

    @property
    def snapshot(self) -> Any:
        """What later changes overwrite: of the request, or of each request of the batch by its id."""

    @property
    def occurred_at(self) -> datetime:
        """When the event occurred."""


def bodies(subjects: Sequence[Subject]) -> list[bytes | None]:
    """Return the body for each of the subjects, None for one whose request or batch was deleted."""
    of_batches = [one for one in subjects if one.event == WebhookEventType.BATCH_COMPLETED]
    ids = {one.request_id for one in subjects if one.request_id}
    ids.update(request_id for one in of_batches for request_id in one.snapshot)
    known = selectors.requests_by_id(ids) if ids else {}
    input_images.attach(known.values())
    batches = GenerationBatch.objects.in_bulk({one.batch_id for one in of_batches}) if of_batches else {}
    return [_body(one, _data(one, known, batches)) for one in subjects]


def _body(subject: Subject, data: Mapping[str, Any] | None) -> bytes | None:
    if data is None:
        return None
    payload = {"type": subject.event, "timestamp": representations.timestamp(subject.occurred_at), "data": data}
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _data(
    subject: Subject, known: Mapping[str, GenerationRequest], batches: Mapping[str, GenerationBatch]
) -> Mapping[str, Any] | None:
    match subject.event:
        case WebhookEventType.TEST:
            data: Mapping[str, Any] = subject.snapshot
            return data
        case WebhookEventType.BATCH_COMPLETED:
            return _batch(subject, known, batches)
    request = known.get(subject.request_id)
    return None if request is None else _status(request, subject.snapshot)


def _batch(
    subject: Subject, known: Mapping[str, GenerationRequest], batches: Mapping[str, GenerationBatch]
) -> dict[str, Any] | None:
    batch = batches.get(subject.batch_id)
    found: Collection[str] = sorted(subject.snapshot)
    if batch is None or any(request_id not in known for request_id in found):
        return None
    rows = [as_of(known[request_id], subject.snapshot[request_id]) for request_id in found]
    return representations.batch(batch, rows)


def _status(request: GenerationRequest, snapshot: Mapping[str, Any]) -> dict[str, Any]:
    shown = representations.status(as_of(request, snapshot))
    # A request that was just started has no preview, and those that came later may be gone.
    return shown | {"previewUrl": None} if shown["status"] == Status.IN_PROGRESS else shown


def as_of(request: GenerationRequest, snapshot: Mapping[str, Any]) -> GenerationRequest:
    """Return a copy of the request as it was at the time of the snapshot."""
    past = GenerationRequest()
    past.__dict__ = request.__dict__ | dict(snapshot)
    for name in _TIMES:
        value = snapshot[name]
        setattr(past, name, value and datetime.fromisoformat(value))
    return past
