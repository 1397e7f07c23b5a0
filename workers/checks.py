"""System checks: settings that cannot work, found before the first request."""

from __future__ import annotations

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
