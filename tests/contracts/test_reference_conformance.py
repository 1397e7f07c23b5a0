"""Every adapter with images: each that is given is sent, in its order, or the call is refused before it is sent."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import pytest
from PIL import Image

from generation.states import ErrorCode, ImageRole
from tests.fakes.control import FakeProvider
from tests.support.adapters import ADAPTERS, Adapter
from tests.support.callers import Caller, calling
from workers.providers.base import ReferenceImage

KEY: Final = "sk-only-for-tests"
#: By adapter: the most images of the roles, and the model that takes them if it is another one.
TAKES: Final[dict[str, dict[str, int]]] = {
    "openai": {"character": 16, "style": 16, "composition": 16, "source": 1},
    "google": {"character": 14, "style": 14, "composition": 14, "source": 14},
    "google-vertex": {"character": 14, "style": 14, "composition": 14, "source": 14},
}
#: By model of Stability: the field of each role.
CONTROLS: Final = {
    "control-style": {"style": "image"},
    "control-structure": {"composition": "image"},
    "control-style-transfer": {"composition": "init_image", "style": "style_image"},
}


def image_of(
    shade: str, role: str = "character", *, kind: str = "PNG", size: tuple[int, int] = (96, 64)
) -> ReferenceImage:
    out = io.BytesIO()
    Image.new("RGB", size, shade).save(out, kind)
    data = out.getvalue()
    return ReferenceImage(
        data=data,
        content_type=f"image/{kind.lower()}",
        width=size[0],
        height=size[1],
        sha256=hashlib.sha256(data).hexdigest(),
        role=role,
    )


def mask_of(size: tuple[int, int] = (96, 64)) -> bytes:
    out = io.BytesIO()
    Image.new("RGBA", size, (0, 0, 0, 0)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def vendors() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        yield fake


@pytest.fixture
def fake(vendors: FakeProvider) -> FakeProvider:
    vendors.reset()
    return vendors


def _adapter(name: str) -> Adapter:
    return next(adapter for adapter in ADAPTERS if adapter.name == name)


@pytest.fixture(params=ADAPTERS, ids=lambda adapter: adapter.name)
def adapter(request: pytest.FixtureRequest) -> Adapter:
    assert isinstance(request.param, Adapter)
    if request.param.needs:
        pytest.importorskip(request.param.needs, reason="there is none for Python 3.13")
    return request.param


@pytest.fixture
def caller(adapter: Adapter, fake: FakeProvider) -> Iterator[Caller]:
    with calling(adapter.make(fake, KEY), model=adapter.model) as caller:
        yield caller


@pytest.fixture
def stability(fake: FakeProvider) -> Iterator[Caller]:
    with calling(_adapter("stability").make(fake, KEY)) as caller:
        yield caller


def sent(fake: FakeProvider) -> list[dict[str, Any]]:
    [call] = fake.journal()
    images: list[dict[str, Any]] = call.options["images"]
    return images


def test_all_images_arrive_unchanged_and_in_their_order(adapter: Adapter, caller: Caller, fake: FakeProvider) -> None:
    images = (image_of("red"), image_of("green", "style", kind="JPEG"), image_of("blue", "composition", kind="WEBP"))
    if adapter.name not in TAKES:
        error = caller.fail(references=images)
        assert (error.code, error.sent, fake.stats().count) == (ErrorCode.INVALID_REQUEST, False, 0)
        return
    answer = caller.generate(references=images)
    assert [one["sha256"] for one in sent(fake)] == [one.sha256 for one in images]
    assert answer.usage["input_image"] > 0
    assert answer.usage["input_text"] == adapter.usage["input_text"]


@pytest.mark.parametrize("role", list(ImageRole))
def test_more_images_than_a_vendor_takes_are_not_sent(
    adapter: Adapter, caller: Caller, fake: FakeProvider, role: str
) -> None:
    most = TAKES.get(adapter.name, {}).get(role, 0)
    if most:
        caller.generate(references=(image_of("red", role),) * most)
        assert len(sent(fake)) == most
    fake.reset()
    error = caller.fail(references=(image_of("red", role),) * (most + 1 if role != "mask" else 17))
    assert (error.code, error.sent, fake.stats().count) == (ErrorCode.INVALID_REQUEST, False, 0)


def test_one_image_is_sent_as_several_are(fake: FakeProvider) -> None:
    with calling(_adapter("openai").make(fake, KEY), model="gpt-image-2") as caller:
        caller.generate(references=(image_of("red"),), quality="low", output_format="webp", width=1024, height=1536)
    [call] = fake.journal()
    expected = {"quality": "low", "output_format": "webp", "size": "1024x1536", "model": "gpt-image-2"}
    assert {name: call.options[name] for name in expected} == expected
    assert call.request_id == "vga_1"


def test_images_and_previews_go_together(fake: FakeProvider) -> None:
    with calling(_adapter("openai").make(fake, KEY), model="gpt-image-2") as caller:
        answer = caller.generate(references=(image_of("red"),), previews=2)
    assert (len(sent(fake)), answer.usage["input_image"]) == (1, 1000)
    [call] = fake.journal()
    assert (call.options["stream"], call.options["partial_images"]) == (True, 2)


def test_a_mask_is_sent_as_one_where_the_vendor_takes_one(adapter: Adapter, caller: Caller, fake: FakeProvider) -> None:
    source, mask = image_of("red", "source"), mask_of()
    if adapter.name != "openai":
        assert caller.fail(references=(source,), mask=mask).code == ErrorCode.INVALID_REQUEST
        assert fake.stats().count == 0
        return
    caller.generate(references=(source,), mask=mask)
    assert [one["field"] for one in sent(fake)] == ["image", "mask"]
    assert caller.fail(mask=mask).sent is False


@pytest.mark.parametrize(("model", "fields"), CONTROLS.items())
def test_stability_has_a_field_for_each_image(
    stability: Caller, fake: FakeProvider, model: str, fields: dict[str, str]
) -> None:
    images = tuple(image_of("red", role, size=(640, 480)) for role in fields)
    stability.generate(model=model, references=images, aspect_ratio="3:2", seed=7, negative_prompt="no cats")
    assert [one["field"] for one in sent(fake)] == list(fields.values())
    [call] = fake.journal()
    assert call.options["seed"] == "7"
    assert ("aspect_ratio" in call.options) == (model == "control-style")
    fake.reset()
    for given in ((), images[:1] * 2, (replace(images[0], role="character"),)):
        error = stability.fail(model=model, references=given)
        assert (error.code, error.sent) == (ErrorCode.INVALID_REQUEST, False)
    assert fake.stats().count == 0


@pytest.mark.parametrize("name", TAKES)
def test_an_image_that_the_vendor_refuses_says_its_stage(fake: FakeProvider, name: str) -> None:
    with calling(_adapter(name).make(fake, KEY), model=_adapter(name).model) as caller:
        fake.script("moderation=input")
        error = caller.fail(references=(image_of("red"),))
    assert (error.code, error.detail["stage"]) == (ErrorCode.REFUSED_INPUT, "input")


@pytest.mark.parametrize("name", TAKES)
def test_an_image_that_the_vendor_cannot_read_is_final(fake: FakeProvider, name: str) -> None:
    broken = replace(image_of("red"), data=b"not an image")
    with calling(_adapter(name).make(fake, KEY), model=_adapter(name).model) as caller:
        error = caller.fail(references=(broken,))
    assert (error.code, error.retryable) == (ErrorCode.INVALID_REQUEST, False)


def test_an_image_that_is_too_wide_for_stability_is_final(stability: Caller) -> None:
    wide = image_of("red", "style", size=(1000, 100))
    error = stability.fail(model="control-style", references=(wide,))
    assert (error.code, error.retryable) == (ErrorCode.INVALID_REQUEST, False)
