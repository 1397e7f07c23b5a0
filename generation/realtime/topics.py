"""What can be watched: a request, a batch, a project. Each is looked up within what the watcher may see."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlencode

from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.urls import reverse

from generation import identifiers
from generation.identifiers import BATCH_ID, REQUEST_ID
from generation.models import GenerationRequest
from generation.realtime.authentication import in_database
from generation.requests import representations, selectors

#: The requests that the snapshot of a project has; the rest are pages of the list.
_PAGE: Final = 20
_LONGEST_PROJECT_ID: Final = 255
NAMES: Final = ("requestId", "batchId", "projectId")


class Topic(NamedTuple):
    """``name`` is the parameter's and ``id`` what a client gave for it, normalized."""

    name: str
    id: str

    @classmethod
    def of(cls, name: str, given: str) -> Topic:
        """Make one of what a client gave."""
        return cls(name, identifiers.identifier(given))

    @property
    def not_found(self) -> str:
        """What a client is told that may not know whether there is one."""
        return f"{self.name.removesuffix('Id').capitalize()} not found"


#: By what an update finds those who watch: a target, and for a project its owner, or ``None`` for staff, who see all.
Key = tuple[Topic, int | None]


class _Belongs(Protocol):
    """What tells who may see a request: an update, or what is known of it without one."""

    @property
    def request_id(self) -> str: ...
    @property
    def batch_id(self) -> str | None: ...
    @property
    def owner_id(self) -> int: ...
    @property
    def project_id(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state now. ``sequences`` is that of each request in it."""

    key: Key
    data: dict[str, Any]
    sequences: dict[str, int]


def keys_of(update: _Belongs) -> Iterator[Key]:
    """Whoever watches under one of these gets the update."""
    yield Topic("requestId", update.request_id), None
    if update.batch_id:
        yield Topic("batchId", update.batch_id), None
    if update.project_id:
        yield Topic("projectId", update.project_id), update.owner_id
        yield Topic("projectId", update.project_id), None


def key_for(user: User, target: Topic) -> Key:
    """Under what the user watches it. A project is a name that its owner gave, so another's of that name is another."""
    return target, user.pk if target.name == "projectId" and not user.is_staff else None


@in_database
def snapshot(user: User, target: Topic) -> Snapshot | None:
    """The state of what the user may see, or ``None``. A project has no row of its own, so that one in which nothing
    was submitted yet is empty, and so is one of somebody else."""
    find = {"requestId": _request, "batchId": _batch, "projectId": _project}[target.name]
    if (found := find(user, target.id)) is None:
        return None
    data, requests = found
    return Snapshot(key_for(user, target), data, {request.pk: request.sequence for request in requests})


@in_database
def first_hidden(user: User, targets: Collection[Topic]) -> Topic | None:
    """The first that is not there, or not for this user: asked before an answer begins that could not say it later."""
    seen = {Topic("requestId", pk) for pk in _among(selectors.visible_to(user), targets, "requestId", REQUEST_ID)}
    seen |= {Topic("batchId", pk) for pk in _among(selectors.batches_of(user), targets, "batchId", BATCH_ID)}
    return next((one for one in targets if not (_is_project(one.id) if one.name == "projectId" else one in seen)), None)


def _among(rows: QuerySet[Any], targets: Collection[Topic], name: str, pattern: re.Pattern[str]) -> Iterable[str]:
    ids = [one.id for one in targets if one.name == name and pattern.fullmatch(one.id)]
    return rows.filter(pk__in=ids).values_list("pk", flat=True) if ids else ()


_Found = tuple[dict[str, Any], list[GenerationRequest]]


def _request(user: User, request_id: str) -> _Found | None:
    found = selectors.find_request(request_id, user=user)
    return (representations.status(found), [found]) if found else None


def _batch(user: User, batch_id: str) -> _Found | None:
    if (found := selectors.find_batch(batch_id, user=user)) is None:
        return None
    requests = selectors.batch_requests(found)
    return representations.batch(found, requests), requests


def _project(user: User, project_id: str) -> _Found | None:
    if not _is_project(project_id):
        return None
    found = list(selectors.visible_to(user).filter(project_id=project_id).order_by("-pk")[: _PAGE + 1])
    page = found[:_PAGE]
    following = None
    if len(found) > _PAGE:
        cursor = base64.b64encode(urlencode({"p": page[-1].pk}).encode()).decode()
        query = urlencode({"cursor": cursor, "projectId": project_id})
        following = representations.absolute(f"{reverse('generation:requests')}?{query}")
    results = [representations.status(request) for request in page]
    return {"results": results, "next": following, "previous": None}, page


def _is_project(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # JSON can say half of a surrogate pair
        return False
    return 0 < len(name) <= _LONGEST_PROJECT_ID and "\0" not in name
