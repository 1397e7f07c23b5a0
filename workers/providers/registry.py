"""Which providers there are. Each is imported on first use, since a vendor's SDK is slow to load."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Final

from workers.providers.base import Provider

#: The name in ``PROVIDERS`` → where its class is.
PROVIDER_CLASSES: Final = {"clipart": "workers.providers.clipart:ClipartProvider"}


class Registry:
    """The configured providers, in the order of preference, each made once."""

    def __init__(self, names: Sequence[str]) -> None:
        """Raises ``ValueError`` for a name that is no provider."""
        unknown = [name for name in names if name not in PROVIDER_CLASSES]
        if unknown or not names:
            raise ValueError(f"no such provider: {', '.join(unknown) or '(none named)'}")
        self._names = tuple(names)
        self._made: dict[str, Provider] = {}

    def choose(self, wanted: str = "") -> Provider:
        """The provider of this name if it is configured, else the first. Raises ``LookupError`` if it is not."""
        name = wanted or self._names[0]
        if name not in self._names:
            raise LookupError(f"the provider {name} is not configured")
        if name not in self._made:
            module, _, attribute = PROVIDER_CLASSES[name].partition(":")
            self._made[name] = getattr(import_module(module), attribute)()
        return self._made[name]
