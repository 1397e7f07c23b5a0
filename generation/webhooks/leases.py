"""Leases of due deliveries for one attempt each, and the results of attempts."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection, transaction

from generation.db import queries
from generation.db.execution import as_json, fetch_all
from generation.db.outages import is_outage
from generation.models import WebhookEndpoint
from generation.models.webhooks import RotatingSecret
from generation.requests.representations import timestamp
from generation.states import DeliveryState
from generation.webhooks import deliveries, payloads, schedule, signatures

logger = logging.getLogger(__name__)

#: How long a lease lasts. A delivery that a lost process held is taken again after this time, within 60 s.
LEASE: Final = timedelta(seconds=45)
#: The most deliveries that are sent at once to a target, to a host and for an owner, by all processes.
OF_TARGET: Final = 2
OF_HOST: Final = 8
OF_OWNER: Final = 25
#: An endpoint is disabled if nothing could be delivered for this time.
PATIENCE: Final = timedelta(days=5)
GONE: Final = 410
#: The advisory lock of the statement that counts what is being sent.
_LOCK: Final = 771_203_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Leased:
    """A delivery that this process may send until its lease ends. ``claim`` is the fencing token. ``body`` and
    ``secrets`` are those to send; or ``error`` says why nothing can be sent, and whether it ``is_final``."""

    id: str
    claim: int
    owner_id: int
    endpoint_id: str | None
    target: str
    url: str
    event: str
    request_id: str
    batch_id: str
    snapshot: Any
    tries: int
    occurred_at: datetime
    #: When the lease began, by the database's clock, and the time before that by this process's monotonic clock.
    leased_at: datetime
    taken_at: float
    body: bytes = b""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    is_failing: bool = False
    error: str = ""
    is_final: bool = False

    def now(self) -> datetime:
        """Return the time, whatever the clock of this process says."""
        return self.leased_at + timedelta(seconds=time.monotonic() - self.taken_at)


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """The result of an attempt: a status, or an error without one. ``is_final`` forbids further attempts."""

    leased: Leased
    status: int | None = None
    error: str = ""
    is_final: bool = False
    #: Seconds that the receiver asked to wait.
    retry_after: float | None = None
    milliseconds: int = 0
    at: datetime
    #: Whether the attempt was interrupted, so that it does not count.
    was_interrupted: bool = False

    @property
    def has_succeeded(self) -> bool:
        """Whether the receiver accepted the delivery."""
        return self.status is not None and 200 <= self.status < 300


# --- Leases -----------------------------------------------------------------------------------------------------------


def take(
    *,
    room: int,
    suspect_room: int,
    suspects: Collection[str] = (),
    probed: Collection[str] = (),
    blocked: Collection[str] = (),
) -> list[Leased]:
    """Lease up to ``room`` due deliveries, ready to be sent. At most ``suspect_room`` of them are for targets that
    failed at their last attempt, by themselves or as one of the ``suspects``. Of ``blocked`` targets none are taken,
    and of ``probed`` ones one at a time."""
    taken_at = time.monotonic()
    parameters = {
        "room": room,
        "suspect_room": suspect_room,
        "suspects": list(suspects),
        "probed": list(probed),
        "blocked": list(blocked),
        "of_target": OF_TARGET,
        "of_host": OF_HOST,
        "of_owner": OF_OWNER,
        "lease": LEASE,
    }
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        rows = fetch_all(queries.TAKE_DELIVERIES, parameters)
    return _prepared([_leased(row, taken_at) for row in rows])


def _leased(row: Sequence[Any], taken_at: float) -> Leased:
    names = ("id", "claim", "owner_id", "endpoint_id", "target", "url", "event", "request_id", "batch_id", "snapshot")
    values = dict(zip((*names, "tries", "occurred_at", "leased_at"), row, strict=True))
    if isinstance(values["snapshot"], str):
        values["snapshot"] = json.loads(values["snapshot"])
    return Leased(**values, taken_at=taken_at)


def _prepared(taken: Sequence[Leased]) -> list[Leased]:
    """Add what is to be sent."""
    if not taken:
        return []
    endpoints = WebhookEndpoint.objects.in_bulk({one.endpoint_id for one in taken if one.endpoint_id})
    secrets: dict[str | int, tuple[str, ...] | None] = {}
    prepared = []
    for one, body in zip(taken, _bodies(taken), strict=True):
        endpoint = endpoints.get(one.endpoint_id or "")
        if one.endpoint_id and (endpoint is None or not endpoint.enabled):
            prepared.append(replace(one, error=deliveries.ENDPOINT_DISABLED, is_final=True))
            continue
        if body is None:
            prepared.append(replace(one, error=deliveries.REQUEST_DELETED, is_final=True))
            continue
        if not body:
            prepared.append(replace(one, error=deliveries.INTERNAL))
            continue
        key: str | int = one.endpoint_id or one.owner_id
        if key not in secrets:
            secrets[key] = _secrets(endpoint or signatures.default_of(one.owner_id), one.leased_at)
        found = secrets[key]
        if found is None:
            prepared.append(replace(one, error=deliveries.SECRET_UNREADABLE))
        else:
            is_failing = endpoint is not None and endpoint.failing_since is not None
            # The endpoint may have been moved since the delivery was made.
            url = endpoint.url if endpoint is not None else one.url
            prepared.append(replace(one, url=url, body=body, secrets=found, is_failing=is_failing))
    return prepared


def _bodies(taken: Sequence[Leased]) -> list[bytes | None]:
    """Return the bodies, None for what was deleted, and an empty one where it cannot be made: one faulty delivery must
    not keep the others from being sent."""
    try:
        return payloads.bodies(taken)
    except Exception as error:
        if is_outage(error):
            raise
        if len(taken) > 1:
            return [body for one in taken for body in _bodies([one])]
        logger.exception("a body cannot be made", extra={"action": "error", "delivery": taken[0].id})
        return [b""]


def _secrets(row: RotatingSecret, now: datetime) -> tuple[str, ...] | None:
    try:
        return tuple(signatures.valid_secrets(row, now=now))
    except signatures.UnreadableSecretError:
        return None


def interrupted(leased: Leased) -> Result:
    """Return the result of an attempt that was given up, which releases the delivery."""
    return Result(leased=leased, at=leased.now(), was_interrupted=True)


def failed(leased: Leased, error: str) -> Result:
    """Return the result of an attempt that failed without an answer."""
    return Result(leased=leased, at=leased.now(), error=error)


# --- Results ----------------------------------------------------------------------------------------------------------


def settle(results: Sequence[Result]) -> None:
    """Write the results whose leases hold, by one statement, and disable endpoints that are gone or failing."""
    rows = [_row(result) for result in results]
    fetch_all(queries.SETTLE, {"results": as_json(rows), "deliveries": [result.leased.id for result in results]})
    _note_endpoints(results)


def _row(result: Result) -> dict[str, Any]:
    leased, tries = result.leased, result.leased.tries + 1
    if result.was_interrupted:
        return _columns(leased, DeliveryState.PENDING, entry=[], delay=0.0, tries=0)
    entry = {
        "at": timestamp(result.at),
        "status": result.status,
        "error": result.error or None,
        "ms": result.milliseconds,
    }
    if result.has_succeeded:
        return _columns(leased, DeliveryState.DELIVERED, entry=[entry], delay=None, tries=1)
    delay = schedule.delay_after(tries, status=result.status, retry_after=result.retry_after)
    if result.is_final or delay is None:
        return _columns(leased, DeliveryState.FAILED, entry=[entry], delay=None, tries=1)
    return _columns(leased, DeliveryState.PENDING, entry=[entry], delay=delay, tries=1)


def _columns(leased: Leased, state: str, *, entry: list[Any], delay: float | None, tries: int) -> dict[str, Any]:
    columns = {"delivery": leased.id, "claim": leased.claim, "state": state}
    return columns | {"entry": entry, "delay": delay, "tries": tries}


def _note_endpoints(results: Sequence[Result]) -> None:
    counted = [one for one in results if one.leased.endpoint_id and not one.was_interrupted]
    succeeded = {one.leased.endpoint_id for one in counted if one.has_succeeded}
    recovered = {one.leased.endpoint_id for one in counted if one.has_succeeded and one.leased.is_failing}
    failed = {one.leased.endpoint_id for one in counted if not one.has_succeeded and not one.leased.error}
    changed = sorted(str(endpoint) for endpoint in recovered | failed)
    if not changed:
        return
    parameters = {
        "endpoints": changed,
        "succeeded": sorted(map(str, succeeded)),
        "gone": sorted({str(one.leased.endpoint_id) for one in counted if one.status == GONE}),
        "patience": PATIENCE,
    }
    for (endpoint_id,) in fetch_all(queries.NOTE_ENDPOINTS, parameters):
        deliveries.end_pending(endpoint_id)
