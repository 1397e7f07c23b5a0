"""A provider that costs our side as little as possible, so that what is left is the engine.

A worker is started with ``celery --app benchmarks.instant`` instead of ``--app config``, and with
``PROVIDERS=instant``. ``INSTANT_SECONDS`` is how long a call takes.
"""

from __future__ import annotations

import asyncio
import io
import os
import struct
import zlib
from typing import ClassVar, Final

from django.conf import settings
from PIL import Image

from config.celery import app
from workers.providers.base import ImageAnswer, ImageRequest
from workers.providers.registry import PROVIDER_CLASSES

_SECONDS: Final = float(os.environ.get("INSTANT_SECONDS", "0"))
_END: Final = b"\0\0\0\0IEND\xaeB`\x82"


class InstantProvider:
    """Sends a small image of its own for each request."""

    name: ClassVar[str] = "instant"
    billable: ClassVar[bool] = True

    def __init__(self) -> None:
        file = io.BytesIO()
        Image.new("RGB", (64, 64), "teal").save(file, "PNG")
        self._image = file.getvalue().removesuffix(_END)

    async def generate(self, request: ImageRequest) -> ImageAnswer:
        """Wait as long as it is to take."""
        if _SECONDS:
            await asyncio.sleep(_SECONDS)
        # A note inside makes each one's bytes, and so its file, its own.
        note = b"tEXtid\0" + request.request_id.encode()
        chunk = struct.pack(">I", len(note) - 4) + note + struct.pack(">I", zlib.crc32(note))
        return ImageAnswer(data=self._image + chunk + _END, content_type="image/png", model="instant")


PROVIDER_CLASSES["instant"] = f"{__name__}:{InstantProvider.__name__}"
settings.PROVIDER_OPTIONS["instant"] = {}
settings.PROVIDER_MODELS["instant"] = "instant"

__all__ = ["InstantProvider", "app"]
