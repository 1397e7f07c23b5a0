import io
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import pytest
from PIL import Image

from generation.storage import image_headers, image_pixels
from tests.corpus import profiles
from tests.corpus.broken import BROKEN, SCRIPT, TO_CUT, bomb, other
from tests.corpus.jpeg import exif_segment, with_segments
from tests.corpus.shapes import SIZE, Colors, encoded, quadrants
from tests.corpus.sound import SOUND
from workers import image_check
from workers.providers.base import ProviderError

#: As exiftool reads it.
MARK = b'DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"'


def image(kind: str = "PNG", size: tuple[int, int] = (640, 480), mode: str = "RGB", **more: Any) -> bytes:
    image = Image.effect_noise(size, 60).convert(mode)
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()


@pytest.mark.parametrize(
    ("kind", "content_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")]
)
def test_the_type_is_told_from_the_content(kind: str, content_type: str) -> None:
    checked = image_check.check(image(kind))
    assert (checked.content_type, checked.width, checked.height) == (content_type, 640, 480)


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (2000, 100), (10, 10)])
def test_the_thumbnail_is_a_webp_that_fits_320_pixels(size: tuple[int, int]) -> None:
    with Image.open(io.BytesIO(image_check.check(image(size=size)).thumbnail)) as small:
        assert small.format == "WEBP"
        assert max(small.size) == min(320, max(size))


def test_transparent_pixels_become_white_in_the_thumbnail() -> None:
    out = io.BytesIO()
    Image.new("RGBA", (64, 64), (0, 0, 0, 0)).save(out, "PNG")
    with Image.open(io.BytesIO(image_check.check(out.getvalue()).thumbnail)) as small:
        assert small.convert("RGB").getpixel((32, 32)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("missing", ["half", "tail", "all but the head"])
def test_a_truncated_image_is_refused(kind: str, missing: str) -> None:
    whole = image(kind)
    cut = {"half": whole[: len(whole) // 2], "tail": whole[:-2], "all but the head": whole[:40]}[missing]
    with pytest.raises(ProviderError) as caught:
        image_check.check(cut)
    assert caught.value.code == "invalid_image"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"<html><body>Service unavailable</body></html>", id="a page"),
        pytest.param(SCRIPT, id="a drawing"),
        pytest.param(other("GIF"), id="a GIF"),
        pytest.param(other("BMP"), id="a BMP"),
        pytest.param(bomb(20_000, 20_000), id="a bomb"),
        pytest.param(bomb(6_000, 6_000), id="more pixels than we take"),
    ],
)
def test_a_file_that_is_no_image_of_ours_is_refused(data: bytes) -> None:
    with pytest.raises(ProviderError) as caught:
        image_check.check(data)
    assert caught.value.code == "invalid_image"


def test_no_bytes_are_an_empty_result() -> None:
    with pytest.raises(ProviderError) as caught:
        image_check.check(b"")
    assert caught.value.code == "empty_result"


def test_more_bytes_than_we_take_are_refused_before_decoding() -> None:
    with pytest.raises(ProviderError, match="MB"):
        image_check.check(image() + b"\0" * image_check.MAX_BYTES)


# --- The corpus -------------------------------------------------------------------------------------------------------

#: Tolerance for a lossy thumbnail, of 255.
TOLERANCE = 12


def shown(data: bytes) -> Colors:
    """The colors in the middle of each quadrant."""
    with Image.open(io.BytesIO(data)) as image:
        rgb = image.convert("RGB")
    middles = ((rgb.width * x // 4, rgb.height * y // 4) for y in (1, 3) for x in (1, 3))
    first, second, third, fourth = (rgb.getpixel(middle) for middle in middles)
    return first, second, third, fourth  # type: ignore[return-value]


def distance(colors: Colors, others: Colors) -> int:
    """How far the two farthest values are apart."""
    pairs = (zip(color, other, strict=True) for color, other in zip(colors, others, strict=True))
    return max(abs(value - other) for pair in pairs for value, other in pair)


@pytest.mark.parametrize("name", SOUND)
def test_an_odd_image_is_kept_as_it_looks(name: str) -> None:
    odd = SOUND[name]()
    checked = image_check.check(odd.data)
    assert checked.data == odd.data
    assert checked.content_type == f"image/{name.partition(':')[0].lower()}"
    assert (checked.width, checked.height) == SIZE
    assert distance(shown(checked.thumbnail), odd.colors) <= TOLERANCE, shown(checked.thumbnail)
    assert ("animation" in checked.notice) == odd.animated


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_image_is_refused(name: str) -> None:
    with pytest.raises(ProviderError) as caught:
        image_check.check(BROKEN[name]())
    assert caught.value.code == "invalid_image"


@pytest.mark.parametrize("name", TO_CUT)
def test_no_part_of_an_image_passes_for_the_whole(name: str) -> None:
    whole = TO_CUT[name]()
    assert image_check.check(whole).data == whole
    for length in range(1, len(whole)):
        with pytest.raises(ProviderError, match="no valid image"):
            image_check.check(whole[:length])


def test_every_flipped_bit_of_a_png_is_noticed() -> None:
    whole = TO_CUT["PNG"]()
    for bit in range(8 * len(whole)):
        with pytest.raises(ProviderError, match="no valid image"):
            image_check.check(flipped(whole, bit))


@pytest.mark.parametrize("name", ["JPEG", "JPEG with a thumbnail", "WebP", "WebP without loss"])
def test_a_flipped_bit_ends_as_an_image_or_a_refusal(name: str) -> None:
    whole = TO_CUT[name]()
    for bit in range(0, 8 * len(whole), 23):
        with suppress(ProviderError):
            image_check.check(flipped(whole, bit))


def flipped(data: bytes, bit: int) -> bytes:
    return data[: bit // 8] + bytes((data[bit // 8] ^ 1 << bit % 8,)) + data[bit // 8 + 1 :]


def test_the_thumbnail_of_a_large_image_looks_like_it() -> None:
    """Above 320 pixels it is scaled, which must neither turn nor recolor it."""
    large = quadrants(orientation=6).resize((1024, 1536))
    data = with_segments(exif_segment(6), image=encoded("JPEG", large, icc_profile=profiles.swapped()))
    checked = image_check.check(data)
    assert (checked.width, checked.height) == (1536, 1024)
    with Image.open(io.BytesIO(checked.thumbnail)) as small:
        assert small.size == (320, 213)
    assert distance(shown(checked.thumbnail), profiles.SWAPPED) <= TOLERANCE


@pytest.mark.parametrize(
    ("kind", "requested", "notice"),
    [
        ("PNG", "png", ""),
        ("JPEG", "jpeg", ""),
        ("WEBP", "", ""),
        ("JPEG", "png", "The provider sent JPEG instead of PNG; the image is stored as it was sent."),
        ("PNG", "webp", "The provider sent PNG instead of WebP; the image is stored as it was sent."),
        ("WEBP", "jpeg", "The provider sent WebP instead of JPEG; the image is stored as it was sent."),
    ],
)
def test_another_format_than_requested_is_kept_with_a_notice(kind: str, requested: str, notice: str) -> None:
    checked = image_check.check(image(kind), requested=requested)
    assert (checked.notice, checked.content_type) == (notice, f"image/{kind.lower()}")
    assert checked.requested_type == f"image/{requested or kind.lower()}"


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_fast_decoder_and_pillow_see_the_same_image(mode: str) -> None:
    gradient = Image.linear_gradient("L").resize((61, 47))
    drawn = Image.merge(mode, [gradient.rotate(90 * turn).resize((61, 47)) for turn in range(len(mode))])
    out = io.BytesIO()
    drawn.save(out, "PNG")
    file = image_headers.read(out.getvalue())
    fast, slow = image_check._decoded_fast(file), image_pixels.decoded(file)
    assert fast is not None
    assert (fast.mode, fast.size, fast.tobytes()) == (slow.mode, slow.size, slow.tobytes())
    assert slow.tobytes() == drawn.tobytes()


def test_only_an_image_that_has_decoded_is_passed_on() -> None:
    passed: list[tuple[str, str]] = []

    def keep(sha256: str, content_type: str, data: bytes) -> Future[str]:
        passed.append((sha256, content_type))
        return Future()

    checked = image_check.check(image(), when_decoded=keep)
    assert passed == [(checked.sha256, "image/png")]
    with pytest.raises(ProviderError):
        image_check.check(image()[:-30], when_decoded=keep)
    assert len(passed) == 1


def test_the_thumbnail_of_a_models_image_says_so() -> None:
    data = image()
    plain, marked = image_check.check(data), image_check.check(data, source="trainedAlgorithmicMedia")
    assert marked.data == plain.data == data
    with Image.open(io.BytesIO(plain.thumbnail)) as small:
        assert "xmp" not in small.info
    with Image.open(io.BytesIO(marked.thumbnail)) as small:
        assert MARK in small.info["xmp"]
    assert 300 < len(marked.thumbnail) - len(plain.thumbnail) < 500
