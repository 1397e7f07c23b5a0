"""The program that decodes an uploaded image and encodes it again, in a process of its own.

Usage: ``python -m generation.storage.uploads_cleaner OUTPUT``, where OUTPUT is a file descriptor. It reads the image
from its standard input, and writes one JSON object to its standard output: what it has stored, or ``code`` and
``message`` of an error. It loads no settings and knows no secrets.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import resource
import sys
from typing import Any, Final

#: Bytes of address space and seconds of a processor: twice what the largest accepted images took.
_MEMORY: Final = 2 * 1024**3
_CPU_SECONDS: Final = 60
_MIN_SIDE: Final = 64
_MAX_PIXELS: Final = 25_000_000
_JPEG_QUALITY: Final = 95
_UNSUPPORTED: Final = "unsupported_media"
_INVALID: Final = "invalid_image"


class _RejectedError(Exception):
    """The upload is not accepted."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def main() -> None:
    """Run the program."""
    for limit, value in ((resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_CPU, _CPU_SECONDS), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(OSError, ValueError):  # not every system has each of them
            resource.setrlimit(limit, (value, value))
    os.nice(5)  # calls of the API come first
    with os.fdopen(int(sys.argv[1]), "w+b") as output:
        try:
            report = _clean(sys.stdin.buffer.read(), output)
        except _RejectedError as reason:
            report = {"code": reason.code, "message": str(reason)}
    json.dump(report, sys.stdout)


def _clean(data: bytes, output: io.BufferedRandom) -> dict[str, Any]:
    """Write the image upright, in sRGB and without metadata, and describe it. Raises :class:`_RejectedError`, and
    ``OSError`` if it cannot be written."""
    from PIL import Image

    from generation.storage import image_headers
    from generation.storage.image_pixels import decoded, in_8_bits, in_srgb, upright

    Image.MAX_IMAGE_PIXELS = None  # the bounds below are ours
    try:
        file = image_headers.read(data)
    except image_headers.UnknownFormatError:
        raise _RejectedError(_UNSUPPORTED, "The file is neither PNG, JPEG nor WebP") from None
    except image_headers.BrokenFileError as reason:
        raise _RejectedError(_INVALID, f"The image is not valid: {reason}") from None
    del data
    if file.animated:
        raise _RejectedError(_UNSUPPORTED, "Animations are not supported")
    if min(file.width, file.height) < _MIN_SIDE:
        raise _RejectedError(_INVALID, f"Each side must have at least {_MIN_SIDE} pixels")
    if file.width * file.height > _MAX_PIXELS:
        raise _RejectedError(_INVALID, f"The image has more than {_MAX_PIXELS // 1_000_000} megapixels")
    try:
        image = in_8_bits(decoded(file))
        if image.mode in {"RGBA", "LA"}:
            alpha = image.getchannel("A")
            image = in_srgb(image.convert(image.mode.removesuffix("A")), file)
            image.putalpha(alpha)
        else:
            image = in_srgb(image, file)
        image = upright(image, file)
    except Exception:  # decoders raise errors of many kinds on invalid data
        raise _RejectedError(_INVALID, "The image does not decode") from None
    # Pillow writes some metadata that the image still carries, such as comments and profiles.
    image.info = {}
    if file.format == "JPEG":
        image.save(output, "JPEG", quality=_JPEG_QUALITY)
    else:
        image.save(output, "PNG")
    output.flush()
    size = output.tell()
    output.seek(0)
    return {
        "content_type": "image/jpeg" if file.format == "JPEG" else "image/png",
        "width": image.width,
        "height": image.height,
        "bytes": size,
        "sha256": hashlib.file_digest(output, "sha256").hexdigest(),
    }


if __name__ == "__main__":
    main()
