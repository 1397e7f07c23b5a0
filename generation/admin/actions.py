"""Actions on one, several or all matching requests: confirmation page, call of ``services``, and result messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseNotAllowed, QueryDict
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse

from generation.access import audit, roles
from generation.access.client_address import client_address
from generation.admin.changelists import OddAddressError, refuse, refuse_unknown
from generation.models import GenerationRequest
from generation.requests import bulk_actions, filters, services
from generation.requests.services import Outcome
from generation.states import BulkActionName, Priority
from generation.templatetags.formats import requests

#: The most selected requests; a page of the list has fewer.
_MOST: Final = 500
#: Matching requests are counted up to this number.
_COUNTED: Final = 10_000
_SHOWN: Final = 20
_TEMPLATE: Final = "admin/generation/generationrequest/confirm.html"
#: The explanation on the confirmation page.
_EXPLAINED: Final = {
    BulkActionName.CANCEL: "Requests that are queued or in progress are cancelled at once. A provider call under way"
    " is aborted, and may still be billed.",
    BulkActionName.RETRY: "Requests that failed or were cancelled are queued again with a full set of attempts,"
    " which may cost money.",
    BulkActionName.REQUEUE: "Queued requests are dispatched again at once, regardless of any delay, with the weight of"
    " their priority.",
    BulkActionName.PRIORITY: "Queued requests get the new priority.",
}
_PAST: Final = {
    BulkActionName.CANCEL: "Cancelled",
    BulkActionName.RETRY: "Retried",
    BulkActionName.REQUEUE: "Requeued",
    BulkActionName.PRIORITY: "Changed the priority of",
}


def from_list(name: str) -> Callable[[Any, HttpRequest, QuerySet[Any]], HttpResponse]:
    """Return the list's handler of an action: it shows the confirmation page for the selection."""

    def ask(page: Any, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse:
        if request.POST.get("select_across") == "1":
            return _confirm(page, request, name, conditions=_conditions(request.GET))
        ids = request.POST.getlist(ACTION_CHECKBOX_NAME)
        if len(ids) > _MOST:
            messages.error(request, f"Select at most {_MOST} requests, or all matching requests.")
            return redirect(request.get_full_path())
        return _confirm(page, request, name, ids=ids)

    return ask


def act(page: Any, request: HttpRequest) -> HttpResponse:
    """GET: show the confirmation page. POST: run the action."""
    if request.method not in {"GET", "POST"}:
        return HttpResponseNotAllowed(["GET", "POST"])
    given = request.POST if request.method == "POST" else request.GET
    name, ids = given.get("action", ""), given.getlist("ids")
    argument = given.get("argument", "")
    if name not in BulkActionName.values or len(ids) > _MOST or any("\0" in one for one in ids):
        return HttpResponseBadRequest("Unknown action.", content_type="text/plain")
    user = request.user
    assert isinstance(user, User)  # noqa: S101  narrows the type; the site requires a signed-in user
    if not (page.has_view_permission(request) and user.has_perm(roles.PERMISSIONS[name])):
        audit.refused(user, f"{name} {', '.join(ids[:3])}".rstrip(), address=client_address(request))
        raise PermissionDenied
    everything = given.get("everything") == "1"
    given_filter = QueryDict(given.get("filter", ""))
    try:
        refuse_unknown(given_filter, filters.CONDITIONS)
    except OddAddressError as error:
        return refuse(request, error, _list({}))
    conditions = _conditions(given_filter)
    if request.method == "GET":
        return _confirm(page, request, name, ids=ids)
    if name == BulkActionName.PRIORITY and argument not in Priority.values:
        messages.error(request, "Choose the new priority.")
        return _confirm(page, request, name, ids=ids, conditions=conditions if everything else None)
    asked: dict[str, Any] = {"user": user, "action": name, "argument": argument, "address": client_address(request)}
    if everything:
        return _begin(request, conditions, asked)
    outcome = services.act(request_ids=ids, **asked)
    _tell(request, name, outcome)
    if len(ids) == 1:
        return redirect("admin:generation_generationrequest_change", ids[0])
    return redirect(_list(conditions))


def _begin(request: HttpRequest, conditions: dict[str, str], asked: dict[str, Any]) -> HttpResponse:
    begun = bulk_actions.start(conditions=conditions, **asked)
    if begun is None:
        messages.warning(request, "No request matches any more.")
        return redirect(_list(conditions))
    return redirect("admin:generation_bulkaction_change", begun.pk)


def _tell(request: HttpRequest, name: str, outcome: Outcome) -> None:
    """Show how many requests were changed, and why the others were not."""
    if outcome.done:
        messages.success(request, f"{_PAST[BulkActionName(name)]} {requests(len(outcome.done))}.")
    for reason, ids in outcome.refused.items():
        shown = ", ".join(ids[:_SHOWN]) + (" …" if len(ids) > _SHOWN else "")
        messages.warning(request, f"Skipped {requests(len(ids))} because {reason}: {shown}")
    if not outcome.done and not outcome.refused:
        messages.warning(request, "No request was selected.")


def _confirm(
    page: Any,
    request: HttpRequest,
    name: str,
    *,
    ids: list[str] | None = None,
    conditions: dict[str, str] | None = None,
) -> HttpResponse:
    everything = conditions is not None
    rows = filters.matching(GenerationRequest.objects.all(), conditions or {})
    if everything:
        count = rows.order_by()[: _COUNTED + 1].count()
    else:
        rows = rows.filter(pk__in=ids or [])
        count = len(ids or [])
    if not count:
        messages.warning(request, "No request matches.")
        return redirect(_list(conditions or {}))
    shown = rows.select_related("owner").defer("metadata", "result", "error").order_by("-pk")[:_SHOWN]
    counted = f"more than {_COUNTED:,} requests" if count > _COUNTED else requests(count)
    context = {
        **page.admin_site.each_context(request),
        "opts": page.opts,
        "title": f"{BulkActionName(name).label}: {counted}",
        "action": name,
        "label": BulkActionName(name).label,
        "explained": _EXPLAINED[BulkActionName(name)],
        "counted": counted,
        "everything": everything,
        "conditions": conditions,
        "filter": urlencode(_conditions(request.GET) if conditions is None else conditions),
        "ids": ids or [],
        "shown": shown,
        "more": count > _SHOWN,
        "priorities": Priority.choices if name == BulkActionName.PRIORITY else [],
        "back": _list(_conditions(request.GET) if conditions is None else conditions),
    }
    return TemplateResponse(request, _TEMPLATE, context)


def _conditions(parameters: QueryDict) -> dict[str, str]:
    return filters.known({name: parameters.get(name, "") or "" for name in parameters})


def _list(conditions: dict[str, str]) -> str:
    address = reverse("admin:generation_generationrequest_changelist")
    return f"{address}?{urlencode(conditions)}" if conditions else address
