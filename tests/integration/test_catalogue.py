"""Which model a request goes to, and what is told where there is none."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import pytest

from generation import caching
from generation.models import ProviderModel
from generation.models.options import GenerationOptions
from generation.providers import catalogue
from generation.providers.catalogue import UnsupportedRequest

pytestmark = pytest.mark.django_db

LONG_AGO = datetime.date(2020, 1, 1)


@pytest.fixture(autouse=True)
def _configured(settings: Any) -> Iterator[None]:
    settings.PROVIDERS = ["openai", "stability", "google"]
    settings.PROVIDER_MODELS = {
        "openai": "gpt-image-2",
        "stability": "core",
        "google": "gemini-3.1-flash-image",
    }
    caching.clear_all()
    yield
    caching.clear_all()


def names(**metadata: Any) -> list[str]:
    return [f"{choice.provider}/{choice.model}" for choice in catalogue.choices(GenerationOptions.parse(metadata))]


def refused(**metadata: Any) -> UnsupportedRequest:
    with pytest.raises(UnsupportedRequest) as caught:
        catalogue.choices(GenerationOptions.parse(metadata))
    return caught.value


@pytest.mark.parametrize(
    ("ratio", "size"),
    [
        ("square", (1024, 1024)),
        ("portrait", (1024, 1536)),
        ("landscape", (1536, 1024)),
        ("1:1", (1024, 1024)),
        ("2:2", (1024, 1024)),
        ("3:4", (1024, 1360)),
        ("16:9", (1824, 1024)),
        ("4:1", (4096, 1024)),
        ("100:399", (1024, 4080)),
    ],
)
def test_a_free_size_has_a_short_side_of_1024_in_multiples_of_16(
    settings: Any, ratio: str, size: tuple[int, int]
) -> None:
    settings.PROVIDERS = ["clipart"]
    choice = catalogue.choices(GenerationOptions.parse({"aspectRatio": ratio}))[0]
    assert (choice.width, choice.height) == size


def test_a_request_without_options_may_go_to_each_provider_in_order(settings: Any) -> None:
    assert names() == ["openai/gpt-image-2", "stability/core", "google/gemini-3.1-flash-image"]
    settings.PROVIDERS = ["google", "openai"]
    assert names() == ["google/gemini-3.1-flash-image", "openai/gpt-image-2"]


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        ({"seed": 7}, ["stability/core"]),
        ({"seed": 0}, ["stability/core"]),
        ({"negativePrompt": "no fire"}, ["stability/core"]),
        ({"negativePrompt": ""}, ["openai/gpt-image-2", "stability/core", "google/gemini-3.1-flash-image"]),
        ({"quality": "high"}, ["openai/gpt-image-2", "stability/ultra", "google/gemini-3.1-flash-image"]),
        ({"quality": "high", "provider": "stability"}, ["stability/ultra"]),
        ({"outputFormat": "webp"}, ["openai/gpt-image-2", "stability/core"]),
        ({"outputFormat": "png"}, ["openai/gpt-image-2", "stability/core", "google/gemini-3.1-flash-image"]),
        ({"aspectRatio": "9:21"}, ["openai/gpt-image-2", "stability/core"]),
        ({"aspectRatio": "5:7"}, ["openai/gpt-image-2"]),
        ({"aspectRatio": "42:18"}, ["openai/gpt-image-2", "stability/core", "google/gemini-3.1-flash-image"]),
        ({"model": "gemini-3-pro-image"}, ["google/gemini-3-pro-image"]),
        ({"provider": "google"}, ["google/gemini-3.1-flash-image"]),
    ],
)
def test_only_models_that_honor_every_option_are_called(metadata: dict[str, Any], found: list[str]) -> None:
    assert names(**metadata) == found


@pytest.mark.parametrize(
    ("metadata", "option", "says"),
    [
        ({"provider": "openai", "seed": 7}, "seed", "openai gpt-image-2 does not support seed."),
        ({"provider": "clipart"}, "provider", "The provider clipart is not configured."),
        ({"model": "midjourney"}, "model", "No model midjourney is configured for openai, stability, google."),
        (
            {"model": "core", "quality": "high"},
            "quality",
            "core does not support quality; it supports low, medium",
        ),
        ({"provider": "google", "aspectRatio": "5:7"}, "aspectRatio", "it supports 16:9, 1:1, 21:9"),
    ],
)
def test_an_option_that_no_model_supports_is_refused_by_name(metadata: dict[str, Any], option: str, says: str) -> None:
    reason = refused(**metadata)
    assert reason.option == option
    assert says in reason.message


def test_a_ratio_is_told_as_the_vendor_writes_it() -> None:
    assert (
        catalogue.choices(GenerationOptions.parse({"aspectRatio": "7:3", "provider": "stability"}))[0].aspect_ratio
        == "21:9"
    )


def test_where_providers_have_different_reasons_all_are_told() -> None:
    reason = refused(seed=7, quality="high", aspectRatio="5:7")
    assert all(name in reason.message for name in ("openai", "stability", "google"))


@pytest.mark.parametrize("change", [{"enabled": False}, {"shutdown_date": LONG_AGO}])
def test_a_retired_model_is_stood_in_for_by_its_successor_and_says_so(change: dict[str, Any]) -> None:
    successor = ProviderModel.objects.get(name="ultra")
    ProviderModel.objects.filter(name="core").update(successor=successor, **change)
    caching.clear_all()
    choice = catalogue.choices(GenerationOptions.parse({"model": "core"}))[0]
    assert choice.model == "ultra"
    assert choice.notice == "The model core is retired; ultra was used."


def test_a_model_whose_end_has_come_by_the_seeded_dates_is_stood_in_for() -> None:
    choice = catalogue.choices(GenerationOptions.parse({"model": "dall-e-3"}))[0]
    assert (choice.provider, choice.model) == ("openai", "gpt-image-2")


def test_a_retired_model_is_refused_by_name_and_replaced_otherwise() -> None:
    ProviderModel.objects.filter(name="core").update(enabled=False)
    caching.clear_all()
    assert refused(model="core").message == "The model core is retired."
    assert names(seed=1) == ["stability/ultra"]


def test_successors_in_a_ring_are_no_way_out() -> None:
    core, ultra = (ProviderModel.objects.get(name=name) for name in ("core", "ultra"))
    ProviderModel.objects.filter(pk=core.pk).update(enabled=False, successor=ultra)
    ProviderModel.objects.filter(pk=ultra.pk).update(enabled=False, successor=core)
    caching.clear_all()
    assert "retired" in refused(model="core").message


def test_a_model_only_in_the_settings_has_the_usual_capabilities(settings: Any) -> None:
    settings.PROVIDER_MODELS = {"openai": "my-own-diffusion"}
    assert names(provider="openai", quality="high", aspectRatio="portrait") == ["openai/my-own-diffusion"]
    assert catalogue.estimate(GenerationOptions.parse({"provider": "openai"})) is None
