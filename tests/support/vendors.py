"""The adapters of the vendors against a fake, and a worker in this process that asks them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.auth.models import User

from generation import caching, event_loop
from generation.db.functions import Now
from generation.models import GenerationAttempt, GenerationQueue, GenerationRequest, ProviderState
from tests.fakes.control import FakeProvider
from tests.support.requests import queued
from workers.executor import Executor
from workers.policies.rate_limit import RateLimiter
from workers.providers.registry import Registry
from workers.runtime import Runtime

#: In which order they are asked, unless a test says otherwise; the last one costs nothing and is always there.
ORDER = ("openai", "stability", "clipart")


class Vendors:
    """Providers by their names in the settings, and what came of asking them."""

    def __init__(self, fake: FakeProvider, settings: Any) -> None:
        self.fake = fake
        self._settings = settings
        addresses = {"openai": fake.openai_url, "stability": fake.stability_url}
        vendors = {
            name: {"api_key": "sk-only-for-tests", "base_url": url, "timeout": 60.0} for name, url in addresses.items()
        }
        place = {"project": "", "location": ""}
        google = {"api_key": "AIza-only-for-tests", "base_url": fake.google_url, "timeout": 60.0, **place}
        settings.PROVIDER_OPTIONS = {"clipart": {}, **vendors, "google": google}
        settings.PROVIDER_MODELS = {"openai": "gpt-image-2", "stability": "core", "google": "gemini-3.1-flash-image"}
        self._registry = Registry((*ORDER, "google"), settings.PROVIDER_OPTIONS)
        self.use(*ORDER)

    def use(self, *names: str) -> None:
        """These are configured, in this order."""
        self._settings.PROVIDERS = list(names)
        caching.clear_all()

    def run(self, request: GenerationRequest, *, runtime: Runtime | None = None) -> GenerationRequest:
        """What a worker does on a message for this request; the request after it."""
        executor = Executor(
            runtime=runtime or Runtime(slots=1),
            providers=self._registry,
            rates=RateLimiter(self._settings.REDIS_URL),
        )
        executor.run(request.pk)
        request.refresh_from_db()
        return request

    def ask(self, owner: User, **more: Any) -> GenerationRequest:
        """Submit and run."""
        return self.run(queued(owner, **more))

    def run_again(self, request: GenerationRequest) -> GenerationRequest:
        """As soon as its time has come."""
        GenerationQueue.objects.filter(pk=request.pk).update(available_at=Now())
        return self.run(request)

    @property
    def called(self) -> list[str]:
        """Whose wire was used, call by call."""
        return [call.vendor for call in self.fake.journal()]

    def close(self) -> None:
        """Close the connections."""
        for name in ("openai", "stability", "google"):
            provider: Any = self._registry.choose(name)
            event_loop.loop.submit(provider.aclose()).result(10)


@contextmanager
def vendors_at(fake: FakeProvider, settings: Any) -> Iterator[Vendors]:
    """Vendors whose fake remembers nothing of another test."""
    fake.reset()
    vendors = Vendors(fake, settings)
    try:
        yield vendors
    finally:
        vendors.close()


def attempts(request: GenerationRequest) -> list[tuple[str, str]]:
    """Of each claim whom it asked and what came of it: the error's code, or else the outcome."""
    rows = GenerationAttempt.objects.filter(request=request).order_by("claim")
    return [(row.provider, row.error_code or row.outcome) for row in rows]


def end_pauses() -> None:
    """Let the time pass for which breakers are open."""
    ProviderState.objects.filter(open_until__isnull=False).update(open_until=Now())
