"""Validation of ``ProviderModel`` rows.

``reference_limits`` says which images a model takes with a prompt: by role how many, and in ``total``. ``uploads``
bounds how many of them may be uploads. With ``mask`` the model takes a mask, and with ``required`` it needs an image of
each role that it takes.

Forms use :func:`mistakes`. The catalogue uses :func:`faults`, which ignores unknown words, since they break nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from generation.states import REFERENCE_ROLES, ImageFormat, ImageRole

#: The values of a request's ``quality`` and ``outputFormat``.
QUALITIES: Final = ("low", "medium", "high")
#: The values of a request's ``resolution`` with the pixels that they stand for, and the usual one.
RESOLUTIONS: Final[Mapping[str, int]] = {"1K": 1_048_576, "2K": 4_194_304, "4K": 8_294_400}
USUAL_RESOLUTION: Final = "1K"
_LARGER: Final = tuple(name for name in RESOLUTIONS if name != USUAL_RESOLUTION)
#: The options of a request, with the values that a capability may name; none if it names the whole option.
_OPTIONS: Final[Mapping[str, frozenset[str]]] = {
    "seed": frozenset(),
    "negativePrompt": frozenset(),
    "quality": frozenset(QUALITIES),
    "outputFormat": frozenset(ImageFormat.values),
    "aspectRatio": frozenset(),
    "imageStyle": frozenset(),
    "title": frozenset(),
    "previews": frozenset(),
}
#: A numeric aspect ratio, and the named ones.
RATIO: Final = re.compile(r"([1-9][0-9]{0,2}):([1-9][0-9]{0,2})")
NAMED_RATIOS: Final = {"square": "1:1", "portrait": "2:3", "landscape": "3:2"}
_TOKENS: Final = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
#: Pixels of one side.
_SIDES: Final = (16, 16_384)
#: The most pixels that are decoded; the largest image on offer, 4096 x 4096, and half as much again.
MAX_PIXELS: Final = 25_000_000
_ANY: Final = frozenset({"short", "step", "widest"})
_ANY_LARGER: Final = frozenset({"pixels", "longest", "step", "widest"})
_WIDEST: Final = 20
_PRICES: Final = frozenset({"per_image", "per_million", "estimate", "input_estimate"})
#: The limits on images: numbers, and switches.
_LIMITS: Final = frozenset({*REFERENCE_ROLES, ImageRole.SOURCE, "total", "uploads"})
_SWITCHES: Final = frozenset({"mask", "required"})
_MOST_IMAGES: Final = 100
#: The highest prices that a form accepts, in US dollars. A higher one is a typing error.
_DEAREST_IMAGE: Final = 1_000
_DEAREST_MILLION: Final = 100_000
_MOST_ENTRIES: Final = 100

#: A mistake: its field and its description.
Mistake = tuple[str, str]


def mistakes(
    *,
    capabilities: object,
    sizes: object,
    price_rule: object,
    larger_sizes: object = None,
    reference_limits: object = None,
) -> list[Mistake]:
    """Return all mistakes in a row, for forms."""
    found = faults(
        capabilities=capabilities,
        sizes=sizes,
        price_rule=price_rule,
        larger_sizes=larger_sizes,
        reference_limits=reference_limits,
    )
    faulty = {field for field, _ in found}
    if "capabilities" not in faulty:
        found += [("capabilities", text) for text in _unknown_capabilities(capabilities)]
    if "larger_sizes" not in faulty:
        found += [("larger_sizes", text) for text in _odd_larger_sizes(larger_sizes or {})]
    if "price_rule" not in faulty:
        found += [("price_rule", text) for text in _odd_prices(price_rule)]
        if "larger_sizes" not in faulty:
            found += [("price_rule", text) for text in _missing_estimates(price_rule, larger_sizes or {})]
    return found


def faults(
    *,
    capabilities: object,
    sizes: object,
    price_rule: object,
    larger_sizes: object = None,
    reference_limits: object = None,
) -> list[Mistake]:
    """Return the mistakes that make a row unusable. Without any, the catalogue can read it."""
    found = [("capabilities", text) for text in _faults_of_capabilities(capabilities)]
    found += [("sizes", text) for text in _faults_of_sizes(sizes)]
    found += [("larger_sizes", text) for text in _faults_of_larger_sizes({} if larger_sizes is None else larger_sizes)]
    found += [("price_rule", text) for text in _faults_of_prices(price_rule)]
    found += [
        ("reference_limits", text) for text in _faults_of_limits({} if reference_limits is None else reference_limits)
    ]
    return found


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


# --- Capabilities ---


def _faults_of_capabilities(value: object) -> Iterator[str]:
    if not isinstance(value, list):
        yield 'It must be a list of names, such as ["seed", "outputFormat:png"].'
    elif len(value) > _MOST_ENTRIES:
        yield f"It has more than {_MOST_ENTRIES} entries."
    else:
        yield from (f"{_shown(one)} is not a name in quotation marks." for one in value if not isinstance(one, str))


def _unknown_capabilities(value: Any) -> Iterator[str]:
    for one in value:
        option, colon, named = one.partition(":")
        if option not in _OPTIONS:
            yield f"There is no option {_shown(option)}. The options are {', '.join(_OPTIONS)}."
        elif colon and named not in _OPTIONS[option]:
            values = ", ".join(sorted(_OPTIONS[option])) or "none"
            yield f"{option} has no value {_shown(named)}. The values are {values}."


# --- Sizes ---


def _faults_of_sizes(value: object) -> Iterator[str]:
    if not isinstance(value, dict):
        yield 'It must map aspect ratios to pixels, such as {"1:1": [1024, 1024]}.'
        return
    if len(value) > _MOST_ENTRIES:
        yield f"It has more than {_MOST_ENTRIES} entries."
        return
    for name, size in value.items():
        if name == "any":
            yield from _faults_of_rule(size)
        elif not (isinstance(name, str) and (RATIO.fullmatch(name) or name in NAMED_RATIOS)):
            yield f"{_shown(name)} is not an aspect ratio, such as 3:2."
        elif not _is_size(size):
            yield f"{name} needs [width, height] in whole pixels from {_SIDES[0]} to {_SIDES[1]}, not {_shown(size)}."


def _is_size(size: object) -> bool:
    if not (isinstance(size, list) and len(size) == 2 and all(_is_whole(side, *_SIDES) for side in size)):
        return False
    return bool(size[0] * size[1] <= MAX_PIXELS)


def _faults_of_larger_sizes(value: object) -> Iterator[str]:
    if not isinstance(value, dict):
        yield 'It must map resolutions to sizes, such as {"2K": {"1:1": [2048, 2048]}}.'
    elif len(value) > _MOST_ENTRIES:
        yield f"It has more than {_MOST_ENTRIES} entries."
    else:
        yield from (f"{name}: {text}" for name in _LARGER for text in _faults_of_sizes(value.get(name, {})))


def _odd_larger_sizes(value: Any) -> Iterator[str]:
    """Yield resolutions that do not exist, and sizes that the catalogue would not use for their resolution."""
    if unknown := [name for name in value if name not in _LARGER]:
        yield f"The resolutions are {' and '.join(_LARGER)}, not {_shown(unknown[0])}."
    for name in value.keys() & set(_LARGER):
        for ratio, size in value[name].items():
            if ratio != "any" and not is_large_enough(name, *size):
                yield f"{name}: {ratio} needs at least {RESOLUTIONS[name] // 2:,} pixels."


def is_large_enough(resolution: str, width: int, height: int) -> bool:
    """Return whether an image of this size counts as one of this resolution: it has at least half of the pixels."""
    return resolution == USUAL_RESOLUTION or 2 * width * height >= RESOLUTIONS[resolution]


def _faults_of_rule(rule: object) -> Iterator[str]:
    """Check ``any``: the short side or the number of pixels with the longest side, the step that divides both sides,
    and the most extreme ratio."""
    if not (isinstance(rule, dict) and set(rule) in (_ANY, _ANY_LARGER)):
        yield (
            'any needs short, step and widest, such as {"short": 1024, "step": 16, "widest": 3}, '
            "or pixels and longest in place of short."
        )
        return
    step, widest = rule["step"], rule["widest"]
    for name in rule.keys() & {"short", "longest"}:
        if not _is_whole(rule[name], *_SIDES):
            yield f"{name} must be whole pixels from {_SIDES[0]} to {_SIDES[1]}, not {_shown(rule[name])}."
            return
    if "pixels" in rule and not _is_whole(rule["pixels"], _SIDES[0] ** 2, MAX_PIXELS):
        yield f"pixels must be a whole number from {_SIDES[0] ** 2} to {MAX_PIXELS:,}, not {_shown(rule['pixels'])}."
    elif not _is_number(widest) or not 1 <= widest <= _WIDEST:
        yield f"widest must be a number from 1 to {_WIDEST}, not {_shown(widest)}."
    elif "short" in rule and rule["short"] ** 2 * widest > MAX_PIXELS:
        yield f"short and widest make images of more than {MAX_PIXELS:,} pixels."
    elif not _is_whole(step, 1, _shortest(rule)):
        yield f"step must be whole pixels from 1 to the short side, not {_shown(step)}."


def _shortest(rule: Mapping[str, Any]) -> int:
    """Return the shortest side that the rule makes."""
    if "short" in rule:
        return int(rule["short"])
    widest = rule["widest"]
    return int(min(math.sqrt(rule["pixels"] / widest), rule["longest"] / widest))


# --- Images that are sent with a prompt ---


def _faults_of_limits(value: object) -> Iterator[str]:
    if not isinstance(value, dict):
        yield 'It must map roles to numbers, such as {"character": 16, "total": 16}, or be {} for none.'
        return
    for name, limit in value.items():
        if name in _SWITCHES:
            if not isinstance(limit, bool):
                yield f"{name} must be true or false, not {_shown(limit)}."
        elif name not in _LIMITS:
            yield f"There is no role {_shown(name)}. There are {', '.join(sorted(_LIMITS | _SWITCHES))}."
        elif not _is_whole(limit, 0, _MOST_IMAGES):
            yield f"{name} must be a whole number from 0 to {_MOST_IMAGES}, not {_shown(limit)}."


def _is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# --- Prices ---

_MOST_PRICE: Final = Decimal(1_000_000)


def amount(found: object) -> Decimal | None:
    """Return an amount of money from a string or number, or ``None`` for anything else.

    An amount beyond any price counts as unknown.
    """
    if not isinstance(found, str | int | float | Decimal) or isinstance(found, bool):
        return None
    try:
        price = Decimal(str(found))
    except (InvalidOperation, ValueError):
        return None
    return price if price.is_finite() and 0 <= price <= _MOST_PRICE else None


def _faults_of_prices(value: object) -> Iterator[str]:
    if not isinstance(value, dict):
        yield 'It must be a rule, such as {"per_image": "0.03"}, or {} where the price is not known.'
        return
    for name in ("per_image", "input_estimate"):
        if name in value and amount(value[name]) is None:
            yield f"{name} must be an amount in US dollars, not {_shown(value[name])}."
    for name in ("per_million", "estimate"):
        prices = value.get(name, {})
        if not isinstance(prices, dict) or len(prices) > _MOST_ENTRIES:
            yield f"{name} must map names to amounts, not {_shown(prices)}."
            continue
        for of, price in prices.items():
            if amount(price) is None:
                yield f"{name} of {_shown(of)} must be an amount in US dollars, not {_shown(price)}."
    for name in value.keys() & set(_LARGER):
        of_resolution = value[name]
        if isinstance(of_resolution, dict):  # without further resolutions, so that the depth is bounded
            of_resolution = {of: price for of, price in of_resolution.items() if of not in _LARGER}
        yield from (f"{name}: {text}" for text in _faults_of_prices(of_resolution))


def _odd_prices(value: Any, *, larger: tuple[str, ...] = _LARGER) -> Iterator[str]:
    """Yield mistakes in prices that can be computed with, but that no vendor has. ``larger`` are the resolutions that
    may have rules of their own."""
    for name in value.keys() & set(larger):
        yield from (f"{name}: {text}" for text in _odd_prices(value[name], larger=()))
    value = {name: price for name, price in value.items() if name not in larger}
    if unknown := sorted(set(value) - _PRICES):
        yield f"A rule has {', '.join(sorted(_PRICES))} or {' or '.join(_LARGER)}, not {_shown(unknown[0])}."
    if "per_image" in value and len(value) > 1:
        yield "per_image stands alone: with it, nothing is counted by tokens."
    for name in ("per_image", "input_estimate"):
        yield from _beyond(value.get(name, 0), name, _DEAREST_IMAGE)
    for of, price in value.get("estimate", {}).items():
        if of not in _OPTIONS["quality"]:
            yield f"estimate names low, medium or high, not {_shown(of)}."
        yield from _beyond(price, f"estimate of {of}", _DEAREST_IMAGE)
    for of, price in value.get("per_million", {}).items():
        if not _TOKENS.fullmatch(of):
            yield f"per_million names what is counted, such as output_image, not {_shown(of)}."
        yield from _beyond(price, f"per_million of {of}", _DEAREST_MILLION)


def _missing_estimates(value: Any, larger_sizes: Any) -> Iterator[str]:
    """Yield the resolutions that have no estimate of their own: with that of 1K, a budget would be exceeded."""
    if "estimate" in value:
        yield from (
            f"estimate is for images of {USUAL_RESOLUTION}, and {name} needs its own."
            for name in _LARGER
            if name in larger_sizes and not value.get(name, {}).keys() & {"estimate", "per_image"}
        )


def _beyond(price: object, what: str, most: int) -> Iterator[str]:
    known = amount(price)
    if known is not None and known > most:
        yield f"{what} is more than {most:,} US dollars."
