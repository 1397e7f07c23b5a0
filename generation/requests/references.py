"""The images that are sent with requests: which they are, whether they are there, and what waits for them.

A request whose images are not all made, or whose time has not come, is parked: its queue row has the weight
``PARKED_WEIGHT``, with which it is neither sent nor counted. The end of a source lets it start at once; the dispatcher
looks at parked rows from time to time, which covers an end of which a process died before it could tell.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, NamedTuple

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce, Greatest, Least
from django.utils import timezone

from generation.access.grants import projects_of
from generation.db import queries
from generation.db.execution import fetch_all
from generation.db.functions import Now
from generation.db.locks import locked_keys
from generation.models import GenerationQueue, GenerationReference, GenerationRequest, Upload
from generation.queue import dispatch, run_limits
from generation.queue.broker import BrokerUnavailable
from generation.requests.new_request import NewImage, NewRequest
from generation.states import GIVEN_UP, PARKED_WEIGHT, WEIGHTS, ImageRole, Status

#: Maximum number of rows that one statement changes.
_STEP: Final = 500
#: The weights by priority, for the statement.
_WEIGHTS: Final = json.dumps(WEIGHTS)
#: Looks in one pass of the dispatcher, so that it takes a second at most: a chain is cancelled link by link.
_MAX_LOOKS: Final = 20
#: A parked row is looked at again after as long as it has been waiting, within these bounds, in case the end of its
#: source was not told. An end that commits just after the submit may not have seen the row; so early looks are many.
_LOOK_AGAIN_AFTER: Final = (timedelta(seconds=1), timedelta(minutes=1))
#: An upload's last use is written again only after this time.
_USE_NOTED_FOR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Mistake:
    """Why an image cannot be used: its path in the body, a message and a code."""

    path: str
    message: str
    code: str


class InvalidReferencesError(Exception):
    """Some images cannot be used."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__(mistakes[0].message)
        self.mistakes = mistakes


class ReferenceFailedError(Exception):
    """A request cannot start, since one of its images failed, was cancelled or was deleted."""


# --- Submit -----------------------------------------------------------------------------------------------------------


def resolved(owner: User, drafts: Sequence[NewRequest]) -> list[NewRequest]:
    """Return the requests, parked if one of their images is not made. Raises :class:`InvalidReferencesError`: an image
    of another owner is not found, as an unknown one."""
    images = [image for draft in drafts for image in draft.images]
    if not images:
        return list(drafts)
    sources = _sources(owner, {image.request_id for image in images if image.request_id})
    uploads = _uploads(owner, {image.upload_id for image in images if image.upload_id})
    found = [mistake for draft in drafts for mistake in _mistakes(draft, sources, uploads)]
    if mistakes := list(dict.fromkeys(found)):  # variations have the same images
        raise InvalidReferencesError(mistakes)
    ready = {pk for pk, source in sources.items() if source.status == Status.COMPLETED}
    return [replace(draft, is_parked=not all(_is_ready(image, ready) for image in draft.images)) for draft in drafts]


def _is_ready(image: NewImage, ready: Collection[str]) -> bool:
    return bool(image.upload_id) or image.request_id in ready


class _Source(NamedTuple):
    """A request that is referred to. Its sides are in pixels, None while it has no image."""

    id: str
    project_id: str
    status: str
    width: int | None
    height: int | None


def _sources(owner: User, ids: Collection[str]) -> dict[str, _Source]:
    if not ids:
        return {}
    # Also staff refer to their own requests only.
    found = map(_Source._make, fetch_all(queries.SOURCES, {"requests": list(ids), "owner": owner.pk}))
    projects = projects_of(owner)
    return {source.id: source for source in found if projects is None or source.project_id in projects}


def _uploads(owner: User, ids: Collection[str]) -> dict[str, Upload]:
    if not ids:
        return {}
    found = Upload.objects.filter(owner=owner.pk).in_bulk(ids)
    with transaction.atomic():
        # Rows that another transaction has locked are being used or deleted.
        old = locked_keys(Upload.objects.filter(pk__in=found, last_used_at__lt=Now() - _USE_NOTED_FOR))
        if old:
            Upload.objects.filter(pk__in=old).update(last_used_at=Now())
    return found


def _mistakes(draft: NewRequest, sources: dict[str, _Source], uploads: dict[str, Upload]) -> Iterable[Mistake]:
    size_of_source = mask = None
    for image in draft.images:
        source, upload = sources.get(image.request_id), uploads.get(image.upload_id)
        if (image.request_id and source is None) or (image.upload_id and upload is None):
            yield Mistake(image.path, "There is no such image.", "not_found")
        elif source is not None and source.status in GIVEN_UP:
            yield Mistake(image.path, f"This request is {source.status} and has no image.", "not_usable")
        elif image.role == ImageRole.MASK and upload is not None:
            mask = image, upload
            if upload.content_type != "image/png":
                yield Mistake(image.path, "A mask is a PNG.", "not_usable")
        elif image.role == ImageRole.SOURCE:
            size_of_source = _size(source, upload)
    if mask and size_of_source and size_of_source != (mask[1].width, mask[1].height):
        across, down = size_of_source
        yield Mistake(mask[0].path, f"The mask must have the size of the image, {across} x {down}.", "mask_size")


def _size(source: _Source | None, upload: Upload | None) -> tuple[int, int] | None:
    """Return the sides of an image in pixels, None if it is not made yet."""
    if upload is not None:
        return upload.width, upload.height
    if source is not None and source.width is not None and source.height is not None:
        return source.width, source.height
    return None


def columns(images: Iterable[NewImage], batch: Sequence[GenerationRequest]) -> list[dict[str, Any]]:
    """Return the rows of the images for the statement that submits. ``batch`` are all requests of the call."""
    return [
        {
            "position": position,
            "source": batch[image.item].pk if image.item is not None else image.request_id or None,
            "upload": image.upload_id or None,
        }
        for position, image in enumerate(images)
    ]


# --- Waiting ----------------------------------------------------------------------------------------------------------

_NOT_COMPLETED: Final = Q(upload=None) & (Q(source=None) | ~Q(source__status=Status.COMPLETED))
_FAILED: Final = Q(upload=None) & (Q(source=None) | Q(source__status__in=GIVEN_UP))


def is_waiting(request: GenerationRequest) -> bool:
    """Return whether the request's time has not come, or one of its images is not made."""
    if request.not_before is not None and request.not_before > timezone.now():
        return True
    return request.inputs is not None and request.references.filter(_NOT_COMPLETED).exists()


def check_retry(request: GenerationRequest) -> None:
    """Raise :class:`ReferenceFailedError` if the request could not start, or would be cancelled at once."""
    if request.inputs is None:
        return
    failed = _FAILED if request.parsed_inputs.cancel_on_failure else Q(upload=None, source=None)
    if request.references.filter(failed).exists():
        raise ReferenceFailedError


def source_ended(request_ids: Collection[str]) -> None:
    """Start the requests for whose images these were the last to wait for. Others are looked at by the dispatcher, as
    they may have to be cancelled. It has to be after the commit."""
    waiting = GenerationReference.objects.filter(source__in=request_ids, request__status=Status.QUEUED)
    ids = sorted(set(waiting.values_list("request", flat=True)))
    for start in range(0, len(ids), _STEP):
        step = ids[start : start + _STEP]
        unpark(step)
        with transaction.atomic():
            parked = locked_keys(GenerationQueue.objects.filter(pk__in=step, priority_weight=PARKED_WEIGHT))
            GenerationQueue.objects.filter(pk__in=parked).update(available_at=Now())


def unpark(request_ids: Sequence[str]) -> int:
    """Start those of the parked requests whose images are all made and whose time has come. Return their number."""
    rows = fetch_all(queries.UNPARK, {"requests": list(request_ids), "weights": _WEIGHTS})
    for limit, position in ((run_limits.BATCH, 2), (run_limits.KEY, 3)):
        for group in {row[position] for row in rows if row[1] and row[position]}:
            limit.fill(group)
    if any(not held for _, held, *_ in rows):
        with suppress(BrokerUnavailable):
            dispatch.send_due()
    return len(rows)


def advance_parked(cancel: Callable[[Collection[str]], Collection[str]]) -> int:
    """Look at the parked requests that are due: start those whose images are made, ``cancel`` those for which there is
    no hope, and then those that refer to them. Return the number of all."""
    advanced = 0
    for _ in range(_MAX_LOOKS):
        ids = _parked_and_due()
        cancelled = len(cancel(list(_hopeless(ids)))) if ids else 0
        advanced += cancelled + (unpark(ids) if ids else 0)
        if not cancelled:
            break
    return advanced


def _parked_and_due() -> list[str]:
    """Return the parked requests that are due, the longest first. They are due again in a while."""
    due = GenerationQueue.objects.filter(priority_weight=PARKED_WEIGHT, available_at__lte=Now())
    ids = list(due.order_by("available_at").values_list("pk", flat=True)[:_STEP])
    if not ids:
        return []
    with transaction.atomic():
        # Before they are looked at, since the ends of sources from now on make the rows due again.
        ids = locked_keys(due.filter(pk__in=ids))
        shortest, longest = _LOOK_AGAIN_AFTER
        pause = Least(Greatest(Now() - F("queued_at"), shortest), longest)
        not_before = GenerationRequest.objects.filter(pk=OuterRef("pk"), not_before__gt=Now()).values("not_before")
        GenerationQueue.objects.filter(pk__in=ids).update(available_at=Coalesce(Subquery(not_before), Now() + pause))
    return ids


def _hopeless(request_ids: Collection[str]) -> QuerySet[GenerationReference, str]:
    """Return those of the requests of which an image was deleted, or failed and is not waited for any longer."""
    rows = GenerationReference.objects.filter(_FAILED, request__in=request_ids, request__status=Status.QUEUED)
    over = Q(source=None) | Q(source__completed_at__lt=Now() - settings.REFERENCE_PATIENCE)
    return rows.filter(over | Q(request__inputs__onFailure="cancel")).values_list("request", flat=True).distinct()
