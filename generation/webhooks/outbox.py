"""The fan-out: events become deliveries, one for each target, in one transaction."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple

from django.db import transaction

from generation.db import queries
from generation.db.execution import Row, as_json, execute, fetch_all
from generation.db.outages import is_outage
from generation.identifiers import new_delivery_id
from generation.states import WebhookEventType
from generation.webhooks.targets import RefusedURLError, read

logger = logging.getLogger(__name__)

#: The most events of one transaction.
STEP: Final = 200
#: A delivery that has not ended after this time fails.
LIFETIME: Final = timedelta(days=4)
_ENDS: Final = frozenset(
    {WebhookEventType.REQUEST_COMPLETED, WebhookEventType.REQUEST_FAILED, WebhookEventType.REQUEST_CANCELLED}
)


class _Event(NamedTuple):
    """An event with the request's columns that decide who wants it; ``owner_id`` is None if it was deleted."""

    request_id: str
    sequence: int
    event: str
    snapshot: Any
    at: Any
    owner_id: int | None
    project_id: str
    batch_id: str | None
    url: str
    events: Sequence[str]
    batch_url: str
    batch_events: Sequence[str]

    @classmethod
    def of(cls, row: Row) -> _Event:
        values = list(row)
        values[3] = _parsed(values[3])
        for index in (9, 11):
            values[index] = _names(values[index])
        return cls(*values)


class _Target(NamedTuple):
    """An address that wants events: an endpoint, or that of a request or batch, which has no id."""

    endpoint_id: str | None
    owner_id: int
    url: str
    events: Sequence[str]
    project_id: str

    def wants(self, event: str, project_id: str) -> bool:
        return event in self.events and (not self.project_id or self.project_id == project_id)


def fan_out() -> int:
    """Make the deliveries of the oldest events. Return the number of events, less than :data:`STEP` if there are no
    more.

    If one of the events cannot be fanned out, they are taken one by one, and only the faulty one is dropped.
    """
    try:
        with transaction.atomic():
            taken = _take(STEP)
            _add_of(taken)
        return len(taken)
    except Exception as error:
        if is_outage(error):
            raise
        logger.exception("events of webhooks are fanned out one by one", extra={"action": "error"})
    return sum(1 for _ in itertools.takewhile(bool, (_fan_out_one() for _ in range(STEP))))


def _fan_out_one() -> bool:
    """Make the deliveries of the oldest event, or drop it if that fails. Return False if there is none."""
    with transaction.atomic():
        taken = _take(1)
        try:
            with transaction.atomic():
                _add_of(taken)
        except Exception as error:
            if is_outage(error):  # it may succeed later
                raise
            [event] = taken
            logger.exception(
                "the event %s of %s is dropped",
                event.event,
                event.request_id,
                extra={"action": "error", "request_id": event.request_id},
            )
    return bool(taken)


def _take(most: int) -> list[_Event]:
    return [_Event.of(row) for row in fetch_all(queries.TAKE_EVENTS, {"most": most})]


def _add_of(taken: Sequence[_Event]) -> None:
    """Add the deliveries of these events."""
    events = [event for event in taken if event.owner_id is not None]
    if events:
        endpoints = _endpoints({event.owner_id for event in events if event.owner_id is not None})
        rows = [row for event in events for row in _of_event(event, endpoints)]
        add([*rows, *_of_batches(events, endpoints)])


def add(rows: Sequence[Mapping[str, Any]]) -> int:
    """Add deliveries that are due at once, as :func:`delivery` returns them. Return their number."""
    if not rows:
        return 0
    return execute(queries.ADD_DELIVERIES, {"deliveries": as_json(rows), "lifetime": LIFETIME})


def delivery(
    *,
    owner_id: int,
    endpoint_id: str | None,
    url: str,
    event: str,
    snapshot: Any,
    request_id: str = "",
    batch_id: str = "",
    sequence: int = 0,
    occurred_at: Any = None,
    unique: str | None = None,
) -> dict[str, Any]:
    """Return the columns of a new delivery. A ``unique`` text lets the target have it once."""
    host = host_of(url)
    target = endpoint_id or f"{owner_id} {host}"
    return {
        "id": new_delivery_id(),
        "owner_id": owner_id,
        "endpoint_id": endpoint_id,
        "target": target,
        "host": host,
        "url": url,
        "event": event,
        "request_id": request_id,
        "batch_id": batch_id,
        "sequence": sequence,
        "snapshot": snapshot,
        "occurred_at": occurred_at and occurred_at.isoformat(),
        "unique_key": unique and f"{target} {unique}",
    }


def host_of(url: str) -> str:
    """Return the host of a URL, by which deliveries are limited."""
    try:
        return read(url).host
    except RefusedURLError:  # the settings have changed since it was registered; the attempt says so in the log
        return "refused"


def _endpoints(owners: Collection[int]) -> dict[int, list[_Target]]:
    found: dict[int, list[_Target]] = {}
    for pk, owner_id, url, events, project_id in fetch_all(queries.TARGETS, {"owners": list(owners)}):
        found.setdefault(owner_id, []).append(_Target(pk, owner_id, url, _names(events), project_id))
    return found


def _targets(event: _Event, endpoints: Mapping[int, Sequence[_Target]]) -> Iterator[_Target]:
    assert event.owner_id is not None  # noqa: S101  the caller drops events of deleted requests
    yield from endpoints.get(event.owner_id, ())
    if event.url:
        yield _Target(None, event.owner_id, event.url, event.events, "")
    if event.batch_url:
        yield _Target(None, event.owner_id, event.batch_url, event.batch_events, "")


def _of_event(event: _Event, endpoints: Mapping[int, Sequence[_Target]]) -> Iterator[dict[str, Any]]:
    for target in _targets(event, endpoints):
        if target.wants(event.event, event.project_id):
            yield delivery(
                owner_id=target.owner_id,
                endpoint_id=target.endpoint_id,
                url=target.url,
                event=event.event,
                snapshot=event.snapshot,
                request_id=event.request_id,
                batch_id=event.batch_id or "",
                sequence=event.sequence,
                occurred_at=event.at,
            )


def _of_batches(events: Sequence[_Event], endpoints: Mapping[int, Sequence[_Target]]) -> Iterator[dict[str, Any]]:
    """Yield the deliveries for batches that have ended with one of these events.

    Of the transactions of the last two ends, neither sees the other. Whichever event is fanned out last sees both, and
    if both do, the unique key lets one of them win. A batch whose request was retried ends again with another sum.
    """
    wanted: dict[str, tuple[_Event, list[_Target]]] = {}
    for event in events:
        if event.batch_id is None or event.event not in _ENDS:
            continue
        found = [one for one in _targets(event, endpoints) if WebhookEventType.BATCH_COMPLETED in one.events]
        if found:
            wanted[event.batch_id] = event, found
    if not wanted:
        return
    batches: dict[str, list[tuple[str, str, int, Any]]] = {}
    for batch_id, *columns in fetch_all(queries.ENDED_BATCHES, {"batches": list(wanted)}):
        batches.setdefault(batch_id, []).append((columns[0], columns[1], columns[2], _parsed(columns[3])))
    for batch_id, requests in batches.items():
        event, found = wanted[batch_id]
        projects = {project_id for _, project_id, _, _ in requests}
        total = sum(sequence for _, _, sequence, _ in requests)
        for target in found:
            if target.project_id and projects != {target.project_id}:
                continue
            yield delivery(
                owner_id=target.owner_id,
                endpoint_id=target.endpoint_id,
                url=target.url,
                event=WebhookEventType.BATCH_COMPLETED,
                snapshot={request_id: snapshot for request_id, _, _, snapshot in requests},
                batch_id=batch_id,
                sequence=total,
                occurred_at=event.at,
                unique=f"{batch_id} {total}",
            )


def _parsed(value: Any) -> Any:
    """Return what a column of JSON holds, which comes as text."""
    return json.loads(value) if isinstance(value, str) else value


def _names(value: Any) -> list[str]:
    """Return the names of events in a column, none if something else was written by hand."""
    parsed = _parsed(value)
    return parsed if isinstance(parsed, list) else []
