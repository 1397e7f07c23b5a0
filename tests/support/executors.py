"""An executor as a worker has one, with one provider, which a test gives."""

from __future__ import annotations

from django.conf import settings

from workers.executor import Executor
from workers.policies.rate_limit import RateLimiter
from workers.providers.base import Provider
from workers.runtime import Runtime


class Only:
    """A registry of one."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def choose(self, wanted: str = "") -> Provider:
        return self._provider


def executor(provider: Provider, runtime: Runtime | None = None) -> Executor:
    """Runs what there is in the calling thread."""
    return Executor(
        runtime=runtime or Runtime(slots=1),
        providers=Only(provider),  # type: ignore[arg-type]
        rates=RateLimiter(settings.REDIS_URL),
    )
