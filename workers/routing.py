"""The route of a request: the providers to try in one run, in their order."""

from __future__ import annotations

from dataclasses import replace

from generation.models.options import GenerationOptions
from generation.providers import catalogue, circuit_breaker
from generation.providers.catalogue import ModelChoice
from generation.providers.error_policy import says_model_is_unserved
from workers.providers.base import ProviderError
from workers.resilience import retry_while_unavailable


class Route:
    """The providers to call next: the configured order without those that have failed."""

    def __init__(self, options: GenerationOptions) -> None:
        """Raises :class:`generation.providers.catalogue.UnsupportedRequest` if no configured model is suitable."""
        self._options = options
        self._unserved = retry_while_unavailable(circuit_breaker.unserved_models)
        #: The failures of this run, the newest last.
        self.problems: list[ProviderError] = []
        #: The models that have not been tried, the next one first.
        self.remaining = self._choices(options)
        self._set_aside = self._unserved
        if not self.remaining:
            # All suitable models are set aside. A call to one costs nothing, and it may be served again.
            self._set_aside = set()
            self.remaining = retry_while_unavailable(lambda: catalogue.choices(options))

    def failed(self, choice: ModelChoice, error: ProviderError) -> None:
        """Remove the provider from the route; if it does not serve the model, continue with its next model."""
        self.problems.append(error)
        self.remaining = [other for other in self.remaining if other.provider != choice.provider]
        if says_model_is_unserved(error):
            self._unserved = self._unserved | {(choice.provider, choice.model)}
            self.remaining = self._choices(replace(self._options, provider=choice.provider)) + self.remaining

    def last_resort(self) -> list[ModelChoice]:
        """Return the models that are set aside, for when no other may be called. Return none at the second call."""
        set_aside, self._set_aside = self._set_aside, set()
        choices = retry_while_unavailable(lambda: catalogue.choices(self._options)) if set_aside else []
        return [choice for choice in choices if (choice.provider, choice.model) in set_aside]

    def _choices(self, options: GenerationOptions) -> list[ModelChoice]:
        try:
            return retry_while_unavailable(lambda: catalogue.choices(options, unserved=self._unserved))
        except catalogue.UnsupportedRequest:
            return []
