"""Uploaded images of the tests."""

from __future__ import annotations

import io
import tempfile
from typing import Any

from django.contrib.auth.models import User
from PIL import Image

from generation.models import Upload
from generation.requests import uploads
from generation.storage.uploads_image import cleaned


def drawing(size: tuple[int, int] = (80, 64), color: str = "red") -> Image.Image:
    """An image whose left upper quarter has the color."""
    image = Image.new("RGB", size, "white")
    image.paste(color, (0, 0, size[0] // 2, size[1] // 2))
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The image as the bytes of a file."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def upload_of(owner: User, *, name: str = "pip.png", color: str = "red") -> Upload:
    """Upload a drawing for this owner."""
    return upload_image(owner, drawing(color=color), name=name)


def upload_image(owner: User, image: Image.Image, *, name: str) -> Upload:
    """Upload this image."""
    with tempfile.TemporaryFile() as file:
        file.write(encoded(image))
        file.flush()
        with cleaned(file) as clean:
            return uploads.store(owner=owner, name=name, image=clean)[0]
