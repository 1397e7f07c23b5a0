"""Read requests and batches, restricted to those that the user may see."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from django.contrib.auth.models import User
from django.db.models import Exists, OuterRef, QuerySet

from generation import identifiers
from generation.access.grants import projects_of
from generation.db import queries
from generation.db.execution import Row, fetch_all, read_one
from generation.identifiers import BATCH_ID, REQUEST_ID, oldest_request_id
from generation.models import GenerationBatch, GenerationReference, GenerationRequest
from generation.queue.estimates import Place
from generation.requests import positions
from generation.requests.positions import QueuePosition
from generation.requests.rows import read_request, read_version

#: An id has the web process's time, ``created_at`` the database's. Assumed maximum difference of the clocks in seconds.
_MAX_CLOCK_SKEW: Final = 600.0


def visible_to(user: User) -> QuerySet[GenerationRequest]:
    """Return the requests that the user may see: their own, or all for staff. An API key may be limited to projects."""
    requests = GenerationRequest.objects.all()
    if not user.is_staff:
        requests = requests.filter(owner=user)
    projects = projects_of(user)
    return requests if projects is None else requests.filter(project_id__in=projects)


def matching(requests: QuerySet[GenerationRequest], conditions: Mapping[str, Any]) -> QuerySet[GenerationRequest]:
    """Return the requests that fulfill the conditions, which are keyword arguments of ``filter()``."""
    after = conditions.get("created_at__gt")
    if after is not None:
        # Ids begin with the time, so polling for new requests needs no index on ``created_at``.
        earliest = after.timestamp() - _MAX_CLOCK_SKEW
        requests = requests.filter(pk__gte=oldest_request_id(int(earliest * 1_000_000)))
    return requests.filter(**conditions)


def find_request(request_id: str, *, user: User) -> GenerationRequest | None:
    """Return the request of this id, or None if there is none that the user may see."""
    found = _find(request_id, owner_id=None if user.is_staff else user.pk)
    return found if found is not None and _is_in_projects(found, user) else None


def referring_to(request: GenerationRequest, *, most: int) -> list[GenerationRequest]:
    """Return the newest requests that are made with the image of this one, all of its owner; without their results."""
    ids = GenerationReference.objects.filter(source=request.pk).values("request")
    return list(GenerationRequest.objects.filter(pk__in=ids).only("prompt", "status").order_by("-pk")[:most])


def any_request(request_id: str) -> GenerationRequest | None:
    """Return the request of this id for a caller that has checked the permission by other means, or None."""
    return _find(request_id, owner_id=None)


def _find(request_id: str, *, owner_id: int | None) -> GenerationRequest | None:
    row = _row(queries.FIND, request_id, owner_id=owner_id)
    return None if row is None else read_request(row)


def find_with_position(
    request_id: str, *, user: User, only_version: bool = False
) -> tuple[GenerationRequest, QueuePosition | None] | None:
    """Return the request of this id with its queue position, or None if there is none that the user may see.

    With ``only_version`` the request has only what its entity tag depends on; other columns are read at their use.
    """
    sql = queries.FIND_VERSION if only_version else queries.FIND_AHEAD
    row = _row(sql, request_id, owner_id=None if user.is_staff else user.pk)
    if row is None:
        return None
    columns, of_place = row[: -len(Place._fields)], row[-len(Place._fields) :]
    request = read_version(columns) if only_version else read_request(columns)
    if not _is_in_projects(request, user):
        return None
    is_queued = of_place[Place._fields.index("weight")] is not None
    return request, positions.of_place(request, Place(*of_place)) if is_queued else None


def _row(sql: str, request_id: str, *, owner_id: int | None, **parameters: Any) -> Row | None:
    request_id = identifiers.identifier(request_id)
    if REQUEST_ID.fullmatch(request_id) is None:
        return None
    return read_one(sql, {"request": request_id, "owner": owner_id} | parameters)


def _is_in_projects(request: GenerationRequest, user: User) -> bool:
    projects = projects_of(user)
    return projects is None or request.project_id in projects


def requests_by_id(request_ids: Collection[str]) -> dict[str, GenerationRequest]:
    """Return the existing requests of these ids, for a caller that has checked the permissions."""
    rows = fetch_all(queries.FIND_ALL, {"requests": list(request_ids)})
    return {request.pk: request for request in map(read_request, rows)}


def variations_of(request: GenerationRequest) -> list[GenerationRequest]:
    """Return the images that were submitted together for the request's prompt, itself included; none if it is the only
    one."""
    if request.batch_id is None:
        return []
    rows = GenerationRequest.objects.filter(batch=request.batch_id)
    if not rows.filter(variation__gt=0).exists():
        return []
    return list(rows.defer("prompt", "metadata", "result", "error").order_by("pk"))


def batches_of(user: User) -> QuerySet[GenerationBatch]:
    """Return the batches that the user may see: their own, or all for staff. An API key that is limited to projects
    sees the batches that are in these projects as a whole."""
    batches = GenerationBatch.objects.all()
    if not user.is_staff:
        batches = batches.filter(owner=user)
    projects = projects_of(user)
    if projects is None:
        return batches
    elsewhere = GenerationRequest.objects.filter(batch=OuterRef("pk")).exclude(project_id__in=projects)
    return batches.filter(~Exists(elsewhere))


def find_batch(batch_id: str, *, user: User) -> GenerationBatch | None:
    """Return the batch of this id, or None if there is none that the user may see."""
    batch_id = identifiers.identifier(batch_id)
    return batches_of(user).filter(pk=batch_id).first() if BATCH_ID.fullmatch(batch_id) else None


def batch_requests(batch: GenerationBatch) -> list[GenerationRequest]:
    """Return the requests of the batch in the order in which they were submitted."""
    return list(batch.requests.order_by("pk"))
