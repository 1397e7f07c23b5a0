"""The model catalogue: models and their capabilities from ``ProviderModel``, and the choice of models for a request.

Submits use it before they accept a request, and workers before they send one, so the two cannot disagree.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from django.conf import settings

from generation.caching import ttl_cache
from generation.models import ProviderModel, model_rows
from generation.models.options import GenerationOptions
from generation.providers import pricing, sizes
from generation.providers.sizes import aspect_ratio
from generation.states import REFERENCE_ROLES, ImageRole

logger = logging.getLogger(__name__)

#: Seconds for which a process caches the rows.
_LIFETIME: Final = 5
#: Invalid rows that this process has logged, each with its first mistake.
_reported: Final[set[tuple[str, str]]] = set()
_MAX_REPORTED: Final = 1_000
_ROW_SKIPPED: Final = {"action": "model-row-skipped"}
#: The longer side divided by the shorter one, at most; no provider supports more.
MAX_RATIO: Final = 4
#: The roles that a model may take images of.
_ROLES: Final = (*REFERENCE_ROLES, ImageRole.SOURCE)
#: Characters that an image adds to the prompt, about.
_SENTENCE: Final = 150
#: Of a ratio that is computed from a size: its numbers then have at most three digits.
_MAX_DENOMINATOR: Final = 99
#: Assumed columns of a model that is named in the settings and has no row.
_DEFAULT_COLUMNS: Final = {
    "capabilities": ["quality", "outputFormat"],
    "sizes": {"1:1": [1024, 1024], "2:3": [1024, 1536], "3:2": [1536, 1024]},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelChoice:
    """A model that can fulfill the request. ``width`` and ``height`` are the pixels of its image; ``notice`` tells the
    client if it is the successor of the requested model."""

    provider: str
    model: str
    aspect_ratio: str
    width: int
    height: int
    resolution: str
    capabilities: frozenset[str]
    price_rule: Mapping[str, Any]
    reference_limits: Mapping[str, Any] = field(default_factory=dict)
    notice: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Deprecation:
    """A model that is retired, or will be on a date; ``successor`` is empty if it has none."""

    provider: str
    model: str
    date: date | None
    is_over: bool
    successor: str


@dataclass(kw_only=True, eq=False)
class UnsupportedRequest(Exception):  # noqa: N818  an answer, not a mistake
    """No configured model can fulfill the request because of ``option``, a key of ``metadata``. It is ``temporary`` if
    a model's row is invalid, which staff can correct."""

    option: str
    message: str
    temporary: bool = False


def choices(options: GenerationOptions, *, unserved: Collection[tuple[str, str]] = ()) -> list[ModelChoice]:
    """Return the models that can fulfill the request, one of each provider, in the order in which to try them.

    ``unserved`` are pairs of provider and model that count as retired. Raises :class:`UnsupportedRequest` if no model
    is left.
    """
    found: list[ModelChoice] = []
    reasons: list[UnsupportedRequest] = []
    for provider in _providers(options.provider, options.model):
        try:
            names = {name for model_provider, name in unserved if model_provider == provider}
            found.append(choose(provider, options, unserved=names))
        except UnsupportedRequest as reason:
            reasons.append(reason)
    if not found:
        raise _most_informative(reasons, options)
    return found


def choose(provider: str, options: GenerationOptions, *, unserved: Collection[str] = ()) -> ModelChoice:
    """Return the provider's model for the request: the requested model, or else the first that can fulfill it,
    beginning with the default in the settings. Raises :class:`UnsupportedRequest`."""
    rows = _retire(_rows(provider), provider, unserved)
    ratio = aspect_ratio(options.aspect_ratio)
    requested, default = options.model, settings.PROVIDER_MODELS.get(provider, "")
    first_reason = None
    for candidate in [requested] if requested else _candidates(rows, default):
        try:
            model, notice = _available_model(rows, candidate, provider)
            return _match(provider, model, options, ratio, notice)
        except UnsupportedRequest as reason:
            first_reason = first_reason or reason
    first_reason = first_reason or UnsupportedRequest(option="provider", message=f"{provider} has no model.")
    first_reason.temporary = bool(_provider_models(provider).broken)
    raise first_reason


def deprecations(models: Iterable[tuple[str, str]], *, within: timedelta) -> list[Deprecation]:
    """Return which of these models, each given with its provider, are retired or will be ``within`` this time."""
    found = []
    for provider, name in models:
        rows = _rows(provider)
        model = rows.get(name)
        if model is None or _is_available(model, on=datetime.now(UTC).date() + within):
            continue
        try:
            successor = _available_model(_retire(rows, provider, [name]), name, provider)[0].name
        except UnsupportedRequest:
            successor = ""
        is_over = not _is_available(model)
        found.append(
            Deprecation(provider=provider, model=name, date=model.shutdown_date, is_over=is_over, successor=successor)
        )
    return found


def offered_models() -> dict[str, list[ProviderModel]]:
    """Return the models that clients may request, by provider; the default model first."""
    offered = {}
    for provider in settings.PROVIDERS:
        rows, broken = _rows(provider), _provider_models(provider).broken
        names = dict.fromkeys(_candidates(rows, settings.PROVIDER_MODELS.get(provider, "")))
        names = {name: None for name in names if name not in broken}
        models = [rows.get(name) or ProviderModel(provider=provider, name=name, **_DEFAULT_COLUMNS) for name in names]
        offered[provider] = [model for model in models if _is_available(model)]
    return offered


def nearest_ratios(width: int, height: int) -> list[str]:
    """Return the aspect ratios that models on offer list, the most similar to this size first. The size's own ratio,
    rounded, is the first of all, since some models make any."""
    listed_sizes = [model.sizes for models in offered_models().values() for model in models]
    listed = {aspect_ratio(name) for names in listed_sizes for name in names if name != "any"}
    own = Fraction(width, height).limit_denominator(_MAX_DENOMINATOR)

    def distance(ratio: str) -> float:
        across, down = map(int, ratio.split(":"))
        return abs(math.log(across * height / (down * width)))

    first = [f"{own.numerator}:{own.denominator}"] if own and max(own, 1 / own) <= MAX_RATIO else []
    return list(dict.fromkeys(first + sorted(listed, key=distance)))


def estimate(options: GenerationOptions) -> Decimal | None:
    """Return the maximum cost of an image in US dollars, or None if no price is known.

    It is the price of the most expensive model of the route, since any of them may be called in the end. Raises
    :class:`UnsupportedRequest`.
    """
    return max(filter(None, (call_estimate(choice, options) for choice in choices(options))), default=None)


def first_of(models: Iterable[str], options: GenerationOptions) -> tuple[str, Decimal | None] | None:
    """Return the first of the models that can fulfill the request, with the maximum cost as :func:`estimate` does."""
    for model in models:
        with suppress(UnsupportedRequest):
            return model, estimate(replace(options, model=model))
    return None


def call_estimate(choice: ModelChoice, options: GenerationOptions) -> Decimal | None:
    """Return the expected price of one call in US dollars, or None if it is unknown."""
    inputs = len(options.references) + bool(options.mask_mode)
    return pricing.estimate(choice.price_rule, quality=options.quality, inputs=inputs)


def broken_models() -> list[tuple[str, str]]:
    """Return the models with an invalid row, each with its first mistake."""
    return [(str(model), ": ".join(faults[0])) for model in ProviderModel.objects.all() if (faults := _faults(model))]


# --- Choosing a model -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _ProviderModels:
    """The models of one provider by name, and the names of those with an invalid row."""

    rows: dict[str, ProviderModel] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)


@ttl_cache(seconds=_LIFETIME)
def _models() -> dict[str, _ProviderModels]:
    by_provider: dict[str, _ProviderModels] = {}
    for model in ProviderModel.objects.select_related("successor").order_by("provider", "preference", "name"):
        models = by_provider.setdefault(model.provider, _ProviderModels())
        if faults := _faults(model):
            models.broken.add(model.name)
            _report(model, faults)
        else:
            models.rows[model.name] = model
    return by_provider


def _faults(model: ProviderModel) -> list[model_rows.Mistake]:
    return model_rows.faults(
        capabilities=model.capabilities,
        sizes=model.sizes,
        price_rule=model.price_rule,
        larger_sizes=model.larger_sizes,
        reference_limits=model.reference_limits,
    )


def _report(model: ProviderModel, faults: list[model_rows.Mistake]) -> None:
    """Log an invalid row, once for each process and mistake."""
    report = (str(model), str(faults[0]))
    if report not in _reported and len(_reported) < _MAX_REPORTED:
        _reported.add(report)
        mistake = ": ".join(faults[0])
        logger.error("the model %s is not used, its row is invalid: %s", str(model), mistake, extra=_ROW_SKIPPED)


def _provider_models(provider: str) -> _ProviderModels:
    return _models().get(settings.PROVIDER_ROWS.get(provider, provider)) or _ProviderModels()


def _rows(provider: str) -> dict[str, ProviderModel]:
    return _provider_models(provider).rows


def _providers(requested: str, model: str) -> list[str]:
    """Return the providers that match the requested provider and model, each of which may be empty."""
    if requested and requested not in settings.PROVIDERS:
        raise UnsupportedRequest(option="provider", message=f"The provider {requested} is not configured.")
    names = [requested] if requested else list(settings.PROVIDERS)
    if not model:
        return names
    with_model = [name for name in names if model in _rows(name) or model == settings.PROVIDER_MODELS.get(name)]
    if not with_model:
        raise UnsupportedRequest(option="model", message=f"No model {model} is configured for {', '.join(names)}.")
    return with_model


def _retire(rows: Mapping[str, ProviderModel], provider: str, unserved: Collection[str]) -> Mapping[str, ProviderModel]:
    """Return the rows as if these models were retired."""
    retired = {}
    for name in unserved:
        successor = rows[name].successor if name in rows else None
        retired[name] = ProviderModel(provider=provider, name=name, enabled=False, successor=successor)
        retired[name].is_set_aside = True  # type: ignore[attr-defined]
    return {**rows, **retired}


def _candidates(rows: Mapping[str, ProviderModel], default: str) -> Iterator[str]:
    if default:
        yield default
    yield from (name for name, model in rows.items() if name != default and _is_available(model))


def _is_available(model: ProviderModel, *, on: date | None = None) -> bool:
    is_over = model.shutdown_date is not None and model.shutdown_date <= (on or datetime.now(UTC).date())
    return model.enabled and not is_over


def _available_model(rows: Mapping[str, ProviderModel], name: str, provider: str) -> tuple[ProviderModel, str]:
    """Return the model of this name, or if it is retired its first successor that is not, and a notice about that."""
    model = rows.get(name)
    if model is None:
        if name in _provider_models(provider).broken:
            raise UnsupportedRequest(option="model", message=f"The row of the model {name} is invalid.")
        return ProviderModel(provider=provider, name=name, **_DEFAULT_COLUMNS), ""
    seen = {model.name}
    while not _is_available(model):
        successor = model.successor and rows.get(model.successor.name)
        if successor is None or successor.name in seen:
            raise UnsupportedRequest(option="model", message=f"The model {name} is retired.")
        model = successor
        seen.add(model.name)
    if model.name == name:
        return model, ""
    why = "not available" if getattr(rows[name], "is_set_aside", False) else "retired"
    return model, f"The model {name} is {why}; {model.name} was used."


def _match(provider: str, model: ProviderModel, options: GenerationOptions, ratio: str, notice: str) -> ModelChoice:
    """Return the model as a choice. Raises :class:`UnsupportedRequest` if it does not support an option or takes no
    prompt of this length."""
    _check_images(f"{provider} {model.name}", model.reference_limits, options)
    if options.prompt_length + _SENTENCE * len(options.references) > model.max_prompt:
        message = f"{provider} {model.name} takes prompts of at most {model.max_prompt:,} characters."
        raise UnsupportedRequest(option="prompt", message=message)
    capabilities = frozenset(model.capabilities)
    for option, value in options.restricting().items():
        if option not in capabilities and f"{option}:{value}" not in capabilities:
            supported = sorted(entry.partition(":")[2] for entry in capabilities if entry.startswith(f"{option}:"))
            hint = f"; it supports {', '.join(supported)}" if supported else ""
            message = f"{provider} {model.name} does not support {option}{hint}."
            raise UnsupportedRequest(option=option, message=message)
    resolution = options.resolution
    available = sizes.of_model(model, resolution)
    if not available:
        makes = ", ".join(sizes.resolutions(model))
        message = f"{provider} {model.name} does not support the resolution {resolution}; it supports {makes}."
        raise UnsupportedRequest(option="resolution", message=message)
    size = sizes.of_ratio(available, ratio)
    if size is None:
        ratios = ", ".join(sorted(available)) or "none"
        message = f"{provider} {model.name} does not support the aspect ratio {ratio}; it supports {ratios}."
        raise UnsupportedRequest(option="aspectRatio", message=message)
    if not model_rows.is_large_enough(resolution, size[1], size[2]):
        message = f"{provider} {model.name} does not support the resolution {resolution} with the aspect ratio {ratio}."
        raise UnsupportedRequest(option="resolution", message=message)
    return ModelChoice(
        provider=provider,
        model=model.name,
        aspect_ratio=size[0],
        width=size[1],
        height=size[2],
        resolution=resolution,
        capabilities=capabilities,
        price_rule=pricing.rule_for(model.price_rule, resolution),
        reference_limits=model.reference_limits,
        notice=notice,
    )


def _check_images(name: str, limits: Mapping[str, Any], options: GenerationOptions) -> None:
    """Raise :class:`UnsupportedRequest` if the model does not take the images of the request."""
    counts = Counter(options.references)
    missing = [role for role in _ROLES if limits.get("required") and limits.get(role) and role not in counts]
    if missing:
        raise UnsupportedRequest(option="references", message=f"{name} needs an image of the role {missing[0]}.")
    if not counts:
        return
    found = [(count, limits.get(role, 0), f"references of the role {role}") for role, count in counts.items()]
    # A mask that the model does not take as such is sent as an image, if it is to be a hint.
    total = len(options.references) + (options.mask_mode == "hint" and not limits.get("mask"))
    found.append((total, limits.get("total", total), "images"))
    found.append((options.uploads, limits.get("uploads", options.uploads), "uploads"))
    for count, most, what in found:
        if count > most:
            amount = f"at most {most} {what}" if most else f"no {what}"
            raise UnsupportedRequest(option="references", message=f"{name} takes {amount}.")


def _most_informative(reasons: list[UnsupportedRequest], options: GenerationOptions) -> UnsupportedRequest:
    """Merge the providers' reasons: the option of the first, and all different messages."""
    messages = list(dict.fromkeys(reason.message for reason in reasons))
    if options.references and all(reason.option == "references" for reason in reasons):
        counts = Counter(options.references).items()
        images = " and ".join(f"{count} references of role {role}" for role, count in counts)
        messages.insert(0, f"No configured model takes {images}.")
    temporary = any(reason.temporary for reason in reasons)
    return UnsupportedRequest(option=reasons[0].option, message=" ".join(messages), temporary=temporary)
