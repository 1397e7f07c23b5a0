"""Base of every admin list: links that keep the other parameters, and refusal of malformed URLs."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from typing import Any, Final

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import (
    IS_FACETS_VAR,
    IS_POPUP_VAR,
    TO_FIELD_VAR,
    IncorrectLookupParameters,
)
from django.contrib.admin.views.main import ALL_VAR, ERROR_FLAG, ORDER_VAR, PAGE_VAR, SEARCH_VAR
from django.core.exceptions import FieldError, PermissionDenied, SuspiciousOperation, ValidationError
from django.db import DataError, transaction
from django.db.models import ProtectedError, QuerySet, RestrictedError
from django.db.models.fields import IntegerField
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.utils.http import urlencode
from unfold.admin import ModelAdmin
from unfold.views import ChangeList

from generation.admin import deletion

logger = logging.getLogger(__name__)

#: Parameters of a list's URL that do not filter rows.
PLAIN: Final = frozenset({ALL_VAR, ORDER_VAR, PAGE_VAR, ERROR_FLAG, IS_FACETS_VAR, IS_POPUP_VAR, TO_FIELD_VAR})
#: Exceptions of Django and the database driver for malformed parameters.
_ODD: Final = (
    IncorrectLookupParameters,
    SuspiciousOperation,
    ValidationError,
    FieldError,
    ValueError,
    TypeError,
    OverflowError,
    DataError,
)
_LONGEST_NAMES: Final = 100
_LARGEST_KEY: Final = 2**63 - 1


class OddAddressError(Exception):
    """A URL with unknown parameters or malformed values."""


def query_string(
    parameters: Mapping[str, Any], *, add: Mapping[str, Any] | None = None, remove: Collection[str] = ()
) -> str:
    """Return the query string with some parameters replaced, and others removed by their exact names."""
    changed = add or {}
    kept = {name: value for name, value in parameters.items() if name not in remove and name not in changed}
    kept |= {name: value for name, value in changed.items() if value is not None}
    return f"?{urlencode(sorted(kept.items()), doseq=True)}"


def refuse_unknown(parameters: QueryDict, known: Collection[str]) -> None:
    """Raise :class:`OddAddressError` if the URL has a parameter that is neither in ``PLAIN`` nor known."""
    if unknown := sorted(set(parameters) - PLAIN - set(known)):
        named = ", ".join(unknown)[:_LONGEST_NAMES]
        raise OddAddressError("".join(letter if letter.isprintable() else "?" for letter in named))


def refuse(request: HttpRequest, error: OddAddressError, address: str) -> HttpResponse:
    """Redirect to the unfiltered list with an error message; no action is run."""
    cause = str(error) or repr(error.__cause__)
    logger.warning("refused the address of a list: %s", cause[:200], extra={"action": "list-refused"})
    detail = f" ({error})" if str(error) else ""
    messages.error(
        request,
        f"The link has an unknown filter or an invalid value{detail}. No action was run, and the list is shown "
        "without filters.",
    )
    return redirect(address)


class StrictChangeList(ChangeList):
    """A list that accepts only the filters that its page shows."""

    def get_query_string(self, new_params: dict[str, Any] | None = None, remove: list[str] | None = None) -> str:
        # Django removes by prefix, so that removing "p" also removes "project".
        return query_string(self.filter_params, add=new_params, remove=remove or ())

    def get_filters(self, request: HttpRequest) -> Any:
        found = super().get_filters(request)
        # Django silently drops the parameters of a filter that has no choices.
        applied = {name for spec in found[0] for name in spec.expected_parameters()}
        refuse_unknown(request.GET, applied | ({SEARCH_VAR} if self.search_fields else set()))
        return found

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        len(self.result_list)  # evaluate here, where a malformed value is refused, rather than in the template


class StrictAdmin(ModelAdmin):
    """Base of every admin page: no parameter, key or form field leads to a server error."""

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return StrictChangeList

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        for name, values in request.GET.lists():
            if name != PAGE_VAR and any("\0" in text for text in (name, *values)):
                raise OddAddressError
        try:
            return super().get_changelist_instance(request)
        except _ODD as error:
            if not request.GET:
                raise
            raise OddAddressError from error

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        self._drop_odd_keys(request)
        try:
            # Django logs a deletion before it deletes.
            with transaction.atomic() if request.POST.get("action") == "delete_selected" else nullcontext():
                answer: HttpResponse = super().changelist_view(request, extra_context)
        except OddAddressError as error:
            return refuse(request, error, request.path)
        except (ProtectedError, RestrictedError):
            messages.error(request, "New dependent rows prevent the deletion. Nothing was deleted.")
            return redirect(request.get_full_path())
        return answer

    def _drop_odd_keys(self, request: HttpRequest) -> None:
        """Remove keys from the selection that no row can have."""
        selected = request.POST.getlist(ACTION_CHECKBOX_NAME)
        if any(not self._may_be_key(key) for key in selected):
            post = request.POST.copy()
            post.setlist(ACTION_CHECKBOX_NAME, [key for key in selected if self._may_be_key(key)])
            request.POST = post  # type: ignore[assignment]

    def _may_be_key(self, text: str) -> bool:
        field = self.opts.pk
        try:
            key = field.to_python(text)
        except (ValidationError, ValueError, TypeError):
            return False
        if isinstance(field, IntegerField):
            return bool(abs(key) <= _LARGEST_KEY)
        return "\0" not in text

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        if "\0" in object_id:
            return None
        try:
            return super().get_object(request, object_id, from_field)
        except (OverflowError, DataError):
            return None

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if "\0" in search_term:
            return queryset.none(), False
        found: tuple[QuerySet[Any], bool] = super().get_search_results(request, queryset, search_term)
        return found

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        found: dict[str, Any] = super().get_changeform_initial_data(request)
        return {name: value for name, value in found.items() if not (isinstance(value, str) and "\0" in value)}

    # --- Deleting ---

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> deletion.Found:
        return deletion.look(objs, request, self)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        try:
            answer: HttpResponse = super().delete_view(request, object_id, extra_context)
        except (ProtectedError, RestrictedError):
            messages.error(request, "New dependent rows prevent the deletion. Nothing was deleted.")
            return redirect(request.path)
        return answer
