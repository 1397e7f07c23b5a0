"""New requests as rows, and the statement that inserts them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, Error, IntegrityError, connection

from generation.db import queries
from generation.db.execution import as_json, fetch_all
from generation.db.groups import Group, Lane
from generation.db.outages import is_cut_connection
from generation.identifiers import new_request_id
from generation.models import GenerationRequest
from generation.queue.fairness import fair_key
from generation.requests.new_request import NewRequest
from generation.states import Status

_COLUMNS: Final = [column.attname for column in GenerationRequest._meta.concrete_fields]
#: Columns that a request has from its draft.
_GIVEN: Final = [
    *("type", "prompt", "priority", "project_id", "page_id", "metadata", "variation", "max_attempts", "estimated_cost"),
    "not_before",
]
#: Columns that the submitting statement copies from a request.
_COPIED: Final = (
    *("id", "owner_id", "batch_id", "api_key_id", *_GIVEN, "inputs", "fair_key", "http_request_id", "traceparent"),
    *("webhook_url", "webhook_events"),
)
#: A request as that statement writes it.
_INITIAL: Final[dict[str, Any]] = dict.fromkeys(_COLUMNS) | {
    "status": Status.QUEUED.value,
    "sequence": 1,
    "claims": 0,
    "attempts": 0,
    "waits": 0,
    "worker": "",
    "approval": "",
    "approval_note": "",
    "webhook_url": "",
}


def new_row(draft: NewRequest, common: Mapping[str, Any]) -> GenerationRequest:
    """Return a request as the statement writes it, with a new id and the ``common`` columns of its call."""
    given = {name: getattr(draft, name) for name in _GIVEN}
    values = {**_INITIAL, **common, **given, "id": new_request_id()}
    values["fair_key"] = fair_key(
        values["owner_id"], project_id=draft.project_id, end_user=draft.metadata.get("endUser")
    )
    if draft.inputs:
        values["inputs"] = draft.inputs.as_column()
    if draft.webhook:
        values |= draft.webhook.as_columns()
    # The constructor with names takes twice as long.
    request = GenerationRequest.from_db(DEFAULT_DB_ALIAS, _COLUMNS, [values[name] for name in _COLUMNS])
    if draft.options:
        request.options = draft.options
    return request


def columns(request: GenerationRequest) -> dict[str, Any]:
    """Return what the statement copies from a request."""
    return {name: getattr(request, name) for name in _COPIED}


#: The time of a new request, its turn, and the number of queue rows ahead of it, if they were counted.
_Inserted: TypeAlias = tuple[datetime, int, int | None]


def insert(rows: Sequence[Mapping[str, Any]]) -> Sequence[_Inserted]:
    """Insert the rows. A single one outside of a transaction goes into one statement with those of other calls."""
    if connection.in_atomic_block:
        return _insert_at_once(rows)
    try:
        if len(rows) == 1 and (inserted := _submits.ask(rows[0])) is not None:
            return [inserted]
        return _insert_at_once(rows)
    except Error as error:
        if not is_cut_connection(error):
            raise
    return _insert_again(rows)


def _insert_again(rows: Sequence[Mapping[str, Any]]) -> Sequence[_Inserted]:
    """Insert rows whose statement lost its connection, and may have been committed or may still be running.

    In both cases their ids are taken, and the second statement fails once the first one is committed.
    """
    connection.close()
    try:
        return _insert_at_once(rows)
    except IntegrityError:
        ids = [row["id"] for row in rows]
        times = dict(GenerationRequest.objects.filter(pk__in=ids).values_list("pk", "created_at"))
        if len(times) < len(ids):
            raise
        return [(times[request_id], 0, None) for request_id in ids]


def _insert_at_once(rows: Sequence[Mapping[str, Any]]) -> list[_Inserted]:
    parameters = {"lost_after": settings.REDISPATCH_AFTER, "requests": as_json(rows)}
    found = {row[0]: row[1:] for row in fetch_all(queries.SUBMIT, parameters)}
    # The statement does not count its own rows.
    ordered = sorted(rows, key=lambda row: (-row["priority_weight"], found[row["id"]][1], row["id"]))
    before = {row["id"]: index for index, row in enumerate(ordered)}
    return [(now, turn, ahead + before[row["id"]]) for row in rows for now, turn, ahead in [found[row["id"]]]]


_submits: Final = Group[Mapping[str, Any], _Inserted](Lane("submits"), _insert_at_once)
