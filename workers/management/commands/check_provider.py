"""The command ``manage.py check_provider``: one real call with the configured key, without the queue."""

from __future__ import annotations

import asyncio
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from generation.identifiers import new_request_id
from generation.models import GenerationRequest
from generation.models.options import GenerationOptions
from generation.providers import catalogue, circuit_breaker, pricing
from generation.providers.catalogue import ModelChoice
from generation.states import ADVICE, ErrorCode, GenerationType
from workers import image_check, prompts
from workers.image_check import CheckedImage
from workers.providers.base import ImageAnswer, ImageRequest, Provider, ProviderError
from workers.providers.registry import PROVIDER_CLASSES, Registry

_PROMPT: Final = "A friendly dragon playing in a garden"
_NOT_CONFIGURED: Final = 2


class Command(BaseCommand):
    # The command reports itself whether the provider is configured.
    requires_system_checks = ()
    help = (
        "Requests one image from a provider with the configured key, and shows the result. The provider charges for the"
        " image. Exits with 1 if the call fails, and with 2 if the provider is not configured."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME", help=", ".join(PROVIDER_CLASSES))
        parser.add_argument("--model", default="", help="by default the model in the settings")
        parser.add_argument("--prompt", default=_PROMPT, help=f'by default "{_PROMPT}"')
        parser.add_argument("--save", metavar="FILE", type=Path, help="file to write the image to")

    def handle(self, *args: Any, **options: Any) -> None:
        provider, save = _provider(options["name"]), options["save"]
        if save and not save.parent.is_dir():
            raise CommandError(f"There is no folder {save.parent}.")  # before the paid call
        request = GenerationRequest(id=new_request_id(), type=GenerationType.ILLUSTRATION, prompt=options["prompt"])
        try:
            choice = catalogue.choose(provider.name, GenerationOptions(model=options["model"]))
            image_request = prompts.build(request, choice)
        except catalogue.UnsupportedRequest as reason:
            raise CommandError(reason.message, returncode=_NOT_CONFIGURED) from None
        except Error:
            raise CommandError("The models cannot be read from the database; manage.py doctor says why.") from None
        self.stdout.write(f"Requesting one image from {choice.provider} with {choice.model}. {_price(choice)}")
        self.stdout.flush()
        started = time.monotonic()
        try:
            answer = asyncio.run(_generate(provider, image_request))
            duration = time.monotonic() - started
            image = image_check.check(answer.data, requested=image_request.output_format)
        except ProviderError as error:
            self._report_failure(error, choice, time.monotonic() - started)
            sys.exit(1)
        if save:
            save.write_bytes(image.data)
        self._table(_described(choice, answer, image, duration) | ({"saved": str(save)} if save else {}))
        if circuit_breaker.is_open(choice.provider):
            self.stdout.write(f"It is suspended at the moment; manage.py resume_provider {choice.provider} ends that.")

    def _report_failure(self, error: ProviderError, choice: ModelChoice, duration: float) -> None:
        self.stdout.write(self.style.ERROR(error.message))
        rows = {
            "provider": choice.provider,
            "model": choice.model,
            "took": f"{duration:.1f} s",
            "code": error.code,
            "wait": f"{error.retry_after:g} s" if error.retry_after else "",
            "categories": ", ".join(error.detail.get("categories", ())),
            "request id": error.provider_request_id,
            "fix": ADVICE[error.code],
        }
        self._table({name: value for name, value in rows.items() if value})

    def _table(self, rows: dict[str, str]) -> None:
        width = max(map(len, rows))
        for name, value in rows.items():
            self.stdout.write(f"  {name:<{width}}  {value}")


def _provider(name: str) -> Provider:
    if name not in PROVIDER_CLASSES:
        names = ", ".join(PROVIDER_CLASSES)
        raise CommandError(f"There is no provider {name}; use one of {names}.", returncode=_NOT_CONFIGURED)
    if name not in settings.PROVIDER_OPTIONS:
        message = f"{name} is not configured: {name.upper()}_API_KEY is not set."
        raise CommandError(message, returncode=_NOT_CONFIGURED)
    return Registry([name], settings.PROVIDER_OPTIONS).choose(name)


def _price(choice: ModelChoice) -> str:
    estimate = pricing.estimate(choice.price_rule)
    if estimate is None:
        return "The price is unknown; the provider charges its usual price."
    return f"It costs about USD {estimate.normalize():f}." if estimate else "It costs nothing."


async def _generate(provider: Provider, request: ImageRequest) -> ImageAnswer:
    seconds = settings.PROVIDER_TIMEOUT.total_seconds()
    try:
        async with asyncio.timeout(seconds):
            return await provider.generate(request)
    except TimeoutError:
        raise ProviderError(f"No image within {seconds:g} s", code=ErrorCode.TIMEOUT) from None
    finally:
        if close := getattr(provider, "aclose", None):
            await close()


def _described(choice: ModelChoice, answer: ImageAnswer, image: CheckedImage, duration: float) -> dict[str, str]:
    cost = pricing.cost(choice.price_rule, answer.usage)
    rows = {
        "provider": choice.provider,
        "model": answer.model,
        "notice": " ".join(filter(None, (choice.notice, image.notice))),
        "options": ", ".join(sorted(choice.capabilities)) or "none",
        "took": f"{duration:.1f} s",
        "format": image.content_type,
        "pixels": f"{image.width} x {image.height}",
        "bytes": f"{len(image.data):,}",
        "seed": "not reported" if answer.seed is None else str(answer.seed),
        "request id": answer.provider_request_id or "not reported",
        "usage": ", ".join(f"{name} {amount}" for name, amount in answer.usage.items()) or "not reported",
        "cost": "unknown" if cost is None else f"USD {cost.normalize():f}",
    }
    return {name: value for name, value in rows.items() if value}
