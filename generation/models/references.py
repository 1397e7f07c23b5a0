"""The images that are sent with the prompt of a request."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from generation.models.requests import GenerationRequest
from generation.models.uploads import Upload


class GenerationReference(models.Model):
    """An image that is sent with a request: the result of another request, the ``source``, or an ``upload``. Without
    either, it was deleted. Its role and name are in the request's ``inputs``, by its ``position``.

    ``sha256`` is that of the stored image, from the first call on that it is sent with.
    """

    request = models.ForeignKey(GenerationRequest, on_delete=models.CASCADE, related_name="references", db_index=False)
    position = models.PositiveSmallIntegerField()
    source = models.ForeignKey(
        GenerationRequest, on_delete=models.SET_NULL, null=True, related_name="referring", db_index=False
    )
    upload = models.ForeignKey(Upload, on_delete=models.SET_NULL, null=True, related_name="referring", db_index=False)
    sha256 = models.CharField(max_length=64, blank=True, default="", db_default="")

    class Meta:
        db_table = "generation_references"
        ordering: ClassVar = ["request", "position"]
        indexes: ClassVar = [
            # For the end of a request: what waits for it. And for the deletion of what is referred to.
            models.Index(fields=["source"], name="reference_source", condition=Q(source__isnull=False)),
            models.Index(fields=["upload"], name="reference_upload", condition=Q(upload__isnull=False)),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["request", "position"], name="reference_position_unique"),
            models.CheckConstraint(
                condition=Q(source__isnull=True) | Q(upload__isnull=True), name="reference_to_one_image"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.request_id} image {self.position + 1}"
