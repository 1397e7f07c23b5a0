"""The rights of the caller's API key, applied to requests. Without a key everything is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from django.contrib.auth.models import User

from generation.access.grants import Grant, NotAllowedError, grant_of
from generation.models import GenerationRequest
from generation.providers import catalogue
from generation.requests.new_request import NewRequest


def permitted(user: User, draft: NewRequest, *, path: str = "") -> NewRequest:
    """Return the request as the caller's key allows it. ``path`` is that of the request in the body.

    If the key is limited to models and the request names none, it gets the first of them that can fulfill it. Raises
    :class:`generation.access.grants.NotAllowedError`.
    """
    grant = grant_of(user)
    if grant is None:
        return draft
    _check(grant, project_id=draft.project_id, priority=draft.priority, path=path)
    if grant.models is None:
        return draft
    options = draft.options
    assert options is not None  # noqa: S101  every door parses them
    if options.model:
        _check_model(grant, options.model, path)
        return draft
    found = catalogue.first_of(grant.models, options)
    if found is None:
        raise NotAllowedError(f"{path}metadata.model", f"Of the models of this API key ({_names(grant)}), none can.")
    model, estimate = found
    return replace(
        draft,
        options=replace(options, model=model),
        metadata=draft.metadata | {"model": model},
        estimated_cost=estimate,
    )


def check_projects(user: User, drafts: Sequence[NewRequest], *, is_batch: bool = False) -> None:
    """Raise :class:`generation.access.grants.NotAllowedError` if the caller's key may not see one of the requests.

    A repeated call submits nothing, and so meets no other check.
    """
    if (grant := grant_of(user)) is None:
        return
    for index, draft in enumerate(drafts):
        _check_project(grant, draft.project_id, f"requests[{index}]." if is_batch else "")


def check_retry(user: User, request: GenerationRequest) -> None:
    """Raise :class:`generation.access.grants.NotAllowedError` if the caller's key may not submit such a request."""
    grant = grant_of(user)
    if grant is None:
        return
    _check(grant, project_id=request.project_id, priority=request.priority, path="")
    if grant.models is not None:
        _check_model(grant, request.options.model, "")


def check_priority(user: User, priority: str) -> None:
    """Raise :class:`generation.access.grants.NotAllowedError` if the caller's key may not submit with the priority."""
    if (grant := grant_of(user)) is not None:
        _check_priority(grant, priority, "")


def _check(grant: Grant, *, project_id: str, priority: str, path: str) -> None:
    _check_project(grant, project_id, path)
    _check_priority(grant, priority, path)


def _check_priority(grant: Grant, priority: str, path: str) -> None:
    if not grant.allows_priority(priority):
        raise NotAllowedError(f"{path}priority", f"The highest priority of this API key is {grant.max_priority}.")


def _check_project(grant: Grant, project_id: str, path: str) -> None:
    if not grant.allows_project(project_id):
        projects = ", ".join(grant.projects or ())
        raise NotAllowedError(f"{path}projectId", f"This API key is for the projects {projects}.")


def _check_model(grant: Grant, model: str, path: str) -> None:
    if model not in (grant.models or ()):
        raise NotAllowedError(f"{path}metadata.model", f"This API key is for the models {_names(grant)}.")


def _names(grant: Grant) -> str:
    return ", ".join(grant.models or ())
