"""The audit log: user, action, object, time and address."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from generation.admin.base import KeysetAdmin


@admin.register(LogEntry)
class LogEntryAdmin(KeysetAdmin):
    list_display = ("action_time", "user", "what", "object_link")
    list_display_links = None
    list_per_page = 100

    def get_queryset(self, request: HttpRequest) -> QuerySet[LogEntry]:
        return LogEntry.objects.select_related("user", "content_type")

    @display(description="action")
    def what(self, row: LogEntry) -> str:
        return row.get_change_message() or row.get_action_flag_display()

    @display(description="object")
    def object_link(self, row: LogEntry) -> SafeString | str:
        kind = row.content_type.name if row.content_type else ""
        address = row.get_admin_url()
        if address is None:
            return f"{kind} {row.object_repr}"
        return format_html('<a class="vg-link" href="{}">{} {}</a>', address, kind, row.object_repr)
