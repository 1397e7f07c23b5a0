"""Base classes: read-only rows, and keyset-paginated lists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from django.contrib.admin import ShowFacets
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import display_for_field, display_for_value, lookup_field, unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, QueryDict
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.templatetags.unfold_list import result_headers
from unfold.views import ChangeList
from unfold.widgets import CHECKBOX_CLASSES

from generation.access import audit
from generation.admin.changelists import StrictAdmin, StrictChangeList
from generation.templatetags.formats import NONE

#: URL parameter of a page: the rows before a key (``older.KEY``) or after it (``newer.KEY``).
_PAGE: Final = "p"
#: The column that Django adds in front if there are actions.
_CHECKBOXES: Final = "action_checkbox"
_CHECKBOX_CELL: Final = (
    '<td class="vg-check" data-label="Select"><input type="checkbox" name="{}" value="{}" '
    f'class="{" ".join(CHECKBOX_CLASSES)} action-select" aria-label="Select record"></td>'
)


class ReadOnly:
    """Rows that only the system writes."""

    is_read_only: Final = True

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class _OnePage(Paginator):
    """A paginator that does not count rows."""

    @cached_property
    def count(self) -> int:
        return 0


class KeysetChangeList(StrictChangeList):
    """A keyset-paginated list, newest first. Every page costs the same, and rows are not counted."""

    newer: str = ""
    older: str = ""

    def get_results(self, request: HttpRequest) -> None:
        before, _, key = request.GET.get(_PAGE, "").partition(".")
        key = self._checked(key)
        rows, size = self.queryset, self.list_per_page
        if before == "newer" and key:
            found = self._first(size + 1, rows.filter(pk__gt=key), "pk")
            more_newer, more_older = len(found) > size, True
            found = found[:size][::-1]
        else:
            found = self._first(size + 1, rows.filter(pk__lt=key) if key else rows, "-pk")
            more_newer, more_older = bool(key), len(found) > size
            found = found[:size]
        if found:
            self.newer = f"newer.{found[0].pk}" if more_newer else ""
            self.older = f"older.{found[-1].pk}" if more_older else ""
        self.goes_on = more_newer or more_older
        # The page only needs to know whether there are more rows.
        self.result_count = len(found) + self.goes_on
        self.full_result_count = self.result_count
        self.show_full_result_count = False
        self.show_admin_actions = True
        self.can_show_all = self.multi_page = False
        self.paginator = _OnePage(found, max(size, 1))
        self.result_list = found
        self.model_admin.complete(found)

    def _first(self, count: int, rows: QuerySet[Any], order: str) -> list[Any]:
        """Return the first rows in this order. The keys are selected first, by an index-only scan: for whole rows
        PostgreSQL prefers to walk the primary key over a filter's index, and if the newest tenth is queued it reads
        all of it to reach completed rows."""
        keys = rows.order_by(order).values("pk")[:count]
        return list(self.root_queryset.filter(pk__in=keys).order_by(order))

    @cached_property
    def headers(self) -> list[dict[str, Any]]:
        """The column headers, as unfold's template expects them."""
        return list(result_headers(self))

    def lines(self) -> Iterator[SafeString]:
        """Render the cells of each row. unfold computes the headers again for each row and renders a template for each
        badge and check box, which takes longer than the rest of the page."""
        labels = [header["text"] for header in self.headers]
        for row in self.result_list:
            cells = zip(self.list_display, labels, strict=True)
            yield format_html_join("", "{}", ((self._cell(name, label, row),) for name, label in cells))

    def _cell(self, name: str, label: str, row: Any) -> SafeString:
        if name == _CHECKBOXES:
            return format_html(_CHECKBOX_CELL, ACTION_CHECKBOX_NAME, row.pk)
        column, _, value = lookup_field(name, row, self.model_admin)
        if isinstance(value, datetime):
            shown = f"{value:%Y-%m-%d %H:%M:%S} UTC"
        else:
            shown = display_for_value(value, NONE) if column is None else display_for_field(value, column, NONE)
        if shown == NONE:
            return format_html('<td class="vg-none" data-label="{}">{}</td>', label, shown)
        if name in (self.list_display_links or ()):
            query = f"?{self.preserved_filters}" if self.preserved_filters else ""
            shown = format_html('<a href="{}{}">{}</a>', self.url_for_result(row), query, shown)
        return format_html('<td data-label="{}">{}</td>', label, shown)

    def page_url(self, page: str) -> str:
        """The URL of a page."""
        return str(self.get_query_string({_PAGE: page}))

    @property
    def newer_url(self) -> str:
        return self.page_url(self.newer) if self.newer else ""

    @property
    def older_url(self) -> str:
        return self.page_url(self.older) if self.older else ""

    @property
    def first_url(self) -> str:
        return self.whole_url if self.newer else ""

    @property
    def whole_url(self) -> str:
        """The URL of the list's first page."""
        return str(self.get_query_string(remove=[_PAGE]))

    def _checked(self, key: str) -> str:
        try:
            self.model._meta.pk.get_prep_value(key)
        except (ValueError, TypeError, ValidationError):
            return ""
        return "" if "\0" in key else key


class KeysetAdmin(ReadOnly, StrictAdmin):
    """A read-only, keyset-paginated list."""

    show_full_result_count = False
    list_per_page = 50
    list_fullwidth = True
    ordering = ("-pk",)
    sortable_by = ()
    list_filter_submit = True
    show_facets = ShowFacets.NEVER  # facets count rows
    change_list_template = "admin/keyset_change_list.html"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return KeysetChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        text = search_term.strip()
        if not text:
            return queryset, False
        return queryset.none() if "\0" in text else self.found(queryset, text), False

    def found(self, rows: QuerySet[Any], text: str) -> QuerySet[Any]:
        """Return the rows that match the search text."""
        return rows.none()

    def complete(self, rows: list[Any]) -> None:
        """Add related data to the rows of a page, in one query for all."""


class ReadOnlyPage(ReadOnly, StrictAdmin):
    """A read-only page per row, from a template."""

    page_template: str

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if request.method not in {"GET", "HEAD"}:
            return HttpResponseNotAllowed(["GET", "HEAD"])
        if not self.has_view_permission(request):
            raise PermissionDenied
        row = self.row_of(object_id)
        if row is None:
            answer: HttpResponse = self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
            return answer
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "back": self._list_it_came_from(request),
            **self.page(request, row),
        }
        return TemplateResponse(request, self.page_template, context)

    def _list_it_came_from(self, request: HttpRequest) -> str:
        """Return the URL of the list with the filters from which the page was opened."""
        address = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
        filters = QueryDict(request.GET.get("_changelist_filters", ""))
        return f"{address}?{filters.urlencode()}" if filters else address

    def row_of(self, object_id: str) -> Any:
        """Return the row with this key from the URL, or None."""
        raise NotImplementedError

    def page(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Return the context of the page."""
        raise NotImplementedError


class KeysetPageAdmin(ReadOnlyPage, KeysetAdmin):
    """A keyset-paginated list with a read-only page per row."""


def key_in(object_id: str, pattern: re.Pattern[str]) -> str:
    """Return the ID from a URL; the admin escapes each ``_`` in its own links."""
    return object_id if pattern.fullmatch(object_id) else unquote(object_id)


def between(begin: datetime | None, end: datetime | None) -> timedelta | None:
    """Return the time from begin to end, if both are known."""
    return end - begin if begin and end else None


def badge(kind: str, text: str) -> SafeString:
    """Render a badge in the color of its kind: a status, an outcome or a health."""
    return format_html('<span class="vg-badge vg-{}">{}</span>', kind, text)


def history(thing: Model, user: Any) -> list[Any]:
    """Return the audit log of the object, if the user may see it."""
    return audit.of(thing) if user.has_perm("admin.view_logentry") else []
