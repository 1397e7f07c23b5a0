"""One attempt, with a provider that does as it is told: what the request, its attempt and the storage hold after it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from PIL import Image

from generation.db.functions import Now
from generation.models import GenerationAttempt, GenerationQueue, GenerationRequest, PromptStyle, ProviderState
from generation.requests import lifecycle, permits, representations
from generation.states import Status
from generation.storage import images, receipts
from tests.support.executors import cancel_attempts, executor
from tests.support.requests import RESULT, claimed, queued
from tests.support.stack import wait_until
from workers import prompts
from workers.image_processes import NoProcessesError
from workers.providers.base import ImageAnswer, ImageRequest, ProviderError
from workers.result_writer import ResultWriter
from workers.runtime import Runtime

# The executor uses connections of its own, which see what is committed.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("empty_queues")]


def png(shade: str = "white") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 48), shade).save(out, "PNG")
    return out.getvalue()


class Scripted:
    """A provider that keeps what it was asked and does what the test says."""

    name: ClassVar[str] = "clipart"
    billable: ClassVar[bool] = True

    def __init__(self, act: Callable[[ImageRequest], Any]) -> None:
        self.asked: list[ImageRequest] = []
        self._act = act

    async def generate(self, request: ImageRequest) -> ImageAnswer:
        self.asked.append(request)
        result = self._act(request)
        if asyncio.iscoroutine(result):
            result = await result
        return ImageAnswer(data=result, content_type="image/png", model="model-1", seed=7, provider_request_id="req-1")


def execute(request: GenerationRequest, act: Callable[[ImageRequest], Any]) -> Scripted:
    provider = Scripted(act)
    executor(provider).run(request.pk)
    request.refresh_from_db()
    return provider


def test_an_image_is_stored_and_the_request_completed(alice: User) -> None:
    request = queued(alice, metadata={"seed": 7})
    execute(request, lambda _: png())
    assert request.status == Status.COMPLETED
    assert images.read(request.result["image_key"]) == png()
    assert request.result["image_key"].endswith(f"{request.result['sha256']}.png")
    with Image.open(io.BytesIO(images.read(request.result["thumbnail_key"]))) as small:
        assert (small.format, small.size) == ("WEBP", (64, 48))
    shown = representations.status(request)["result"]
    assert (shown["width"], shown["height"], shown["bytes"]) == (64, 48, len(png()))
    assert (shown["provider"], shown["model"], shown["seed"]) == ("clipart", "model-1", 7)


def test_the_provider_gets_the_prompt_with_the_phrases_of_type_and_style(alice: User) -> None:
    PromptStyle.objects.filter(scope="type", name="cover").update(phrase="as a cover")
    request = queued(alice, type="cover", metadata={"imageStyle": "woodcut", "aspectRatio": "portrait", "title": "Ho"})
    asked = execute(request, lambda _: png()).asked[0]
    assert asked.prompt == f"{request.prompt}, as a cover, woodcut style"
    assert (asked.subject, asked.title, asked.width, asked.height) == (request.prompt, "Ho", 1024, 1536)
    assert GenerationAttempt.objects.get(request=request).prompt == asked.prompt


def test_an_image_style_with_a_phrase_of_its_own_is_sent_as_that_phrase(alice: User) -> None:
    request = queued(alice, metadata={"imageStyle": "cartoon"})
    phrase = PromptStyle.objects.get(scope="image-style", name="cartoon").phrase
    assert execute(request, lambda _: png()).asked[0].prompt.endswith(f", {phrase}")


def refuse(code: str, **more: Any) -> Callable[[ImageRequest], Any]:
    def act(_: ImageRequest) -> Any:
        raise ProviderError("The provider says no", code=code, **more)

    return act


def test_a_failure_that_may_pass_goes_back_to_the_queue_with_a_delay(alice: User, settings: Any) -> None:
    settings.RETRY_DELAY = timedelta(seconds=10)
    request = queued(alice)
    execute(request, refuse("unavailable"))
    assert (request.status, request.attempts) == (Status.QUEUED, 1)
    due = GenerationQueue.objects.filter(
        pk=request.pk,
        available_at__gt=Now() + timedelta(seconds=8),
        available_at__lt=Now() + timedelta(seconds=13),
    )
    assert due.exists()


def test_the_last_attempt_that_fails_fails_the_request(alice: User) -> None:
    request = queued(alice, max_attempts=1)
    execute(request, refuse("unavailable", provider_request_id="req-2"))
    assert request.status == Status.FAILED
    assert request.error == {
        "message": "The provider says no",
        "code": "unavailable",
        "retryable": True,
        "provider": "clipart",
        "stage": None,
        "category": None,
    }
    assert GenerationAttempt.objects.get(request=request).provider_request_id == "req-2"


def test_a_refusal_is_not_tried_again(alice: User) -> None:
    request = queued(alice)
    execute(request, refuse("refused_input"))
    assert (request.status, request.error["retryable"]) == (Status.FAILED, False)


def test_of_a_refusal_only_stage_and_category_are_stored(alice: User) -> None:
    request = queued(alice)
    said = {"stage": "output", "categories": ["violence", "hate"], "status": 400, "param": "secret"}
    execute(request, refuse("refused_output", detail=said))
    assert (request.error["stage"], request.error["category"]) == ("output", "violence, hate")
    assert "secret" not in str(request.error)


def test_an_image_that_does_not_decode_fails_and_stores_nothing(alice: User, settings: Any) -> None:
    request = queued(alice)
    execute(request, lambda _: png()[:-20])
    assert (request.status, request.error["code"]) == (Status.FAILED, "invalid_image")
    assert not [path for path in Path(settings.MEDIA_ROOT).rglob("*") if path.is_file()]


def test_a_fault_of_ours_tells_the_client_nothing_of_its_text(alice: User, caplog: pytest.LogCaptureFixture) -> None:
    request = queued(alice)
    execute(request, lambda _: 1 / 0)
    assert (request.status, request.error["code"]) == (Status.FAILED, "internal")
    assert "division" not in str(request.error)
    assert "division" in caplog.text


def test_a_fault_before_the_call_releases_the_claim(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise ZeroDivisionError

    request = queued(alice, max_attempts=1)
    with monkeypatch.context() as patch:
        patch.setattr(prompts, "build", fail)
        assert execute(request, lambda _: png()).asked == []
    assert (request.status, request.attempts, request.waits) == (Status.QUEUED, 0, 1)
    GenerationQueue.objects.update(available_at=Now())
    execute(request, lambda _: png())
    assert request.status == Status.COMPLETED


def test_an_error_code_that_there_is_not_is_a_fault_of_ours(alice: User) -> None:
    request = queued(alice)
    execute(request, refuse("made_up"))
    assert (request.status, request.error["code"]) == (Status.FAILED, "internal")


def test_a_provider_that_never_answers_ends_at_the_deadline(alice: User, settings: Any) -> None:
    settings.PROVIDER_TIMEOUT = timedelta(milliseconds=100)
    request = queued(alice, max_attempts=1)
    execute(request, lambda _: asyncio.sleep(60))
    assert (request.status, request.error["code"]) == (Status.FAILED, "timeout")


def test_a_request_cancelled_during_the_call_shows_no_image(alice: User) -> None:
    request = queued(alice)

    def cancel() -> None:
        lifecycle.cancel([request.pk], actor=alice)
        connection.close()

    async def cancelled_meanwhile() -> bytes:
        await asyncio.to_thread(cancel)
        return png()

    execute(request, lambda _: cancelled_meanwhile())
    assert (request.status, request.result) == (Status.CANCELLED, None)
    assert GenerationAttempt.objects.get(request=request).outcome == "abandoned"


def test_a_message_for_a_request_not_queued_calls_no_provider(alice: User) -> None:
    request = queued(alice)
    lifecycle.cancel([request.pk], actor=alice)
    assert execute(request, lambda _: png()).asked == []


def test_the_same_image_is_stored_once(alice: User, settings: Any) -> None:
    for _ in range(2):
        execute(queued(alice), lambda _: png())
    assert len(list((Path(settings.MEDIA_ROOT) / "results").rglob("*.png"))) == 1


# --- Waiting is not failing -------------------------------------------------------------------------------------------


def test_being_told_to_wait_uses_up_no_attempt(alice: User) -> None:
    request = queued(alice, max_attempts=1)
    execute(request, refuse("rate_limited", retry_after=7))
    assert (request.status, request.attempts, request.waits) == (Status.QUEUED, 0, 1)
    assert not GenerationQueue.objects.filter(pk=request.pk, available_at__lt=Now() + timedelta(seconds=6)).exists()
    assert GenerationQueue.objects.get(pk=request.pk).priority_weight == 1


def test_the_eleventh_wait_uses_an_attempt(alice: User) -> None:
    request = queued(alice, max_attempts=1)
    for _ in range(10):
        execute(request, refuse("rate_limited"))
        GenerationQueue.objects.update(available_at=Now())
        ProviderState.objects.update(open_until=Now())
    assert (request.status, request.attempts, request.waits) == (Status.QUEUED, 0, 10)
    execute(request, refuse("rate_limited"))
    assert (request.status, request.error["code"]) == (Status.FAILED, "rate_limited")


def test_a_provider_without_a_free_slot_is_not_called_and_uses_no_attempt(alice: User) -> None:
    ProviderState.objects.create(provider="clipart", max_concurrent=1)
    other = claimed(alice)
    permit = permits.begin_call(other, provider="clipart", model="", prompt="", deadline=timedelta(minutes=1))
    assert permit.granted
    request = queued(alice)
    assert execute(request, lambda _: png()).asked == []
    assert (request.status, request.attempts) == (Status.QUEUED, 0)
    assert lifecycle.complete(other, result=RESULT, model="")
    GenerationQueue.objects.update(available_at=Now())
    assert len(execute(request, lambda _: png()).asked) == 1


def test_without_storage_no_provider_is_called_and_no_attempt_used(alice: User, settings: Any, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    settings.MEDIA_ROOT = in_the_way / "media"
    request = queued(alice, max_attempts=1)
    assert execute(request, lambda _: png()).asked == []
    assert (request.status, request.attempts, request.waits) == (Status.QUEUED, 0, 1)
    assert GenerationAttempt.objects.get(request=request).error_code == "storage"


def test_a_storage_that_is_away_for_hours_fails_the_request_at_last(alice: User, settings: Any, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    settings.MEDIA_ROOT = in_the_way / "media"
    request = queued(alice, max_attempts=1)
    GenerationRequest.objects.update(waits=10)
    assert execute(request, lambda _: png()).asked == []
    assert (request.status, request.error["code"], request.error["retryable"]) == (Status.FAILED, "storage", True)


def test_a_stopping_worker_releases_the_requests_it_did_not_send(alice: User) -> None:
    request = queued(alice, priority="high")
    runtime = Runtime(slots=1)
    runtime.stopping.set()
    provider = Scripted(lambda _: png())
    executor(provider, runtime).run(request.pk)
    request.refresh_from_db()
    assert (provider.asked, request.status, request.attempts) == ([], Status.QUEUED, 0)
    assert GenerationQueue.objects.get(pk=request.pk).priority_weight == 100


# --- Paid once --------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for a kill: nothing after it runs."""


def stored_and_killed(request: GenerationRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make an attempt that stores its image with a receipt and is killed before the database is told."""

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(lifecycle, "end_unlocked", die)
        with pytest.raises(Killed):
            execute(request, lambda _: png())
    assert receipts.find(request.pk)
    GenerationRequest.objects.filter(pk=request.pk).update(lease_expires_at=Now() - timedelta(seconds=1))


def test_an_image_stored_before_a_kill_completes_without_a_second_call(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = queued(alice)
    stored_and_killed(request, monkeypatch)
    assert lifecycle.rescue(request.pk) == Status.QUEUED
    second = execute(request, lambda _: png("red"))
    assert second.asked == []
    assert request.status == Status.COMPLETED
    assert images.read(request.result["image_key"]) == png()
    wait_until(lambda: receipts.find(request.pk) is None, what="the end of the receipt")


def test_a_receipt_whose_image_is_gone_does_not_count(alice: User) -> None:
    request = queued(alice)
    receipts.save(request.pk, {"result": {"image_key": "results/no/ne/none.png"}})
    assert receipts.find(request.pk) is None


def test_a_brief_storage_failure_after_the_call_costs_no_second_call(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = queued(alice)
    save, failures = images.save, iter([OSError("disk full"), OSError("disk full")])

    def sometimes(*arguments: Any) -> str:
        if failure := next(failures, None):
            raise failure
        return save(*arguments)

    monkeypatch.setattr(images, "save", sometimes)
    assert len(execute(request, lambda _: png()).asked) == 1
    assert request.status == Status.COMPLETED


def storage_that_fails(monkeypatch: pytest.MonkeyPatch, then: Callable[[], Any] = lambda: None) -> list[str]:
    """No image can be written; each try is noted, and then ``then`` is called."""
    tries = []

    def fail(folder: str, *_: Any) -> str:
        tries.append(folder)
        then()
        raise OSError("disk full")

    monkeypatch.setattr(images, "save", fail)
    return tries


def test_a_paid_image_that_cannot_be_stored_is_not_paid_for_again(
    alice: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.STORAGE_PATIENCE = timedelta(milliseconds=100)
    tries = storage_that_fails(monkeypatch)
    request = queued(alice)
    assert len(execute(request, lambda _: png()).asked) == 1
    assert len(tries) > 1
    assert (request.status, request.error["code"], request.error["retryable"]) == (Status.FAILED, "storage", True)


def test_an_attempt_that_loses_its_claim_stops_retrying_the_storage(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime(slots=1)
    tries = storage_that_fails(monkeypatch, then=partial(cancel_attempts, runtime))
    provider = Scripted(lambda _: png())
    executor(provider, runtime).run(queued(alice).pk)
    assert (len(provider.asked), tries) == (1, ["results"])


def test_an_image_without_a_process_to_decode_it_is_decoded_by_the_worker(alice: User) -> None:
    class Ended:
        async def run(self, *_: Any) -> None:
            raise NoProcessesError

    request, provider = queued(alice), Scripted(lambda _: png())
    worker = executor(provider)
    worker._writer = ResultWriter(Ended())  # type: ignore[arg-type]
    worker.run(request.pk)
    request.refresh_from_db()
    assert (request.status, len(provider.asked)) == (Status.COMPLETED, 1)


def test_a_call_that_may_have_been_billed_is_repeated_once_at_the_most(alice: User) -> None:
    request = queued(alice, max_attempts=10)
    for _ in range(3):
        execute(request, refuse("unknown_outcome"))
        GenerationQueue.objects.update(available_at=Now())
    assert (request.status, request.attempts) == (Status.FAILED, 2)
    assert (request.error["code"], request.error["retryable"]) == ("unknown_outcome", True)


def test_a_finished_image_waits_for_an_unavailable_database(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    request = queued(alice)
    end, failures = lifecycle.end_unlocked, iter([OperationalError("gone"), OperationalError("gone")])

    def sometimes(endings: Any) -> Any:
        if failure := next(failures, None):
            raise failure
        return end(endings)

    monkeypatch.setattr(lifecycle, "end_unlocked", sometimes)
    assert len(execute(request, lambda _: png()).asked) == 1
    assert request.status == Status.COMPLETED
