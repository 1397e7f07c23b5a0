"""Images of more than one megapixel: which models make them, in which sizes and for which price."""

from __future__ import annotations

from decimal import Decimal
from math import log
from typing import Any

import pytest

from generation import caching
from generation.models import ProviderModel, model_rows
from generation.models.options import GenerationOptions
from generation.providers import catalogue
from generation.providers.catalogue import ModelChoice, UnsupportedRequest

pytestmark = pytest.mark.django_db

RATIOS = ["1:1", "2:3", "3:2", "3:4", "16:9", "9:16", "21:9", "1:3", "3:1", "5:7", "100:299"]


def choices(settings: Any, *providers: str, **metadata: Any) -> list[ModelChoice]:
    settings.PROVIDERS, settings.PROVIDER_MODELS = list(providers), {}
    caching.clear_all()
    return catalogue.choices(GenerationOptions.parse(metadata))


@pytest.mark.parametrize("resolution", ["2K", "4K"])
@pytest.mark.parametrize("ratio", RATIOS)
def test_openai_draws_any_ratio_within_the_vendors_limits(settings: Any, resolution: str, ratio: str) -> None:
    [choice] = choices(settings, "openai", aspectRatio=ratio, resolution=resolution)
    width, height = choice.width, choice.height
    assert width % 16 == height % 16 == 0
    assert max(width, height) <= 3840
    assert model_rows.RESOLUTIONS[resolution] / 2 <= width * height <= model_rows.RESOLUTIONS[resolution]
    across, down = map(int, ratio.split(":"))
    assert abs(log(width * down / (height * across))) < 0.01


@pytest.mark.parametrize(
    ("provider", "resolution", "ratio", "size"),
    [
        ("openai", "1K", "16:9", (1824, 1024)),
        ("openai", "2K", "1:1", (2048, 2048)),
        ("openai", "4K", "1:1", (2880, 2880)),
        ("openai", "4K", "16:9", (3840, 2160)),
        ("openai", "4K", "1:3", (1280, 3840)),
        ("google", "2K", "1:1", (2048, 2048)),
        ("google", "4K", "2:3", (3392, 5056)),
        ("clipart", "2K", "4:1", (4096, 1024)),
        ("clipart", "4K", "2:3", (2336, 3504)),
    ],
)
def test_a_resolution_has_its_pixels(
    settings: Any, provider: str, resolution: str, ratio: str, size: tuple[int, int]
) -> None:
    [choice] = choices(settings, provider, aspectRatio=ratio, resolution=resolution)
    assert (choice.resolution, choice.width, choice.height) == (resolution, *size)


@pytest.mark.parametrize(
    "metadata", [{"provider": "stability"}, {"model": "gpt-image-2.6-flare"}, {"model": "gemini-2.5-flash-image"}]
)
def test_a_model_without_the_resolution_is_not_chosen(settings: Any, metadata: dict[str, str]) -> None:
    with pytest.raises(UnsupportedRequest) as refused:
        choices(settings, "openai", "stability", "google", resolution="2K", **metadata)
    assert refused.value.option == "resolution"
    assert refused.value.message.endswith("does not support the resolution 2K; it supports 1K.")


def test_a_fallback_goes_only_to_models_with_the_resolution(settings: Any) -> None:
    found = choices(settings, "stability", "openai", "google", "clipart", resolution="4K")
    assert [choice.provider for choice in found] == ["openai", "google", "clipart"]
    assert len(choices(settings, "stability", "openai", "google", "clipart", resolution="1K")) == 4


def test_a_size_of_less_than_half_the_pixels_does_not_count(settings: Any) -> None:
    small = {"2K": {"1:1": [1440, 1440], "3:2": [1920, 1280]}}
    ProviderModel.objects.filter(provider="clipart").update(larger_sizes=small)
    assert choices(settings, "clipart", resolution="2K", aspectRatio="3:2")
    with pytest.raises(UnsupportedRequest) as refused:
        choices(settings, "clipart", resolution="2K")
    assert refused.value.option == "resolution"
    assert refused.value.message.endswith("does not support the resolution 2K with the aspect ratio 1:1.")


@pytest.mark.parametrize(
    ("metadata", "price"),
    [
        ({"model": "gpt-image-2"}, "0.053"),
        ({"model": "gpt-image-2", "resolution": "2K"}, "0.212"),
        ({"model": "gpt-image-2", "resolution": "4K", "quality": "high"}, "1.688"),
        ({"model": "gemini-3.1-flash-image", "resolution": "2K", "quality": "low"}, "0.101"),
        ({"model": "gemini-3-pro-image", "resolution": "4K"}, "0.24"),
        ({"model": "openmoji-17", "resolution": "4K"}, "0"),
    ],
)
def test_a_larger_image_has_its_own_expected_price(settings: Any, metadata: dict[str, str], price: str) -> None:
    found = choices(settings, "openai", "google", "clipart", **metadata)
    assert catalogue.call_estimate(found[0], GenerationOptions.parse(metadata)) == Decimal(price)
