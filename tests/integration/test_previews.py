"""Previews of a running call: what is stored, shown and deleted, with a provider that does as it is told."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import default_storage
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from PIL import Image

from generation import caching
from generation.models import GenerationAttempt, GenerationRequest, ProviderModel
from generation.requests import events, lifecycle, representations, retention
from generation.states import Status
from generation.storage import images
from tests.support.executors import executor
from tests.support.requests import FAILURE, claimed, queued
from tests.support.stack import wait_until
from workers import previews
from workers.providers.base import ImageAnswer, ImageRequest, show_preview

# The executor uses connections of its own, which see what is committed.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("empty_queues")]


def png(shade: str = "white", side: int = 64) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side, 48), shade).save(out, "PNG")
    return out.getvalue()


class Showing:
    """A provider that shows previews, and waits until the last was announced or dropped."""

    name: ClassVar[str] = "clipart"
    billable: ClassVar[bool] = True

    def __init__(self, *steps: Callable[[], Awaitable[None]]) -> None:
        self._steps = steps

    async def generate(self, request: ImageRequest) -> ImageAnswer:
        for step in self._steps:
            await step()
        return ImageAnswer(data=png(), content_type="image/png", model="model-1")


@pytest.fixture(autouse=True)
def capable(db: None) -> None:
    """Let the model of the provider that is used here send previews."""
    for model in ProviderModel.objects.filter(provider="clipart"):
        ProviderModel.objects.filter(pk=model.pk).update(capabilities=[*model.capabilities, "previews"])
    caching.clear_all()


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> list[events.Preview]:
    """The previews that are announced."""
    found: list[events.Preview] = []
    announce = events.announce_preview

    def keep(preview: events.Preview) -> None:
        found.append(preview)
        announce(preview)

    monkeypatch.setattr(events, "announce_preview", keep)
    return found


async def until(condition: Callable[[], Any]) -> None:
    await asyncio.to_thread(wait_until, condition)


def stored() -> list[str]:
    return [key for key, _ in images.files("previews")]


def shows(data: bytes, announced: list[events.Preview]) -> Callable[[], Awaitable[None]]:
    """Return a step that shows a preview, and waits until it is announced."""

    async def step() -> None:
        count = len(announced)
        show_preview(data)
        await until(lambda: len(announced) > count)

    return step


def looks(client: Client, request_id: str, found: list[Any]) -> Callable[[], Awaitable[None]]:
    """Return a step that reads the request's status and preview in a thread."""

    def look() -> None:
        request = GenerationRequest.objects.get(pk=request_id)
        url = representations.status(request)["previewUrl"]
        found.append((url, client.get(url) if url else None))
        connection.close()

    return partial(asyncio.to_thread, look)


def with_previews(owner: User, count: int = 2, **more: Any) -> GenerationRequest:
    return queued(owner, metadata={"previews": count}, **more)


def test_the_newest_preview_is_shown_while_the_call_runs(
    alice: User, client: Client, announced: list[events.Preview]
) -> None:
    request = with_previews(alice)
    found: list[Any] = []
    look = looks(client, request.pk, found)
    steps = [look, shows(png("red"), announced), look, shows(png("blue", 32), announced), look]
    executor(Showing(*steps)).run(request.pk)
    request.refresh_from_db()
    assert request.status == Status.COMPLETED
    (nothing, _), (first, red), (second, blue) = found
    assert nothing is None
    assert first != second
    assert (red.content, blue.content) == (png("red"), png("blue", 32))
    assert blue["Content-Type"] == "image/png"
    assert blue["Cache-Control"] == "private, no-store"
    assert [(one.number, one.width, one.height) for one in announced] == [(0, 64, 48), (1, 32, 48)]
    # After the end nothing is reachable, and the files are deleted.
    assert representations.status(request)["previewUrl"] is None
    assert client.get(second).status_code == 404
    asyncio.run(until(lambda: not stored()))


def test_more_previews_than_were_asked_for_are_dropped(alice: User, announced: list[events.Preview]) -> None:
    async def one_more() -> None:
        show_preview(png("green"))

    request = with_previews(alice, 1)
    executor(Showing(shows(png("red"), announced), one_more)).run(request.pk)
    assert len(announced) == 1


@pytest.mark.parametrize("data", [b"<svg/>", png()[:40], b"", bytes(previews.MAX_BYTES + 1)])
def test_an_invalid_preview_is_dropped_and_the_image_comes(
    alice: User, announced: list[events.Preview], data: bytes
) -> None:
    async def invalid() -> None:
        show_preview(data)

    request = with_previews(alice, 3)
    executor(Showing(invalid, shows(png("red"), announced))).run(request.pk)
    request.refresh_from_db()
    assert request.status == Status.COMPLETED
    assert {one.width for one in announced} == {64}


def test_a_preview_that_cannot_be_stored_is_dropped(
    alice: User, announced: list[events.Preview], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save = default_storage.save

    def fail(name: str, *more: Any) -> str:
        if name.startswith("previews/"):
            raise OSError("disk full")
        return str(save(name, *more))

    async def show() -> None:
        show_preview(png())
        await until(lambda: "was dropped" in caplog.text)

    monkeypatch.setattr(default_storage, "save", fail)
    request = with_previews(alice)
    executor(Showing(show)).run(request.pk)
    request.refresh_from_db()
    assert request.status == Status.COMPLETED
    assert announced == []


def test_a_slow_storage_keeps_only_the_newest_and_delays_nothing(
    alice: User, announced: list[events.Preview], monkeypatch: pytest.MonkeyPatch
) -> None:
    release, save = threading.Event(), images.save_under
    monkeypatch.setattr(images, "save_under", lambda *a: (release.wait(10), save(*a)))

    async def show_three() -> None:
        for side in (10, 20, 30):
            show_preview(png("red", side))
            await asyncio.sleep(0)
        release.set()
        await until(lambda: len(announced) == 2)

    executor(Showing(show_three)).run(with_previews(alice, 3).pk)
    assert [(one.number, one.width) for one in announced] == [(0, 10), (2, 30)]


def preview_of(owner: User, count: int = 1) -> Any:
    """A claim with a stored preview."""
    claim = claimed(owner, metadata={"previews": count})
    key = images.preview_key(claim.request.pk, claim.number, 0, "image/png")
    images.save_under(key, png())
    assert previews._record(claim, key)
    return claim


@pytest.mark.parametrize("end", ["cancel", "fail", "retry", "delete"])
def test_a_signed_address_ends_with_the_attempt(alice: User, client: Client, end: str) -> None:
    claim = preview_of(alice)
    url = representations.status(claim.request)["previewUrl"]
    assert client.get(url).status_code == 200
    match end:
        case "cancel":
            lifecycle.cancel([claim.request.pk], actor=alice)
        case "fail":
            lifecycle.fail(claim, FAILURE)
        case "retry":
            lifecycle.retry_later(claim, FAILURE, delay=timedelta(0))
        case "delete":
            claim.request.delete()
    assert client.get(url).status_code == 404


def test_a_later_attempt_does_not_show_the_preview_of_an_earlier_one(alice: User, client: Client) -> None:
    claim = preview_of(alice)
    url = representations.status(claim.request)["previewUrl"]
    lifecycle.retry_later(claim, FAILURE, delay=timedelta(0))
    second = lifecycle.claim(claim.request.pk, worker="worker-2")
    assert second
    assert representations.status(second.request)["previewUrl"] is None
    assert client.get(url).status_code == 404
    assert not previews._record(claim, "previews/late")


def test_a_preview_needs_a_signature_or_its_owner(alice: User, charlie: User, client: Client) -> None:
    url = representations.status(preview_of(alice).request)["previewUrl"]
    assert client.get(url.replace("signature=", "signature=x")).status_code == 401
    client.force_login(charlie)
    assert client.get(url.partition("?")[0]).status_code == 404
    client.force_login(alice)
    assert client.get(url.partition("?")[0]).status_code == 200


def test_the_entity_tag_changes_with_the_preview(alice: User) -> None:
    claim = claimed(alice, metadata={"previews": 1})
    before = representations.etag(claim.request)
    assert previews._record(claim, images.preview_key(claim.request.pk, 1, 0, "image/png"))
    assert representations.etag(claim.request) != before


def test_requests_without_previews_cost_no_query(alice: User) -> None:
    claim = claimed(alice)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert representations.status(claim.request)["previewUrl"] is None
        representations.etag(claim.request)
    assert len(queries) == 0


@pytest.mark.parametrize("value", ["two", 4, -1, True, None, 1.5, [1]])
def test_a_value_from_before_the_option_means_no_previews(alice: User, value: Any) -> None:
    request = queued(alice, metadata={"previews": value})
    assert request.options.previews == 0


def test_old_previews_are_swept(alice: User) -> None:
    preview_of(alice)
    assert not [key for key in retention.sweep_orphans() if key.startswith("previews/")]
    [key] = stored()
    path = default_storage.path(key)
    os.utime(path, (os.path.getmtime(path) - 7300,) * 2)
    assert key in list(retention.sweep_orphans())
    assert GenerationAttempt.objects.get().preview == key
