"""Forms with files, as vendors read them, and what they say of an image."""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from tests.fakes.wire import Request


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """One file of a form."""

    name: str
    file_name: str
    content_type: str
    data: bytes = field(repr=False)


def read_form(request: Request) -> tuple[dict[str, str], list[File]]:
    """The fields and the files in their order. Raises ``ValueError``."""
    boundary = re.fullmatch(r'multipart/form-data; boundary="?([^";]+)"?', request.headers.get("content-type", ""))
    if boundary is None:
        raise ValueError("content-type: must be multipart/form-data")
    fields: dict[str, str] = {}
    files: list[File] = []
    for part in request.body.split(b"--" + boundary[1].encode())[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        content = content.removesuffix(b"\r\n")
        name = re.search(rb'[ ;]name="([^"]+)"', head)
        file_name = re.search(rb'filename="([^"]+)"', head)
        kind = re.search(rb"(?i)content-type: ([^\r]+)", head)
        if name and file_name:
            declared = kind[1].decode() if kind else ""
            files.append(
                File(name=name[1].decode(), file_name=file_name[1].decode(), content_type=declared, data=content)
            )
        elif name:
            fields[name[1].decode()] = content.decode()
    return fields, files


def described(role: str, data: bytes) -> dict[str, Any]:
    """An image as the journal keeps it, in the order of arrival. Raises ``ValueError`` for other bytes."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            width, height, kind, mode = *image.size, image.format, image.mode
    except Exception:
        raise ValueError(f"{role}: is not a valid image") from None
    return {
        "field": role,
        "sha256": hashlib.sha256(data).hexdigest(),
        "width": width,
        "height": height,
        "content_type": f"image/{str(kind).lower()}",
        "alpha": "A" in mode,
        "bytes": len(data),
    }
