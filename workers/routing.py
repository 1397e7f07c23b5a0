"""Which provider is asked next: the configured order, what has failed already, and what may go to somebody else."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from generation import catalogue
from generation.catalogue import Choice
from generation.states import RETRYABLE, ErrorCode
from workers.patience import patiently
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
        self.left = patiently(lambda: catalogue.choices(metadata))
        self._gone: set[tuple[str, str]] = set()
        self._errors: list[ProviderError] = []

    def failed(self, choice: Choice, error: ProviderError) -> None:
        """Strike off what was asked. A model that is gone is followed by what succeeds it."""
        self._errors.append(error)
        self.left = [one for one in self.left if one.provider != choice.provider]
        if error.code == ErrorCode.MODEL_RETIRED:
            self._gone.add((choice.provider, choice.model))
            self.left = self._following(choice.provider) + self.left

    def succeeded(self, choice: Choice) -> None:
        """Since the provider answers for this model, another one that it did not know is really gone. Without that it
        may be the address that is wrong, and every model would seem to be."""
        for provider, model in self._gone:
            if provider == choice.provider:
                patiently(partial(catalogue.retire, provider, model))

    def may_go_on(self, error: ProviderError) -> bool:
        """Whether another provider may be asked after this error, and there is one."""
        return bool(self.left) and self._is_open_to_others(error)

    @staticmethod
    def counts(error: ProviderError) -> bool:
        """Whether the attempt that failed so is used up although another provider is asked."""
        return error.code not in _FREE and error.detail.get("sent") is not False

    @property
    def best_hope(self) -> ProviderError:
        """Of all the failures the one that says most about trying again: told to wait, then what may pass. What nobody
        else may be asked after has the last word."""

        def hope(error: ProviderError) -> int:
            return (error.code in RETRYABLE) + (error.code == ErrorCode.RATE_LIMITED)

        last = self._errors[-1]
        return max(reversed(self._errors), key=hope) if self._is_open_to_others(last) else last

    def _is_open_to_others(self, error: ProviderError) -> bool:
        if error.code in _REFUSALS:
            return bool(self._metadata.get("onRefusal") == "fallback")
        return error.code not in _OURS | _PAID

    def _following(self, provider: str) -> list[Choice]:
        wanted = {**self._metadata, "provider": provider}
        try:
            return patiently(lambda: catalogue.choices(wanted, gone=self._gone))
        except catalogue.Impossible:
            return []
