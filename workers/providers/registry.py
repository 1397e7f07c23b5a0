"""Which providers there are. Each is imported on first use, since a vendor's SDK is slow to load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final

from workers.providers.base import Provider

#: The name in ``PROVIDERS`` → where its class is, unless its options name another under ``class``.
PROVIDER_CLASSES: Final = {
    "clipart": "workers.providers.clipart:ClipartProvider",
    "google": "workers.providers.google:GoogleProvider",
    "openai": "workers.providers.openai:OpenAIProvider",
    "stability": "workers.providers.stability:StabilityProvider",
}


class Registry:
    """The configured providers, in the order of preference, each made once."""

    def __init__(self, names: Sequence[str], options: Mapping[str, Mapping[str, Any]]) -> None:
        """``options`` are what the class of each configured provider is made with, and with ``class`` which. Raises
        ``ValueError`` for a name that is no provider, or that is not configured."""
        unknown = [name for name in names if name not in PROVIDER_CLASSES]
        if unknown or not names:
            raise ValueError(f"no such provider: {', '.join(unknown) or '(none named)'}")
        if keyless := [name for name in names if name not in options]:
            raise ValueError(f"there is no key for {', '.join(keyless)}")
        self._names = tuple(names)
        self._options = options
        self._made: dict[str, Provider] = {}

    def choose(self, wanted: str = "") -> Provider:
        """The provider of this name if it is configured, else the first. Raises ``LookupError`` if it is not."""
        name = wanted or self._names[0]
        if name not in self._names:
            raise LookupError(f"the provider {name} is not configured")
        if name not in self._made:
            options = dict(self._options[name])
            module, _, attribute = options.pop("class", PROVIDER_CLASSES[name]).partition(":")
            self._made[name] = getattr(import_module(module), attribute)(**options)
        return self._made[name]
