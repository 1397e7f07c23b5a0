"""System checks that find invalid provider settings before the first request."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from workers.providers.registry import PROVIDER_CLASSES, Registry


@register
def providers_are_known(**_: Any) -> list[CheckMessage]:
    """``workers.E001``: ``PROVIDERS`` is empty, or names an unknown provider or one without a key."""
    try:
        Registry(settings.PROVIDERS, settings.PROVIDER_OPTIONS)
    except ValueError as error:
        hint = f"The known providers are {', '.join(PROVIDER_CLASSES)}."
        return [Error(f"PROVIDERS: {error}", hint=hint, id="workers.E001")]
    return []


@register
def transports_are_installed(**_: Any) -> list[CheckMessage]:
    """``workers.E002``: Stability is configured for gRPC, but its SDK is not installed."""
    uses_grpc = "stability" in settings.PROVIDERS and settings.STABILITY_TRANSPORT == "grpc"
    if not uses_grpc or find_spec("stability_sdk"):
        return []
    return [
        Error(
            "STABILITY_TRANSPORT=grpc needs stability-sdk, which is not installed",
            hint="It does not support Python 3.13: use Python 3.11 or 3.12, or STABILITY_TRANSPORT=rest.",
            id="workers.E002",
        )
    ]
