"""Which models there are, what each can do, and which of them a request may be sent to: the rows of ``ProviderModel``.

Submits ask it before they accept a request, and workers before they send one, so the two cannot disagree.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from django.conf import settings

from generation.caching import ttl_cache
from generation.models import ProviderModel, model_rows
from generation.models.options import GenerationOptions
from generation.providers import pricing

logger = logging.getLogger(__name__)

#: For how many seconds a process goes by what it has read.
_LIFETIME: Final = 5
#: Rows that this process has logged as wrong.
_reported: Final[set[tuple[str, str]]] = set()
_MOST_REPORTED: Final = 1_000
_ROW_SKIPPED: Final = {"action": "model-row-skipped"}
#: What is believed of a model that the operator has named in the settings and nobody has described.
_UNDESCRIBED: Final = {
    "capabilities": ["quality", "outputFormat"],
    "sizes": {"1:1": [1024, 1024], "2:3": [1024, 1536], "3:2": [1536, 1024]},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelChoice:
    """A model that can do what is asked. ``width`` and ``height`` are the pixels it makes; ``notice`` says so where it
    stands in for another one."""

    provider: str
    model: str
    aspect_ratio: str
    width: int
    height: int
    capabilities: frozenset[str]
    price_rule: Mapping[str, Any]
    notice: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Deprecation:
    """A model that is retired, or will be on a date; ``successor`` is empty where nothing stands in for it."""

    provider: str
    model: str
    date: date | None
    is_over: bool
    successor: str


@dataclass(kw_only=True, eq=False)
class UnsupportedRequest(Exception):  # noqa: N818  an answer, not a mistake
    """No configured model can do it. ``option`` is the key of ``metadata`` that is the reason. It is ``temporary``
    where a model's row cannot be read, which staff can correct."""

    option: str
    message: str
    temporary: bool = False


def aspect_ratio(wanted: str) -> str:
    """``W:H`` in lowest terms for ``square``, ``portrait``, ``landscape`` or ``W:H``."""
    across, down = map(int, model_rows.NAMED_RATIOS.get(wanted, wanted).split(":"))
    divisor = math.gcd(across, down)
    return f"{across // divisor}:{down // divisor}"


def choices(options: GenerationOptions, *, gone: Collection[tuple[str, str]] = ()) -> list[ModelChoice]:
    """The models that can do it, one of each provider, in the order in which they are to be tried. ``gone`` are models,
    each with its provider, that count as retired. Raises :class:`UnsupportedRequest` where there is none."""
    found: list[ModelChoice] = []
    reasons: list[UnsupportedRequest] = []
    for provider in _providers(options.provider, options.model):
        try:
            found.append(choose(provider, options, gone={name for whose, name in gone if whose == provider}))
        except UnsupportedRequest as reason:
            reasons.append(reason)
    if not found:
        raise _most_informative(reasons)
    return found


def choose(provider: str, options: GenerationOptions, *, gone: Collection[str] = ()) -> ModelChoice:
    """The model of the provider that is sent to: the one that is named, or else the first that can do it, beginning
    with the one in the settings. Raises :class:`UnsupportedRequest`."""
    rows = _without(_rows(provider), provider, gone)
    ratio, restricting = aspect_ratio(options.aspect_ratio), options.restricting()
    named, default = options.model, settings.PROVIDER_MODELS.get(provider, "")
    reason = None
    for candidate in [named] if named else _candidates(rows, default):
        try:
            model, notice = _present(rows, candidate, provider)
            return _match(provider, model, restricting, ratio, notice)
        except UnsupportedRequest as why:
            reason = reason or why
    reason = reason or UnsupportedRequest(option="provider", message=f"{provider} has no model.")
    reason.temporary = bool(_described(provider).broken)
    raise reason


def deprecations(models: Iterable[tuple[str, str]], *, within: timedelta) -> list[Deprecation]:
    """Which of these models, each with its provider, are retired or soon will be."""
    found = []
    for provider, name in models:
        rows = _rows(provider)
        model = rows.get(name)
        if model is None or _is_present(model, on=datetime.now(UTC).date() + within):
            continue
        try:
            successor = _present(_without(rows, provider, [name]), name, provider)[0].name
        except UnsupportedRequest:
            successor = ""
        over = not _is_present(model)
        found.append(
            Deprecation(provider=provider, model=name, date=model.shutdown_date, is_over=over, successor=successor)
        )
    return found


def offered_models() -> dict[str, list[tuple[str, frozenset[str]]]]:
    """What may be asked for by name: for each configured provider its models, the usual one first, with what each
    honours."""
    found = {}
    for provider in settings.PROVIDERS:
        rows, broken = _rows(provider), _described(provider).broken
        names = dict.fromkeys(_candidates(rows, settings.PROVIDER_MODELS.get(provider, "")))
        names = {name: None for name in names if name not in broken}
        models = [rows.get(name) or ProviderModel(provider=provider, name=name, **_UNDESCRIBED) for name in names]
        found[provider] = [(model.name, frozenset(model.capabilities)) for model in models if _is_present(model)]
    return found


def estimate(options: GenerationOptions) -> Decimal | None:
    """Return the most that an image may cost in US dollars: the price of the dearest model of the route, since any of
    them may be asked in the end. None if no price is known. Raises :class:`UnsupportedRequest`."""
    return max(filter(None, (call_estimate(choice, options) for choice in choices(options))), default=None)


def call_estimate(choice: ModelChoice, options: GenerationOptions) -> Decimal | None:
    """Return the expected price of one call in US dollars, None if it is not known."""
    return pricing.estimate(choice.price_rule, quality=options.quality)


def broken_models() -> list[tuple[str, str]]:
    """The models whose rows cannot be read, each with its first mistake."""
    return [(str(model), ": ".join(faults[0])) for model in ProviderModel.objects.all() if (faults := _faults(model))]


# --- How a model is found ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _Described:
    """The models of one provider by their names, and the names of those whose rows cannot be read."""

    rows: dict[str, ProviderModel] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)


@ttl_cache(seconds=_LIFETIME)
def _models() -> dict[str, _Described]:
    found: dict[str, _Described] = {}
    for model in ProviderModel.objects.select_related("successor").order_by("provider", "preference", "name"):
        there = found.setdefault(model.provider, _Described())
        if faults := _faults(model):
            there.broken.add(model.name)
            _report(model, faults)
        else:
            there.rows[model.name] = model
    return found


def _faults(model: ProviderModel) -> list[model_rows.Mistake]:
    return model_rows.faults(capabilities=model.capabilities, sizes=model.sizes, price_rule=model.price_rule)


def _report(model: ProviderModel, faults: list[model_rows.Mistake]) -> None:
    """Log a row that is skipped, once for each process and mistake."""
    one = (str(model), str(faults[0]))
    if one not in _reported and len(_reported) < _MOST_REPORTED:
        _reported.add(one)
        what = ": ".join(faults[0])
        logger.error("the model %s is not used, since its row is wrong: %s", *(str(model), what), extra=_ROW_SKIPPED)


def _described(provider: str) -> _Described:
    return _models().get(settings.PROVIDER_ROWS.get(provider, provider)) or _Described()


def _rows(provider: str) -> dict[str, ProviderModel]:
    return _described(provider).rows


def _providers(wanted: str, model: str) -> list[str]:
    """Those that come into question, by their names and by that of the model."""
    if wanted and wanted not in settings.PROVIDERS:
        raise UnsupportedRequest(option="provider", message=f"The provider {wanted} is not configured.")
    names = [wanted] if wanted else list(settings.PROVIDERS)
    if not model:
        return names
    having = [name for name in names if model in _rows(name) or model == settings.PROVIDER_MODELS.get(name)]
    if not having:
        raise UnsupportedRequest(option="model", message=f"No model {model} is known of {', '.join(names)}.")
    return having


def _without(rows: Mapping[str, ProviderModel], provider: str, gone: Collection[str]) -> Mapping[str, ProviderModel]:
    """The rows as if these models were retired."""
    retired = {}
    for name in gone:
        successor = rows[name].successor if name in rows else None
        retired[name] = ProviderModel(provider=provider, name=name, enabled=False, successor=successor)
        retired[name].is_set_aside = True  # type: ignore[attr-defined]
    return {**rows, **retired}


def _candidates(rows: Mapping[str, ProviderModel], default: str) -> Iterator[str]:
    if default:
        yield default
    yield from (name for name, model in rows.items() if name != default and _is_present(model))


def _is_present(model: ProviderModel, *, on: date | None = None) -> bool:
    over = model.shutdown_date is not None and model.shutdown_date <= (on or datetime.now(UTC).date())
    return model.enabled and not over


def _present(rows: Mapping[str, ProviderModel], name: str, provider: str) -> tuple[ProviderModel, str]:
    """The model of this name, or what succeeds it where it is retired; and what is to be said of that."""
    model = rows.get(name)
    if model is None:
        if name in _described(provider).broken:
            raise UnsupportedRequest(option="model", message=f"The model {name} is described wrongly and not used.")
        return ProviderModel(provider=provider, name=name, **_UNDESCRIBED), ""
    seen = {model.name}
    while not _is_present(model):
        following = model.successor and rows.get(model.successor.name)
        if following is None or following.name in seen:
            raise UnsupportedRequest(option="model", message=f"The model {name} is retired.")
        model = following
        seen.add(model.name)
    if model.name == name:
        return model, ""
    why = "not available" if getattr(rows[name], "is_set_aside", False) else "retired"
    return model, f"The model {name} is {why}; {model.name} was used."


def _match(provider: str, model: ProviderModel, wanted: Mapping[str, Any], ratio: str, notice: str) -> ModelChoice:
    """Raises :class:`UnsupportedRequest` where the model cannot honour an option."""
    capabilities = frozenset(model.capabilities)
    for option, value in wanted.items():
        if option not in capabilities and f"{option}:{value}" not in capabilities:
            some = sorted(one.partition(":")[2] for one in capabilities if one.startswith(f"{option}:"))
            instead = f"; it takes {', '.join(some)}" if some else ""
            message = f"{provider} {model.name} does not honour {option}{instead}."
            raise UnsupportedRequest(option=option, message=message)
    size = _size(model.sizes, ratio)
    if size is None:
        known = ", ".join(sorted(model.sizes)) or "none"
        message = f"{provider} {model.name} does not make {ratio}; it makes {known}."
        raise UnsupportedRequest(option="aspectRatio", message=message)
    return ModelChoice(
        provider=provider,
        model=model.name,
        aspect_ratio=size[0],
        width=size[1],
        height=size[2],
        capabilities=capabilities,
        price_rule=model.price_rule,
        notice=notice,
    )


def _size(sizes: Mapping[str, Any], ratio: str) -> tuple[str, int, int] | None:
    """The ratio as the vendor writes it, width and height in pixels. ``sizes`` names them for each ratio; ``any`` gives
    instead the short side, what both sides divide by, and the most extreme ratio."""
    for name, size in sizes.items():
        if name != "any" and aspect_ratio(name) == ratio:
            return name, size[0], size[1]
    rule = sizes.get("any")
    across, down = map(int, ratio.split(":"))
    if rule is None or max(across, down) > rule["widest"] * min(across, down):
        return None
    short, step = rule["short"], rule["step"]
    long = round(short * max(across, down) / min(across, down) / step) * step
    return (ratio, long, short) if across >= down else (ratio, short, long)


def _most_informative(reasons: list[UnsupportedRequest]) -> UnsupportedRequest:
    """Of several providers' reasons the first; where they differ, all of them are told."""
    messages = list(dict.fromkeys(reason.message for reason in reasons))
    temporary = any(reason.temporary for reason in reasons)
    return UnsupportedRequest(option=reasons[0].option, message=" ".join(messages), temporary=temporary)
