"""The options of a request, parsed from its metadata."""

from __future__ import annotations

from generation.models.options import GenerationOptions, changing


def test_a_missing_option_has_its_default() -> None:
    assert GenerationOptions.parse({"mine": 1}) == GenerationOptions()
    assert GenerationOptions().restricting() == {}


def test_seed_zero_is_an_option_that_a_model_must_honor() -> None:
    assert GenerationOptions.parse({"seed": 0, "negativePrompt": ""}).restricting() == {"seed": 0}


def test_blank_and_missing_options_stay_different_in_cache_keys() -> None:
    names = ("title", "imageStyle", "quality", "seed", "negativePrompt", "outputFormat")
    assert changing({}) == dict.fromkeys(names)
    assert changing({"resolution": "1K"}) == changing({"resolution": "300 dpi"}) == changing({})
    assert changing({"resolution": "2K"}) == changing({}) | {"resolution": "2K"}
    assert changing({"title": "", "seed": 0, "mine": 1}) == dict.fromkeys(names) | {"title": "", "seed": 0}
