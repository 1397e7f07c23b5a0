"""Answers to ``?dryRun=true``: the price and the estimate of a submit or a batch that stores nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import User
from rest_framework.request import Request
from rest_framework.response import Response

from generation.api.idempotency import client_key, flag
from generation.models import GenerationRequest
from generation.requests import positions, quotes, services
from generation.requests.new_request import NewRequest, variation
from generation.requests.quotes import Quote
from generation.states import WEIGHTS


def is_dry_run(request: Request) -> bool:
    """Return whether the call is to store nothing. Raises :class:`InvalidValue`."""
    return flag(request, "dryRun", default=False)


def respond(request: Request, answer: Callable[[], dict[str, Any]]) -> Response:
    """Return the response with this answer. The headers of the call are checked like those of a submit, and those of
    the response are the same."""
    client_key(request)
    return Response(answer(), headers={"Vary": "Prefer"})


def of_submit(owner: User, draft: NewRequest, count: int) -> dict[str, Any]:
    """Return the answer to a submit of ``count`` images of one prompt. Raises what the submit raises."""
    quoted = quotes.quote(owner, [variation(draft, index) for index in range(count)])

    def submit() -> list[GenerationRequest]:
        if count == 1:
            return [services.submit(owner=owner, draft=draft)]
        return services.submit_variations(owner=owner, draft=draft, count=count)[1]

    [model] = quoted.models
    return _answer(quoted, quotes.rolled_back(submit), positions.limit_of(owner)) | {"model": model}


def of_batch(owner: User, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a batch; ``arguments`` are those of :func:`services.submit_batch`. Raises what that
    raises."""
    submitted = quotes.rolled_back(lambda: services.submit_batch(owner=owner, **arguments)[1])
    quoted = quotes.quote(owner, arguments["drafts"])
    limit = positions.limit_of(owner, arguments["max_concurrent"])
    return _answer(quoted, submitted, limit) | {"models": dict(quoted.models)}


def _answer(quoted: Quote, submitted: Sequence[GenerationRequest], limit: int | None) -> dict[str, Any]:
    last = min(reversed(submitted), key=lambda request: WEIGHTS[request.priority])
    position = positions.of_request(last, most_at_once=limit)
    return {
        "success": True,
        "dryRun": True,
        "cost": {"p50": _dollars(quoted.usual), "max": _dollars(quoted.highest)},
        "estimate": position.estimate.as_json() if position and position.estimate else None,
    }


def _dollars(price: Decimal | None) -> float | None:
    return None if price is None else float(price)
