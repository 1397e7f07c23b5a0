"""The registry of providers. Each is imported on first use, since a vendor's SDK is slow to load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final

from workers.providers.base import Provider

#: The class of each provider by its name in ``PROVIDERS``, unless its options name another one under ``class``.
PROVIDER_CLASSES: Final = {
    "clipart": "workers.providers.clipart:ClipartProvider",
    "google": "workers.providers.google:GoogleProvider",
    "openai": "workers.providers.openai:OpenAIProvider",
    "stability": "workers.providers.stability:StabilityProvider",
}


class Registry:
    """The configured providers, in the order of preference, each created once."""

    def __init__(self, names: Sequence[str], options: Mapping[str, Mapping[str, Any]]) -> None:
        """``options`` are the keyword arguments for the class of each configured provider, and optionally ``class``.
        Raises ``ValueError`` for an unknown name, or for a provider that is not configured."""
        unknown = [name for name in names if name not in PROVIDER_CLASSES]
        if unknown or not names:
            raise ValueError(f"no such provider: {', '.join(unknown) or '(none named)'}")
        if without_key := [name for name in names if name not in options]:
            raise ValueError(f"there is no key for {', '.join(without_key)}")
        self._names = tuple(names)
        self._options = options
        self._providers: dict[str, Provider] = {}

    def choose(self, name: str = "") -> Provider:
        """Return the provider of this name, or without a name the first. Raises ``LookupError`` if it is not
        configured."""
        name = name or self._names[0]
        if name not in self._names:
            raise LookupError(f"the provider {name} is not configured")
        if name not in self._providers:
            options = dict(self._options[name])
            module, _, attribute = options.pop("class", PROVIDER_CLASSES[name]).partition(":")
            self._providers[name] = getattr(import_module(module), attribute)(**options)
        return self._providers[name]
