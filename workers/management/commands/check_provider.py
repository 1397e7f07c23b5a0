"""``manage.py check_provider``: one real call with the configured key, outside the queue."""

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
    # Whether the provider is configured is what is to be told, in words of its own.
    requires_system_checks = ()
    help = (
        "Asks a provider for one picture with the configured key, and shows what came. It costs what a picture costs."
        " Exits with 1 where the call fails, and with 2 where the provider is not configured."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME", help=", ".join(PROVIDER_CLASSES))
        parser.add_argument("--model", default="", help="the one in the settings by default")
        parser.add_argument("--prompt", default=_PROMPT, help=f'"{_PROMPT}" by default')
        parser.add_argument("--save", metavar="FILE", type=Path, help="where the picture goes")

    def handle(self, *args: Any, **options: Any) -> None:
        provider, save = _provider(options["name"]), options["save"]
        if save and not save.parent.is_dir():
            raise CommandError(f"There is no folder {save.parent}.")  # before anything is paid for
        request = GenerationRequest(id=new_request_id(), type=GenerationType.ILLUSTRATION, prompt=options["prompt"])
        try:
            choice = catalogue.choose(provider.name, GenerationOptions(model=options["model"]))
            asked = prompts.build(request, choice)
        except catalogue.UnsupportedRequest as reason:
            raise CommandError(reason.message, returncode=_NOT_CONFIGURED) from None
        except Error:
            raise CommandError("The models cannot be read from the database; manage.py doctor says why.") from None
        self.stdout.write(f"Asking {choice.provider} for one picture by {choice.model}. {_price(choice)}")
        self.stdout.flush()
        began = time.monotonic()
        try:
            answer = asyncio.run(_ask(provider, asked))
            took = time.monotonic() - began
            picture = image_check.check(answer.data, requested=asked.output_format)
        except ProviderError as error:
            self._tell_failure(error, choice, time.monotonic() - began)
            sys.exit(1)
        if save:
            save.write_bytes(picture.data)
        self._table(_described(choice, answer, picture, took) | ({"saved": str(save)} if save else {}))
        if circuit_breaker.is_open(choice.provider):
            self.stdout.write(f"It is left alone at the moment; manage.py resume_provider {choice.provider} ends that.")

    def _tell_failure(self, error: ProviderError, choice: ModelChoice, took: float) -> None:
        self.stdout.write(self.style.ERROR(error.message))
        rows = {
            "provider": choice.provider,
            "model": choice.model,
            "took": f"{took:.1f} s",
            "code": error.code,
            "wait": f"{error.retry_after:g} s" if error.retry_after else "",
            "categories": ", ".join(error.detail.get("categories", ())),
            "request id": error.provider_request_id,
            "mend": ADVICE[error.code],
        }
        self._table({name: value for name, value in rows.items() if value})

    def _table(self, rows: dict[str, str]) -> None:
        width = max(map(len, rows))
        for name, value in rows.items():
            self.stdout.write(f"  {name:<{width}}  {value}")


def _provider(name: str) -> Provider:
    if name not in PROVIDER_CLASSES:
        there_is = ", ".join(PROVIDER_CLASSES)
        raise CommandError(f"There is no provider {name}; there is {there_is}.", returncode=_NOT_CONFIGURED)
    if name not in settings.PROVIDER_OPTIONS:
        message = f"{name} is not configured: there is no {name.upper()}_API_KEY."
        raise CommandError(message, returncode=_NOT_CONFIGURED)
    return Registry([name], settings.PROVIDER_OPTIONS).choose(name)


def _price(choice: ModelChoice) -> str:
    estimate = pricing.estimate(choice.price_rule)
    if estimate is None:
        return "It costs what the provider charges; the price is not known here."
    return f"It costs about USD {estimate.normalize():f}." if estimate else "It costs nothing."


async def _ask(provider: Provider, asked: ImageRequest) -> ImageAnswer:
    seconds = settings.PROVIDER_TIMEOUT.total_seconds()
    try:
        async with asyncio.timeout(seconds):
            return await provider.generate(asked)
    except TimeoutError:
        raise ProviderError(f"No picture within {seconds:g} s", code=ErrorCode.TIMEOUT) from None
    finally:
        if close := getattr(provider, "aclose", None):
            await close()


def _described(choice: ModelChoice, answer: ImageAnswer, picture: CheckedImage, took: float) -> dict[str, str]:
    cost = pricing.cost(choice.price_rule, answer.usage)
    rows = {
        "provider": choice.provider,
        "model": answer.model,
        "notice": " ".join(filter(None, (choice.notice, picture.notice))),
        "honours": ", ".join(sorted(choice.capabilities)) or "no option",
        "took": f"{took:.1f} s",
        "format": picture.content_type,
        "pixels": f"{picture.width} x {picture.height}",
        "bytes": f"{len(picture.data):,}",
        "seed": "not told" if answer.seed is None else str(answer.seed),
        "request id": answer.provider_request_id or "not told",
        "usage": ", ".join(f"{name} {amount}" for name, amount in answer.usage.items()) or "not told",
        "cost": "not known" if cost is None else f"USD {cost.normalize():f}",
    }
    return {name: value for name, value in rows.items() if value}
