"""An executor as a worker has one, with one provider, which a test gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from django.conf import settings

from generation import event_loop
from generation.requests.claims import Claim
from workers.executor import Executor
from workers.policies.rate_limit import RateLimiter
from workers.providers.base import Provider
from workers.runtime import RunningAttempt, Runtime

T = TypeVar("T")


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


def on_loop(act: Callable[[], T]) -> T:
    """Call the function on the event loop, where attempts live."""

    async def call() -> T:
        return act()

    return event_loop.loop.submit(call()).result(10)


def cancel_attempts(runtime: Runtime) -> None:
    """Cancel what the worker runs."""

    def cancel() -> None:
        for attempt in list(runtime._attempts.values()):
            attempt.cancel("cancelled")

    on_loop(cancel)


@contextmanager
def working_on(runtime: Runtime, claim: Claim) -> Iterator[RunningAttempt]:
    """Let the worker run an attempt of this claim, which does nothing by itself."""
    context = runtime.working_on(claim)
    attempt = on_loop(context.__enter__)
    try:
        yield attempt
    finally:
        on_loop(lambda: context.__exit__(None, None, None))
