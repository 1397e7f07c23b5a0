"""Uploaded images."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q

from generation.db.functions import Now


class Upload(models.Model):
    """An image that an owner has uploaded. Size, sides and ``sha256`` are those of the stored file, which is the image
    encoded again without metadata; ``key`` is its name in the storage."""

    id = models.CharField(primary_key=True, max_length=64, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="generation_uploads", db_index=False
    )
    name = models.CharField(max_length=255, blank=True)
    content_type = models.CharField(max_length=32)
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    bytes = models.PositiveIntegerField()
    sha256 = models.CharField(max_length=64)
    key = models.CharField(max_length=255)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    #: Whether it came with a call and is kept for a day only.
    is_temporary = models.BooleanField(default=False, db_default=False)
    last_used_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "generation_uploads"
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [
            models.Index(fields=["owner", "id"], name="upload_owner"),
            # Used when pruning looks for old ones.
            models.Index(fields=["last_used_at"], name="upload_last_used"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["owner", "sha256"], name="upload_once_for_an_owner"),
            models.CheckConstraint(condition=Q(bytes__gt=0, width__gt=0, height__gt=0), name="upload_is_not_empty"),
        ]

    def __str__(self) -> str:
        return f"{self.name or self.pk} ({self.width} x {self.height})"
