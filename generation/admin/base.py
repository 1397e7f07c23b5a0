"""What several of the pages share: rows that nobody edits, and lists of any length."""

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

#: Of a page's address: where it begins, by the key of the row before it (``older.KEY``) or after it (``newer.KEY``).
_PAGE: Final = "p"
#: The column that Django puts before the others where there are actions.
_CHECKBOXES: Final = "action_checkbox"
_CHECKBOX_CELL: Final = (
    '<td class="vg-check" data-label="Select record"><input type="checkbox" name="{}" value="{}" '
    f'class="{" ".join(CHECKBOX_CLASSES)} action-select" aria-label="Select record"></td>'
)


class ReadOnly:
    """Rows that the system writes."""

    is_read_only: Final = True

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class _OnePage(Paginator):
    """Django's list asks a paginator for the number of rows, which nobody counts here."""

    @cached_property
    def count(self) -> int:
        return 0


class KeysetChangeList(StrictChangeList):
    """A list by key, the newest first. A page costs the same wherever it is, and nothing is counted."""

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
        # Whether there is more than what is shown is all that the page wants to know.
        self.result_count = len(found) + self.goes_on
        self.full_result_count = self.result_count
        self.show_full_result_count = False
        self.show_admin_actions = True
        self.can_show_all = self.multi_page = False
        self.paginator = _OnePage(found, max(size, 1))
        self.result_list = found
        self.model_admin.complete(found)

    def _first(self, count: int, rows: QuerySet[Any], order: str) -> list[Any]:
        """So many of the rows, in this order. Which ones is asked first, since an index alone tells that: for whole
        rows PostgreSQL takes walking the primary key for cheaper than the index of a filter, and where the newest tenth
        is queued it reads all that to reach what is completed."""
        keys = rows.order_by(order).values("pk")[:count]
        return list(self.root_queryset.filter(pk__in=keys).order_by(order))

    @cached_property
    def headers(self) -> list[dict[str, Any]]:
        """What stands above the columns, as unfold's template wants it."""
        return list(result_headers(self))

    def lines(self) -> Iterator[SafeString]:
        """The cells of each row. unfold asks for the headers again for each row and renders a template for each badge
        and check box, which takes longer than all the rest of a page."""
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
        """The address of a page."""
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
        """The list from its beginning."""
        return str(self.get_query_string(remove=[_PAGE]))

    def _checked(self, key: str) -> str:
        try:
            self.model._meta.pk.get_prep_value(key)
        except (ValueError, TypeError, ValidationError):
            return ""
        return "" if "\0" in key else key


class KeysetAdmin(ReadOnly, StrictAdmin):
    """A long list of rows that the system writes."""

    show_full_result_count = False
    list_per_page = 50
    list_fullwidth = True
    ordering = ("-pk",)
    sortable_by = ()
    list_filter_submit = True
    show_facets = ShowFacets.NEVER  # they count
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
        """Those of the rows that the search for this text finds."""
        return rows.none()

    def complete(self, rows: list[Any]) -> None:
        """Look up what the rows of a page need besides, for all of them at once."""


class KeysetPageAdmin(KeysetAdmin):
    """Such a list whose rows have a page each, which shows one and changes nothing."""

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
        """The address of the list, with the filters that it had when the page was opened from it."""
        address = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
        filters = QueryDict(request.GET.get("_changelist_filters", ""))
        return f"{address}?{filters.urlencode()}" if filters else address

    def row_of(self, object_id: str) -> Any:
        """The row with this key as it stands in an address, if there is one."""
        raise NotImplementedError

    def page(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """What the page shows."""
        raise NotImplementedError


def key_in(object_id: str, pattern: re.Pattern[str]) -> str:
    """The id that an address has; the admin writes them in its own with an escape for each ``_``."""
    return object_id if pattern.fullmatch(object_id) else unquote(object_id)


def between(begin: datetime | None, end: datetime | None) -> timedelta | None:
    """From one to the other, if both are known."""
    return end - begin if begin and end else None


def badge(kind: str, text: str) -> SafeString:
    """A word in the colour of its kind: of a status, an outcome, or how well something is."""
    return format_html('<span class="vg-badge vg-{}">{}</span>', kind, text)


def history(thing: Model, user: Any) -> list[Any]:
    """What staff did to the object, for those who may see that."""
    return audit.of(thing) if user.has_perm("admin.view_logentry") else []
