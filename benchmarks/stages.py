"""What the parts of an image's way cost at least, each on its own: parse, decode base64, decode and scale, hash, write.
Only the standard library and Pillow are used, so the figures do not depend on how the product does it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from PIL import Image

from benchmarks.report import Figure
from benchmarks.samples import Sample
from benchmarks.vendor import PreparedAnswer

_TIMES: Final = 15
_THUMBNAIL: Final = (320, 320)


def measure(sample: Sample, folder: Path) -> Iterator[Figure]:
    """Yield the processor time of each stage, and last that of all."""
    body = b"".join(PreparedAnswer(sample).pieces(1)[1:])
    text = json.loads(body)["data"][0]["b64_json"]
    data = base64.b64decode(text)

    def write() -> None:
        with (folder / "image").open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    stages: dict[str, Callable[[], object]] = {
        "parse the body as JSON": lambda: json.loads(body),
        "decode base64": lambda: base64.b64decode(text),
        "decode the image, make a thumbnail": lambda: _thumbnail(data),
        "compute SHA-256": lambda: hashlib.sha256(data).hexdigest(),
        "write the file": write,
    }
    medians = {name: statistics.median(_taken(stage)) for name, stage in stages.items()}
    for name, milliseconds in medians.items():
        yield Figure(f"floor: processor time to {name}", p50=milliseconds)
    yield Figure(f"floor: processor time of all stages, {sample.title}", p50=sum(medians.values()))


def _taken(stage: Callable[[], object]) -> list[float]:
    """Processor time of this process in ms, the first time left out."""
    taken = []
    for _ in range(_TIMES + 1):
        began = time.process_time()
        stage()
        taken.append((time.process_time() - began) * 1000)
    return taken[1:]


def _thumbnail(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        image.thumbnail(_THUMBNAIL)
        out = io.BytesIO()
        image.save(out, "WEBP", quality=82, method=2)
    return out.getvalue()
