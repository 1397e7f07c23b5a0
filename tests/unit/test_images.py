import io
import struct
import zlib
from typing import Any

import pytest
from PIL import Image

from workers import images
from workers.providers.base import ProviderError


def picture(kind: str = "PNG", size: tuple[int, int] = (640, 480), mode: str = "RGB", **more: Any) -> bytes:
    image = Image.effect_noise(size, 60).convert(mode)
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()


def bomb(side: int) -> bytes:
    """A small PNG that says it is huge."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * ((side + 7) // 8 + 1) * 64, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("kind", "content_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")]
)
def test_the_type_is_told_from_the_content(kind: str, content_type: str) -> None:
    checked = images.check(picture(kind))
    assert (checked.content_type, checked.width, checked.height) == (content_type, 640, 480)


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (2000, 100), (10, 10)])
def test_the_thumbnail_is_a_webp_that_fits_320_pixels(size: tuple[int, int]) -> None:
    with Image.open(io.BytesIO(images.check(picture(size=size)).thumbnail)) as small:
        assert small.format == "WEBP"
        assert max(small.size) == min(320, max(size))


def test_what_shines_through_becomes_white_in_the_thumbnail() -> None:
    out = io.BytesIO()
    Image.new("RGBA", (64, 64), (0, 0, 0, 0)).save(out, "PNG")
    with Image.open(io.BytesIO(images.check(out.getvalue()).thumbnail)) as small:
        assert small.convert("RGB").getpixel((32, 32)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("missing", ["half", "tail", "all but the head"])
def test_a_picture_that_was_cut_off_is_refused(kind: str, missing: str) -> None:
    whole = picture(kind)
    cut = {"half": whole[: len(whole) // 2], "tail": whole[:-2], "all but the head": whole[:40]}[missing]
    with pytest.raises(ProviderError) as caught:
        images.check(cut)
    assert caught.value.code == "invalid_image"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"<html><body>Service unavailable</body></html>", id="a page"),
        pytest.param(b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', id="a drawing"),
        pytest.param(picture("GIF", mode="P"), id="a GIF"),
        pytest.param(picture("BMP"), id="a BMP"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + b"\0" * 100, id="a head without a body"),
        pytest.param(bomb(20_000), id="a bomb"),
        pytest.param(bomb(6_000), id="more pixels than we take"),
    ],
)
def test_what_is_no_picture_of_ours_is_refused(data: bytes) -> None:
    with pytest.raises(ProviderError) as caught:
        images.check(data)
    assert caught.value.code == "invalid_image"


def test_a_moving_picture_is_refused() -> None:
    frames = [Image.new("RGB", (32, 32), shade) for shade in ("red", "blue")]
    out = io.BytesIO()
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:])
    with pytest.raises(ProviderError, match="animated"):
        images.check(out.getvalue())


def test_no_bytes_are_an_empty_result() -> None:
    with pytest.raises(ProviderError) as caught:
        images.check(b"")
    assert caught.value.code == "empty_result"


def test_more_bytes_than_we_take_are_refused_before_decoding() -> None:
    with pytest.raises(ProviderError, match="MB"):
        images.check(picture() + b"\0" * images.MAX_BYTES)
