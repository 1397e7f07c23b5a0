"""The images of a request on their way to a vendor: read, scaled, sent, remembered."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import default_storage
from PIL import Image

from generation import caching, event_loop
from generation.models import (
    GenerationAttempt,
    GenerationReference,
    GenerationRequest,
    PromptStyle,
    ProviderModel,
    ProviderState,
    Upload,
)
from generation.models.options import InputImage, Inputs
from generation.requests import input_images, provenance, services
from generation.requests.input_images import StoredImage
from generation.requests.new_request import NewImage, NewRequest
from generation.storage import images
from tests.support.requests import PROMPT
from tests.support.uploads import upload_image, upload_of
from tests.support.vendors import Vendors, attempts
from workers import call_images, reference_images, strict_masks
from workers.call_images import CallImages
from workers.providers.base import ImageAnswer, ProviderError

pytestmark = pytest.mark.django_db(transaction=True)


def page(owner: User, *given: tuple[str, str, str], **more: Any) -> GenerationRequest:
    """Submit a request with images, each as its role, its name and the id of a request or an upload."""
    found = [
        NewImage(
            role=role,
            name=name,
            path="",
            upload_id=key if key.startswith("vgu_") else "",
            request_id="" if key.startswith("vgu_") else key,
        )
        for role, name, key in given
    ]
    inputs = Inputs(
        images=tuple(InputImage(role=one.role, name=one.name, is_upload=bool(one.upload_id)) for one in found),
        mask_mode=more.pop("mask_mode", ""),
    )
    values = {"type": "illustration", "prompt": PROMPT, "priority": "normal"} | more
    return services.submit(owner=owner, draft=NewRequest(**values, images=tuple(found), inputs=inputs))


def refreshed(request: GenerationRequest) -> GenerationRequest:
    return GenerationRequest.objects.get(pk=request.pk)


def test_a_page_is_called_with_the_image_of_its_sheet(vendors: Vendors, alice: User) -> None:
    vendors.use("openai")
    sheet = refreshed(vendors.ask(alice, type="character-reference"))
    done = refreshed(vendors.run(page(alice, ("character", "Pip", sheet.pk))))
    assert done.status == "completed", done.error
    first, second = vendors.fake.journal()
    assert [one["sha256"] for one in second.options["images"]] == [sheet.result["sha256"]]
    assert second.prompt.startswith("Image 1 shows Pip: keep face, proportions, clothes and colors. Draw: " + PROMPT)
    assert "Image 1" not in first.prompt
    attempt = GenerationAttempt.objects.get(request=done)
    assert attempt.sent_images == [sheet.result["sha256"]]
    assert GenerationReference.objects.get().sha256 == sheet.result["sha256"]
    assert attempt.usage["input_image"] == 1000


def test_images_are_numbered_and_sent_in_their_order(vendors: Vendors, alice: User) -> None:
    vendors.use("google")
    sheet, style = refreshed(vendors.ask(alice)), upload_of(alice, color="blue")
    done = refreshed(vendors.run(page(alice, ("style", "", style.pk), ("character", "", sheet.pk))))
    assert done.status == "completed", done.error
    *_, call = vendors.fake.journal()
    assert [one["sha256"] for one in call.options["images"]] == [style.sha256, sheet.result["sha256"]]
    assert call.prompt.startswith("Image 1 is the style: draw in the same way. Image 2 shows the character: ")


def test_a_phrase_of_staff_cannot_break_a_call(vendors: Vendors, alice: User) -> None:
    PromptStyle.objects.filter(scope="reference", name="character").update(phrase="{} {0} {n.x} No. {n}: {name}!")
    vendors.use("openai")
    sheet = refreshed(vendors.ask(alice))
    assert refreshed(vendors.run(page(alice, ("character", "{n}", sheet.pk)))).status == "completed"
    assert vendors.fake.journal()[1].prompt.startswith("{} {0} {n.x} No. 1: {n}! Draw: ")


def test_a_raw_prompt_stays_as_it_is(vendors: Vendors, alice: User) -> None:
    vendors.use("openai")
    sheet = refreshed(vendors.ask(alice))
    vendors.run(page(alice, ("character", "Pip", sheet.pk), metadata={"rawPrompt": True}))
    assert vendors.fake.journal()[1].prompt == PROMPT


def test_a_fallback_goes_only_to_vendors_that_take_the_images(vendors: Vendors, alice: User) -> None:
    vendors.use("openai", "stability", "google")
    sheet = refreshed(vendors.ask(alice))
    vendors.fake.script("status=503")
    done = refreshed(vendors.run(page(alice, ("character", "Pip", sheet.pk))))
    assert (done.status, vendors.called) == ("completed", ["openai", "openai", "google"])


def test_stability_follows_an_image_with_a_model_of_its_own(vendors: Vendors, alice: User) -> None:
    vendors.use("stability")
    large = io.BytesIO()
    Image.new("RGB", (640, 480), "red").save(large, "PNG")
    sheet = refreshed(vendors.ask(alice))
    done = refreshed(vendors.run(page(alice, ("style", "", sheet.pk))))
    # The fake's images are too small for no vendor: 64 x 64 is the least.
    assert (done.status, done.result["model"]) == ("completed", "control-style")
    assert vendors.fake.journal()[1].prompt.startswith(PROMPT)


def mask_of(owner: User, *, hole: tuple[int, int, int, int] | None = (0, 0, 40, 64)) -> Upload:
    """A mask of the size of the test's uploads, with a transparent part."""
    image = Image.new("RGBA", (80, 64), (0, 0, 0, 255))
    if hole:
        image.paste((0, 0, 0, 0), hole)
    return upload_image(owner, image, name="mask.png")


def test_a_mask_goes_to_each_vendor_as_it_takes_one(vendors: Vendors, alice: User) -> None:
    source, mask = upload_of(alice, color="blue"), mask_of(alice)
    fields = {"openai": ["image", "mask"], "google": ["inlineData", "inlineData"]}
    for name in fields:
        vendors.use(name)
        request = page(alice, ("source", "", source.pk), ("mask", "", mask.pk), mask_mode="hint")
        assert refreshed(vendors.run(request)).status == "completed"
        images_ = vendors.fake.journal()[-1].options["images"]
        assert [one["field"] for one in images_] == fields[name]
        assert [one["sha256"] for one in images_] == [source.sha256, mask.sha256]
    openai, google = (call.prompt for call in vendors.fake.journal())
    assert openai.startswith("Image 1 is to be changed; keep all else as it is. Change: " + PROMPT)
    assert "Image 2 is a mask: change only what is transparent in it. Change: " in google


@pytest.mark.parametrize("name", ["openai", "google"])
def test_a_strict_mask_restores_what_is_outside(vendors: Vendors, alice: User, name: str) -> None:
    vendors.use(name)
    source, mask = upload_of(alice, color="blue"), mask_of(alice)
    request = page(alice, ("source", "", source.pk), ("mask", "", mask.pk), mask_mode="strict")
    done = refreshed(vendors.run(request))
    assert (done.status, done.result["width"], done.result["height"]) == ("completed", 80, 64)
    assert provenance.of_request(done)["digitalSourceType"] == "compositeWithTrainedAlgorithmicMedia"
    sent = vendors.fake.journal()[-1].options["images"]
    assert len(sent) == (2 if name == "openai" else 1)
    with (
        Image.open(io.BytesIO(images.read(done.result["image_key"]))) as edited,
        Image.open(io.BytesIO(images.read(source.key))) as before,
    ):
        outside = (40, 0, 80, 64)
        assert edited.convert("RGB").crop(outside).tobytes() == before.convert("RGB").crop(outside).tobytes()
        assert edited.convert("RGB").getpixel((5, 5)) != before.convert("RGB").getpixel((5, 5))
        assert "compositeWithTrainedAlgorithmicMedia" in edited.info["XML:com.adobe.xmp"]


@pytest.mark.parametrize("output_format", ["jpeg", "webp"])
def test_a_restored_image_has_the_requested_format(vendors: Vendors, alice: User, output_format: str) -> None:
    vendors.use("openai")
    given = (("source", "", upload_of(alice, color="blue").pk), ("mask", "", mask_of(alice).pk))
    request = page(alice, *given, mask_mode="strict", metadata={"outputFormat": output_format})
    done = refreshed(vendors.run(request))
    assert (done.result["content_type"], done.result["width"]) == (f"image/{output_format}", 80)


def test_a_broken_answer_is_not_restored(vendors: Vendors, alice: User) -> None:
    vendors.use("openai")
    vendors.fake.script("image=truncated")
    given = (("source", "", upload_of(alice, color="blue").pk), ("mask", "", mask_of(alice).pk))
    failed = refreshed(vendors.run(page(alice, *given, mask_mode="strict", max_attempts=1)))
    assert (failed.status, failed.error["code"]) == ("failed", "invalid_image")
    assert GenerationAttempt.objects.filter(request=failed, booked_cost__gt=0).exists()


def test_a_mask_that_is_transparent_nowhere_is_not_sent(vendors: Vendors, alice: User) -> None:
    vendors.use("openai")
    given = (("source", "", upload_of(alice, color="blue").pk), ("mask", "", mask_of(alice, hole=None).pk))
    failed = refreshed(vendors.run(page(alice, *given, mask_mode="hint")))
    assert (failed.error["code"], vendors.called) == ("invalid_request", [])


@pytest.mark.parametrize("name", ["openai", "google"])
def test_nothing_is_paid_for_a_strict_mask_that_lets_nothing_change(vendors: Vendors, alice: User, name: str) -> None:
    vendors.use(name)
    given = (("source", "", upload_of(alice, color="blue").pk), ("mask", "", mask_of(alice, hole=None).pk))
    failed = refreshed(vendors.run(page(alice, *given, mask_mode="strict")))
    assert (failed.status, failed.error["code"], vendors.called) == ("failed", "invalid_request", [])


@pytest.mark.parametrize("damage", ["broken", "gone"])
@pytest.mark.parametrize("role", ["source", "mask"])
def test_nothing_is_paid_for_an_edit_that_could_not_be_restored(
    vendors: Vendors, alice: User, role: str, damage: str
) -> None:
    vendors.use("google")
    uploads = {"source": upload_of(alice, color="blue"), "mask": mask_of(alice)}
    request = page(alice, *((name, "", upload.pk) for name, upload in uploads.items()), mask_mode="strict")
    path = Path(default_storage.path(uploads[role].key))
    path.unlink() if damage == "gone" else path.write_bytes(path.read_bytes()[:-40])
    failed = refreshed(vendors.run(request))
    assert (failed.status, failed.error["code"], vendors.called) == ("failed", "invalid_request", [])


def test_an_image_that_goes_during_the_call_is_not_waited_for(alice: User) -> None:
    request = page(alice, ("source", "", upload_of(alice).pk), ("mask", "", mask_of(alice).pk), mask_mode="strict")
    stored = input_images.of_request(request)
    Path(default_storage.path(stored[0].key)).unlink()
    with pytest.raises(ProviderError, match="deleted during the call"):
        strict_masks.restored(ImageAnswer(data=b"", content_type="image/png", model=""), stored, "png")


def test_an_image_that_is_gone_fails_the_page_without_a_call(vendors: Vendors, alice: User) -> None:
    vendors.use("openai")
    sheet = refreshed(vendors.ask(alice))
    request = page(alice, ("character", "Pip", sheet.pk))
    images.remove(sheet.result["image_key"])
    failed = refreshed(vendors.run(request))
    assert (failed.status, failed.error["code"]) == ("failed", "invalid_request")
    assert "does not exist any more" in failed.error["message"]
    assert vendors.called == ["openai"]
    assert not GenerationAttempt.objects.filter(request=request, cost__gt=0).exists()


def test_an_image_that_cannot_be_read_now_is_read_later(
    vendors: Vendors, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendors.use("openai")
    sheet = refreshed(vendors.ask(alice))
    request = page(alice, ("character", "Pip", sheet.pk))

    def unreadable(*_: Any, **__: Any) -> Any:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(default_storage, "open", unreadable)
        waiting = refreshed(vendors.run(request))
    assert (waiting.status, vendors.called) == ("queued", ["openai"])
    assert refreshed(vendors.run_again(request)).status == "completed"


def test_slow_reading_of_images_is_no_trouble_of_the_vendor(
    vendors: Vendors, alice: User, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    vendors.use("openai")
    sheet = refreshed(vendors.ask(alice))
    request = page(alice, ("character", "Pip", sheet.pk))
    readable, read = threading.Event(), images.read

    def slow(key: str) -> bytes:
        readable.wait(20)
        return read(key)

    monkeypatch.setattr(images, "read", slow)
    usual, settings.PROVIDER_TIMEOUT = settings.PROVIDER_TIMEOUT, timedelta(seconds=0.3)
    waiting = refreshed(vendors.run(request))
    settings.PROVIDER_TIMEOUT = usual
    readable.set()
    assert (waiting.status, waiting.attempts, attempts(request)) == ("queued", 0, [("openai", "storage")])
    assert not ProviderState.objects.filter(failures__gt=0).exists()
    assert refreshed(vendors.run_again(request)).status == "completed"
    assert vendors.called == ["openai", "openai"]


def test_the_cache_tells_images_apart(vendors: Vendors, alice: User) -> None:
    vendors.use("openai")
    sheets = [refreshed(vendors.ask(alice, prompt=f"{PROMPT} {number}")) for number in range(2)]
    cached = {"metadata": {"useCache": True}}
    plain = refreshed(vendors.ask(alice, type="illustration", **cached))
    pages = [
        refreshed(vendors.run(page(alice, ("character", "Pip", sheet.pk), **cached))) for sheet in (*sheets, sheets[0])
    ]
    assert [one.result["cached"] for one in (plain, *pages)] == [False, False, False, True]


def test_a_model_whose_row_takes_no_images_any_more_is_not_called(vendors: Vendors, alice: User) -> None:
    vendors.use("openai")
    sheet = refreshed(vendors.ask(alice))
    request = page(alice, ("character", "Pip", sheet.pk))
    ProviderModel.objects.update(reference_limits={})
    caching.clear_all()
    failed = refreshed(vendors.run(request))
    assert (failed.status, vendors.called) == ("failed", ["openai"])


# --- In memory --------------------------------------------------------------------------------------------------------


def noise(size: tuple[int, int], kind: str = "PNG", mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.frombytes(mode, size, os.urandom(size[0] * size[1] * len(mode))).save(out, kind)
    return out.getvalue()


def test_a_large_image_is_scaled_and_a_small_one_kept() -> None:
    small, large = noise((800, 600)), noise((3000, 1000))
    assert reference_images.prepare(small, "image/png").data == small
    prepared = reference_images.prepare(large, "image/png")
    assert (prepared.width, prepared.height, prepared.content_type) == (2048, 683, "image/jpeg")
    with Image.open(io.BytesIO(prepared.data)) as image:
        assert (image.size, image.format) == ((2048, 683), "JPEG")
    assert prepared.sha256 == hashlib.sha256(prepared.data).hexdigest()


def test_what_is_transparent_stays_a_png() -> None:
    prepared = reference_images.prepare(noise((1200, 1200), mode="RGBA"), "image/png")
    assert prepared.content_type == "image/png"
    mask = reference_images.prepare(noise((2500, 2000), mode="RGBA"), "image/png", is_mask=True)
    assert (mask.content_type, mask.width, mask.height) == ("image/png", 2048, 1638)


def test_what_does_not_decode_is_an_error_of_the_storage() -> None:
    with pytest.raises(OSError, match="does not decode"):
        reference_images.prepare(b"x" * 4_000_000, "image/png")


class Loading:
    """Images in the storage, and how often each was read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads: list[str] = []
        read = images.read

        def counted(key: str) -> bytes:
            self.reads.append(key)
            return read(key)

        monkeypatch.setattr(images, "read", counted)
        self.images = CallImages(self._run)

    async def _run(self, act: Callable[[], Any]) -> Any:
        return await asyncio.to_thread(act)

    def stored(self, shade: str, *, size: int = 0) -> StoredImage:
        out = io.BytesIO()
        Image.new("RGB", (64, 64), shade).save(out, "PNG")
        data = out.getvalue()
        key = images.save("results", hashlib.sha256(data).hexdigest(), "image/png", data)
        return StoredImage(
            position=0,
            role="character",
            name="",
            source_id=None,
            upload_id=None,
            status="completed",
            key=key,
            content_type="image/png",
            size=size or len(data),
        )


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch) -> Loading:
    return Loading(monkeypatch)


def run(work: Any) -> Any:
    return event_loop.loop.submit(work).result(20)


def test_calls_at_once_share_an_image(loading: Loading) -> None:
    hero, other = loading.stored("red"), loading.stored("blue")

    async def calls() -> None:
        async with loading.images.loaded([hero]) as first, loading.images.loaded([hero, other]) as second:
            assert first[0].data is second[0].data
        async with loading.images.loaded([hero]):
            pass

    run(calls())
    assert sorted(loading.reads) == sorted([hero.key, other.key, hero.key])
    assert (loading.images._held, loading.images._shared) == (0, {})


def test_images_that_do_not_fit_wait_for_room(loading: Loading, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_images, "_ROOM", 1000)
    images_ = [loading.stored(shade, size=600) for shade in ("red", "green", "blue")]
    running: list[int] = []

    async def call(number: int) -> None:
        async with loading.images.loaded([images_[number]]):
            running.append(number)
            assert loading.images._held <= 1000
            await asyncio.sleep(0)

    async def all_calls() -> None:
        await asyncio.gather(*(call(number) for number in range(3)))

    run(all_calls())
    assert running == [0, 1, 2]
    assert loading.images._held == 0


def test_images_larger_than_the_room_are_loaded_alone(loading: Loading, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_images, "_ROOM", 1000)
    large = loading.stored("red", size=5000)

    async def call() -> int:
        async with loading.images.loaded([large]) as loaded:
            return len(loaded)

    assert run(call()) == 1


def test_images_that_only_together_exceed_the_room_are_loaded(
    loading: Loading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound is smaller than the files, so that the images fill the room also when they are loaded."""
    monkeypatch.setattr(call_images, "_ROOM", 150)
    given = [loading.stored(shade) for shade in ("red", "green", "blue")]

    async def call() -> int:
        async with loading.images.loaded(given) as loaded:
            return len(loaded)

    async def calls() -> list[int]:
        return list(await asyncio.gather(call(), call()))

    assert run(calls()) == [3, 3]
    assert (loading.images._held, loading.images._shared) == (0, {})


def test_a_mask_that_is_its_source_is_prepared_as_a_mask(loading: Loading) -> None:
    image = loading.stored("red")

    async def call() -> None:
        async with loading.images.loaded([image, replace(image, role="mask")]):
            pass

    with pytest.raises(ProviderError, match="transparent nowhere"):
        run(call())
    assert (loading.images._held, loading.images._shared) == (0, {})


def test_a_cancelled_call_gives_its_room_back(loading: Loading, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_images, "_ROOM", 1000)
    first, second = loading.stored("red", size=900), loading.stored("blue", size=900)

    async def cancelled() -> int:
        async with loading.images.loaded([first]):
            waiting = asyncio.create_task(loading.images.loaded([second]).__aenter__())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        async with loading.images.loaded([second]) as loaded:
            return len(loaded)

    assert run(cancelled()) == 1
    assert (loading.images._held, loading.images._shared) == (0, {})


def test_a_missing_image_keeps_no_room(loading: Loading) -> None:
    image = loading.stored("red")
    Path(default_storage.path(image.key)).unlink()

    async def call() -> None:
        async with loading.images.loaded([image]):
            pass

    with pytest.raises(ProviderError, match="does not exist any more"):
        run(call())
    assert (loading.images._held, loading.images._shared) == (0, {})
