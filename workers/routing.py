"""The way of one run of a request through the providers that can do it."""

from __future__ import annotations

from dataclasses import replace

from generation.models.options import GenerationOptions
from generation.providers import catalogue, circuit_breaker
from generation.providers.catalogue import ModelChoice
from generation.providers.error_policy import says_model_is_unserved
from workers.providers.base import ProviderError
from workers.resilience import retry_while_unavailable


class Route:
    """The providers to ask next: the configured order without those that have failed."""

    def __init__(self, options: GenerationOptions) -> None:
        """Raises :class:`generation.providers.catalogue.UnsupportedRequest` if no configured model can do it."""
        self._options = options
        self._unserved = retry_while_unavailable(circuit_breaker.unserved_models)
        #: The failures of this run, the newest last.
        self.problems: list[ProviderError] = []
        #: Those that have not been asked, the next one first.
        self.left = self._choices(options)
        self._set_aside = self._unserved
        if not self.left:
            # All that could do it are set aside. Asking costs nothing, and one of them may be served again.
            self._set_aside = set()
            self.left = retry_while_unavailable(lambda: catalogue.choices(options))

    def failed(self, choice: ModelChoice, error: ProviderError) -> None:
        """Drop the provider from the route; after an error about one model go on with the provider's next model."""
        self.problems.append(error)
        self.left = [one for one in self.left if one.provider != choice.provider]
        if says_model_is_unserved(error):
            self._unserved = self._unserved | {(choice.provider, choice.model)}
            self.left = self._choices(replace(self._options, provider=choice.provider)) + self.left

    def last_resort(self) -> list[ModelChoice]:
        """Return what is set aside, for where nothing else may be asked. Nothing at the second time."""
        some, self._set_aside = self._set_aside, set()
        found = retry_while_unavailable(lambda: catalogue.choices(self._options)) if some else []
        return [one for one in found if (one.provider, one.model) in some]

    def _choices(self, options: GenerationOptions) -> list[ModelChoice]:
        try:
            return retry_while_unavailable(lambda: catalogue.choices(options, unserved=self._unserved))
        except catalogue.UnsupportedRequest:
            return []
