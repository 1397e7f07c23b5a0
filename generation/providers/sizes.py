"""The pixels of an image by aspect ratio and resolution, from a model's row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

from generation.models import ProviderModel, model_rows


@lru_cache(1024)
def aspect_ratio(wanted: str) -> str:
    """Return the ratio ``W:H`` in lowest terms for ``square``, ``portrait``, ``landscape`` or ``W:H``."""
    across, down = map(int, model_rows.NAMED_RATIOS.get(wanted, wanted).split(":"))
    divisor = math.gcd(across, down)
    return f"{across // divisor}:{down // divisor}"


def resolutions(model: ProviderModel) -> list[str]:
    """Return the resolutions in which the model makes images of at least some aspect ratios."""
    return [name for name in model_rows.RESOLUTIONS if of_model(model, name) or name == model_rows.USUAL_RESOLUTION]


def nearest_resolutions(width: int, height: int) -> list[str]:
    """Return the resolution nearest to this size, and then the smaller ones. A larger one would cost more than what was
    asked for."""

    def distance(name: str) -> float:
        return abs(math.log(width * height / model_rows.RESOLUTIONS[name]))

    names = list(model_rows.RESOLUTIONS)
    return names[names.index(min(names, key=distance)) :: -1]


def of_model(model: ProviderModel, resolution: str) -> Mapping[str, Any]:
    """Return the model's sizes in this resolution, none if it makes no such images."""
    sizes: Mapping[str, Any] = model.larger_sizes.get(resolution, {})
    return model.sizes if resolution == model_rows.USUAL_RESOLUTION else sizes


def of_ratio(sizes: Mapping[str, Any], ratio: str) -> tuple[str, int, int] | None:
    """Return the ratio as the vendor writes it, and width and height in pixels; None if it is not supported.

    ``sizes`` maps ratios to pixels. Its entry ``any`` is a rule for all other ratios: ``short`` is the short side,
    ``step`` divides both sides, ``widest`` is the most extreme ratio. In place of ``short`` it may have ``pixels``, the
    most that the image has, and ``longest``, its longest side.
    """
    for name, size in sizes.items():
        if name != "any" and aspect_ratio(name) == ratio:
            return name, size[0], size[1]
    rule = sizes.get("any")
    across, down = map(int, ratio.split(":"))
    if rule is None or max(across, down) > rule["widest"] * min(across, down):
        return None
    long, short = _sides(rule, Fraction(max(across, down), min(across, down)))
    return (ratio, long, short) if across >= down else (ratio, short, long)


def _sides(rule: Mapping[str, Any], ratio: Fraction) -> tuple[int, int]:
    """Return the long and the short side by the rule, for a ratio of at least 1."""
    step = rule["step"]
    if "short" in rule:
        return round(rule["short"] * ratio / step) * step, rule["short"]
    pixels, longest = rule["pixels"], rule["longest"]
    short = math.isqrt(int(pixels / ratio)) // step * step
    while short > step and ((long := round(short * ratio / step) * step) > longest or long * short > pixels):
        short -= step
    return round(short * ratio / step) * step, short
