"""The list of uploads, without their images: those are seen by their owners only."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Exists, Model, OuterRef, QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from unfold.decorators import display

from generation import identifiers
from generation.access import roles
from generation.admin.base import KeysetAdmin
from generation.admin.deletion import Found
from generation.identifiers import UPLOAD_ID
from generation.models import Upload
from generation.requests import uploads


@admin.register(Upload)
class UploadAdmin(KeysetAdmin):
    list_display = ("id", "name", "owner_name", "content_type", "sides", "size", "created_at", "last_used_at", "in_use")
    list_display_links = None
    search_fields = ("id",)
    search_help_text = "ID, or owner"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Upload]:
        free = Exists(uploads.unused().filter(pk=OuterRef("pk")))
        return Upload.objects.select_related("owner").annotate(is_free=free)

    def found(self, rows: QuerySet[Any], text: str) -> QuerySet[Any]:
        if UPLOAD_ID.fullmatch(text):
            return rows.filter(pk=text)
        return rows.filter(owner__username=identifiers.user_name(text))

    @display(description="owner")
    def owner_name(self, row: Upload) -> str:
        return str(row.owner.get_username())

    @display(description="pixels")
    def sides(self, row: Upload) -> str:
        return f"{row.width} × {row.height}"

    @display(description="size")
    def size(self, row: Upload) -> str:
        return str(filesizeformat(row.bytes))

    @display(description="in use")
    def in_use(self, row: Any) -> str:
        return "no" if row.is_free else "yes"

    # --- Deleting ---

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(request.user.has_perm(roles.DELETE_UPLOAD))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Found:
        shown, counts, lacking, protected = super().get_deleted_objects(objs, request)
        used = [str(one) for one in objs if not uploads.unused().filter(pk=one.pk).exists()]
        return shown, counts, lacking, protected + [f"a request that has not ended, of {name}" for name in used]

    def delete_model(self, request: HttpRequest, obj: Upload) -> None:
        self.delete_queryset(request, Upload.objects.filter(pk=obj.pk))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Upload]) -> None:
        for upload in queryset:
            try:
                uploads.delete(upload)
            except uploads.InUseError:  # since the page asked
                messages.warning(request, f"{upload} stays, since a request that has not ended refers to it.")
