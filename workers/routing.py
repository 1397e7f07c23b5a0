"""The route of a request: the providers to try in one run, in their order."""

from __future__ import annotations

from dataclasses import replace

from generation.models.options import GenerationOptions
from generation.providers import catalogue, circuit_breaker
from generation.providers.catalogue import ModelChoice
from generation.providers.error_policy import says_model_is_unserved
from workers.providers.base import ProviderError


class Route:
    """The providers to call next: the configured order without those that have failed. Every method may read the
    database, and may be called again if it is unavailable."""

    def __init__(self, options: GenerationOptions) -> None:
        """Raises :class:`generation.providers.catalogue.UnsupportedRequest` if no configured model is suitable."""
        self._options = options
        self._unserved = circuit_breaker.unserved_models()
        #: The failures of this run, the newest last.
        self.problems: list[ProviderError] = []
        #: The models that have not been tried, the next one first.
        self.remaining = self._choices(options)
        self._set_aside = self._unserved
        if not self.remaining:
            # All suitable models are set aside. A call to one costs nothing, and it may be served again.
            self._set_aside = set()
            self.remaining = catalogue.choices(options)

    def failed(self, choice: ModelChoice, error: ProviderError) -> None:
        """Remove the provider from the route; if it does not serve the model, continue with its next model."""
        remaining = [other for other in self.remaining if other.provider != choice.provider]
        if says_model_is_unserved(error):
            self._unserved = self._unserved | {(choice.provider, choice.model)}
            remaining = self._choices(replace(self._options, provider=choice.provider)) + remaining
        self.problems.append(error)
        self.remaining = remaining

    def last_resort(self) -> list[ModelChoice]:
        """Return the models that are set aside, for when no other may be called. Return none at the second call."""
        choices = catalogue.choices(self._options) if self._set_aside else []
        set_aside, self._set_aside = self._set_aside, set()
        return [choice for choice in choices if (choice.provider, choice.model) in set_aside]

    def _choices(self, options: GenerationOptions) -> list[ModelChoice]:
        try:
            return catalogue.choices(options, unserved=self._unserved)
        except catalogue.UnsupportedRequest:
            return []
