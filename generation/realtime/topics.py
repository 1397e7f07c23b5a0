"""Topics of subscriptions: a request, a batch or a project, each queried among the rows that the user may see."""

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
from generation.access.grants import projects_of
from generation.identifiers import BATCH_ID, REQUEST_ID
from generation.models import GenerationRequest
from generation.realtime.authentication import in_database
from generation.requests import input_images, representations, selectors

#: Requests in the snapshot of a project; the rest are on further pages of the list.
_PAGE: Final = 20
_LONGEST_PROJECT_ID: Final = 255
NAMES: Final = ("requestId", "batchId", "projectId")


class Topic(NamedTuple):
    """A topic: ``name`` is the name of the parameter, and ``id`` its normalized value."""

    name: str
    id: str

    @classmethod
    def of(cls, name: str, given: str) -> Topic:
        """Return the topic of a client's parameter."""
        return cls(name, identifiers.identifier(given))

    @property
    def not_found(self) -> str:
        """Return the error message, which does not tell whether the topic exists."""
        return f"{self.name.removesuffix('Id').capitalize()} not found"


#: Key of subscriptions: a topic, and for a project its owner's id. None for other topics, and for staff, who see all.
Key = tuple[Topic, int | None]


class _HasKeys(Protocol):
    """An object with the fields that determine the subscription keys of a request."""

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
    """The current state of a topic. ``sequences`` maps each request in it to its sequence."""

    key: Key
    data: dict[str, Any]
    sequences: dict[str, int]


def keys_of(update: _HasKeys) -> Iterator[Key]:
    """Yield the keys whose subscribers get the update."""
    yield Topic("requestId", update.request_id), None
    if update.batch_id:
        yield Topic("batchId", update.batch_id), None
    if update.project_id:
        yield Topic("projectId", update.project_id), update.owner_id
        yield Topic("projectId", update.project_id), None


def key_for(user: User, topic: Topic) -> Key:
    """Return the key of a user's subscription. It has the owner of a project, since owners may use the same name."""
    return topic, user.pk if topic.name == "projectId" and not user.is_staff else None


@in_database
def snapshot(user: User, topic: Topic) -> Snapshot | None:
    """Return the state of a topic that the user may see, or None.

    Projects have no rows of their own, so a project without requests is empty, and so is one of another user.
    """
    find = {"requestId": _request, "batchId": _batch, "projectId": _project}[topic.name]
    if (found := find(user, topic.id)) is None:
        return None
    data, requests = found
    return Snapshot(key_for(user, topic), data, {request.pk: request.sequence for request in requests})


@in_database
def first_hidden(user: User, topics: Collection[Topic]) -> Topic | None:
    """Return the first topic that does not exist or that the user may not see, or None.

    For checks before a stream starts, since its status code cannot change afterwards.
    """
    visible = {Topic("requestId", pk) for pk in _among(selectors.visible_to(user), topics, "requestId", REQUEST_ID)}
    visible |= {Topic("batchId", pk) for pk in _among(selectors.batches_of(user), topics, "batchId", BATCH_ID)}
    for topic in topics:
        if not (_is_visible_project(user, topic.id) if topic.name == "projectId" else topic in visible):
            return topic
    return None


def _among(rows: QuerySet[Any], topics: Collection[Topic], name: str, pattern: re.Pattern[str]) -> Iterable[str]:
    ids = [topic.id for topic in topics if topic.name == name and pattern.fullmatch(topic.id)]
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
    if not _is_visible_project(user, project_id):
        return None
    found = list(selectors.visible_to(user).filter(project_id=project_id).order_by("-pk")[: _PAGE + 1])
    page = found[:_PAGE]
    following = None
    if len(found) > _PAGE:
        cursor = base64.b64encode(urlencode({"p": page[-1].pk}).encode()).decode()
        query = urlencode({"cursor": cursor, "projectId": project_id})
        following = representations.absolute(f"{reverse('generation:requests')}?{query}")
    input_images.attach(page)
    results = [representations.status(request) for request in page]
    return {"results": results, "next": following, "previous": None}, page


def _is_visible_project(user: User, name: str) -> bool:
    projects = projects_of(user)
    return _is_project(name) and (projects is None or name in projects)


def _is_project(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # JSON can contain lone surrogates
        return False
    return 0 < len(name) <= _LONGEST_PROJECT_ID and "\0" not in name
