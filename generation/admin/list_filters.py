"""The filters of the list of requests. :mod:`generation.requests.filters` implements them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import DropdownFilter, TextFilter
from unfold.contrib.filters.forms import SearchForm
from unfold.widgets import UnfoldAdminTextInputWidget

from generation.queue import pauses
from generation.requests import filters
from generation.states import Approval, ErrorCode, GenerationType, PauseScope, Priority, Status


class _Narrows:
    """Filter by the condition with this name."""

    parameter_name: str

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value: str = self.value() or ""  # type: ignore[attr-defined]
        return filters.matching(queryset, {self.parameter_name: value})


class _MomentForm(SearchForm):
    """A date and time in UTC."""

    def __init__(self, name: str, label: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(name, label, *args, **kwargs)
        self.fields[name] = forms.CharField(
            label=f"{label.strip().removeprefix('By ').capitalize()}, UTC",
            required=False,
            widget=UnfoldAdminTextInputWidget(attrs={"type": "datetime-local", "step": "1"}),
        )


class _DayForm(SearchForm):
    """A day, a month or a year."""

    def __init__(self, name: str, label: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(name, label, *args, **kwargs)
        self.fields[name].widget.attrs["placeholder"] = "2026-01-31, 2026-01 or 2026"


def _one_of(name: str, title_: str, found: list[tuple[str, str]]) -> type:
    class Filter(_Narrows, DropdownFilter):
        title = title_
        parameter_name = name

        def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
            return found

    return Filter


def _text(name: str, title_: str, form: type[SearchForm] = SearchForm) -> type:
    class Filter(_Narrows, TextFilter):
        title = title_
        parameter_name = name
        form_class = form

    return Filter


class OneOfTheProviders(DropdownFilter):
    """One of the configured providers."""

    title = "provider"
    parameter_name = "provider"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in pauses.choices(PauseScope.PROVIDER)]


class ProviderFilter(_Narrows, OneOfTheProviders):
    """Filter by the provider of any attempt."""


OF_REQUESTS = (
    _one_of("status", "status", [*Status.choices, (filters.ACTIVE_STATUS, "Queued or in progress")]),
    _one_of("approval", "decision", [*Approval.choices, (filters.UNDECIDED, "Neither")]),
    _one_of("priority", "priority", Priority.choices),
    _one_of("type", "type", GenerationType.choices),
    ProviderFilter,
    _one_of("error", "error", ErrorCode.choices),
    _text("owner", "owner"),
    _text("project", "project"),
    _text("batch", "batch"),
    _text("on", "day, month or year", _DayForm),
    _text("after", "submitted after", _MomentForm),
    _text("before", "submitted before", _MomentForm),
)
