"""What the demo refuses to call a success."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from config.local import demo
from tests.support.stack import closed_port


def png(width: int = 8, height: int = 4) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def described(data: bytes) -> dict[str, Any]:
    return {"width": 8, "height": 4, "sha256": hashlib.sha256(data).hexdigest()}


def test_the_image_that_was_described_is_accepted() -> None:
    demo.check_png(png(), described(png()))


@pytest.mark.parametrize(
    ("data", "result", "fault"),
    [
        (b"<html>", described(b"<html>"), "not a PNG"),
        (png(4, 8), described(png(4, 8)), "not 8 x 4"),
        (png() + b"more", described(png()), "SHA-256"),
    ],
)
def test_another_image_is_refused(data: bytes, result: dict[str, Any], fault: str) -> None:
    with pytest.raises(demo.DemoError, match=fault):
        demo.check_png(data, result)


def test_a_server_that_is_gone_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(demo.DemoError, match=r"^POST /api/token: .*Connection refused$"):
        demo.draw(f"http://127.0.0.1:{closed_port()}", "demo", "demo", tmp_path)
    assert not list(tmp_path.iterdir())
