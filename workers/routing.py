"""Which provider is asked next: the configured order, what has failed already, and what may go to somebody else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from generation import catalogue
from generation.catalogue import Choice
from generation.states import RETRYABLE, ErrorCode
from workers.providers.base import ProviderError

#: A safety system's verdict is not to be slipped past by asking around.
_REFUSALS: Final = frozenset({ErrorCode.REFUSED_INPUT, ErrorCode.REFUSED_OUTPUT})
#: What says nothing of the provider, so that another one would fare no better.
_OURS: Final = frozenset({ErrorCode.STORAGE, ErrorCode.INTERNAL})
#: A picture came and was paid for; a second one is paid for as well, which is for the client to decide.
_PAID: Final = frozenset({ErrorCode.INVALID_IMAGE})
#: What was not paid for: to ask somebody else instead uses up no attempt.
_FREE: Final = frozenset(
    {
        ErrorCode.RATE_LIMITED,
        ErrorCode.QUOTA_EXHAUSTED,
        ErrorCode.AUTH,
        ErrorCode.UNAVAILABLE,
        ErrorCode.MODEL_RETIRED,
        ErrorCode.INVALID_REQUEST,
    }
)


class Route:
    """The way of one run of a request through the providers that can do it."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        """Raises :class:`generation.catalogue.Impossible` where there is none."""
        self._metadata = metadata
        #: Those that have not been asked, the next one first.
        self.left = catalogue.choices(metadata)
        self._asked: set[tuple[str, str]] = set()
        self._errors: list[ProviderError] = []

    def failed(self, choice: Choice, error: ProviderError) -> None:
        """Strike off what was asked. A model that is gone is followed by what succeeds it."""
        self._errors.append(error)
        self._asked.add((choice.provider, choice.model))
        self.left = [one for one in self.left if one.provider != choice.provider]
        if error.code == ErrorCode.MODEL_RETIRED:
            catalogue.retire(choice.provider, choice.model)
            self.left = [one for one in self._following(choice.provider) if self._is_new(one)] + self.left

    def may_go_on(self, error: ProviderError) -> bool:
        """Whether another provider may be asked after this error, and there is one."""
        if error.code in _REFUSALS:
            return bool(self.left) and self._metadata.get("onRefusal") == "fallback"
        return bool(self.left) and error.code not in _OURS | _PAID

    @staticmethod
    def counts(error: ProviderError) -> bool:
        """Whether the attempt that failed so is used up although another provider is asked."""
        return error.code not in _FREE

    @property
    def best_hope(self) -> ProviderError:
        """Of all the failures the one that says most about trying again: told to wait, then what may pass."""

        def hope(error: ProviderError) -> int:
            return (error.code in RETRYABLE) + (error.code == ErrorCode.RATE_LIMITED)

        return max(reversed(self._errors), key=hope)

    def _following(self, provider: str) -> list[Choice]:
        try:
            return catalogue.choices({**self._metadata, "provider": provider})
        except catalogue.Impossible:
            return []

    def _is_new(self, choice: Choice) -> bool:
        return (choice.provider, choice.model) not in self._asked
