"""The capabilities in the catalogue agree with the adapters and the strict wires of the vendors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User

from generation.models import GenerationRequest, ProviderModel
from generation.models.options import GenerationOptions
from generation.providers import catalogue
from tests.fakes.control import FakeProvider
from tests.support.adapters import ADAPTERS, Adapter
from tests.support.callers import Caller
from workers import prompts

pytestmark = pytest.mark.django_db

VALUES: dict[str, list[Any]] = {
    "seed": [0, 7, 2**31 - 1],
    "negativePrompt": ["cats"],
    "quality": ["low", "medium", "high"],
    "outputFormat": ["png", "jpeg", "webp"],
}
#: Beside those that a model names: what only a rule for any ratio gives.
RATIOS = ["square", "portrait", "landscape", "3:4", "16:9", "9:16", "2:1", "1:3", "21:9"]


@pytest.fixture(scope="module")
def vendor() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        yield fake


@pytest.fixture(params=ADAPTERS, ids=lambda adapter: adapter.name)
def adapter(request: pytest.FixtureRequest, settings: Any) -> Adapter:
    adapter: Adapter = request.param
    if adapter.needs:
        pytest.importorskip(adapter.needs, reason="there is none for Python 3.13")
    adapter.configure(settings)
    return adapter


@pytest.fixture
def caller(adapter: Adapter, vendor: FakeProvider) -> Iterator[Caller]:
    vendor.reset()
    caller = Caller(adapter.make(vendor, "sk-1"))
    yield caller
    caller.close()


def wishes() -> Iterator[dict[str, Any]]:
    """Every model with every value of every option, and with every ratio in every resolution."""
    for model in ProviderModel.objects.filter(enabled=True, shutdown_date=None):
        for option, values in VALUES.items():
            for value in values:
                yield {"model": model.name, option: value}
        for ratio in {*RATIOS, *model.sizes} - {"any"}:
            for resolution in ("1K", "2K", "4K"):
                yield {"model": model.name, "aspectRatio": ratio, "resolution": resolution}


def test_the_options_of_each_model_are_sent_and_accepted(caller: Caller, alice: User, vendor: FakeProvider) -> None:
    promised = 0
    for metadata in wishes():
        try:
            [choice] = catalogue.choices(GenerationOptions.parse(metadata))
        except catalogue.UnsupportedRequest:
            continue
        request = GenerationRequest(owner=alice, type="cover", prompt="A friendly dragon", metadata=metadata)
        answer = caller.run(caller.provider.generate(prompts.build(request, choice)))
        assert answer.model == metadata["model"], metadata
        promised += 1
    assert promised == vendor.stats().count > 5


def test_a_quality_that_a_model_stands_for_chooses_it(settings: Any) -> None:
    settings.PROVIDERS, settings.PROVIDER_MODELS = ["stability"], {"stability": "core"}
    chosen = {
        quality: catalogue.choices(GenerationOptions.parse({"quality": quality}))[0].model
        for quality in VALUES["quality"]
    }
    assert chosen == {"low": "core", "medium": "core", "high": "ultra"}
