"""System checks: settings that cannot work, found before the first request."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from workers.providers.registry import PROVIDER_CLASSES, Registry


@register
def providers_are_known(**_: Any) -> list[CheckMessage]:
    """``workers.E001``: ``PROVIDERS`` names something that is no provider, or has no key, or nothing."""
    try:
        Registry(settings.PROVIDERS, settings.PROVIDER_OPTIONS)
    except ValueError as error:
        return [Error(f"PROVIDERS: {error}", hint=f"There is {', '.join(PROVIDER_CLASSES)}.", id="workers.E001")]
    return []


@register
def transports_are_installed(**_: Any) -> list[CheckMessage]:
    """``workers.E002``: Stability is to be reached over gRPC, and its SDK is not installed."""
    wanted = "stability" in settings.PROVIDERS and settings.STABILITY_TRANSPORT == "grpc"
    if not wanted or find_spec("stability_sdk"):
        return []
    return [
        Error(
            "STABILITY_TRANSPORT=grpc needs stability-sdk, which is not installed",
            hint="There is none for Python 3.13: use Python 3.11 or 3.12, or STABILITY_TRANSPORT=rest.",
            id="workers.E002",
        )
    ]
