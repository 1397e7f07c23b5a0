"""Random sequences of submits, failures, cancels, retries and kills: the bill is booked, and the budget holds.

``MONEY_SEQUENCES`` says how many there are, and ``MONEY_SEED`` names the first one. A failure names its seed.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any, ClassVar, Final

import pytest
from django.conf import settings as configured
from django.contrib.auth.models import User
from django.core.files.storage import default_storage
from django.db import connection
from django.db.models import Count

from generation import caching
from generation.db.functions import Now
from generation.models import (
    Budget,
    GenerationAttempt,
    GenerationQueue,
    GenerationRequest,
    ModelState,
    ProviderModel,
    ProviderState,
    Spending,
)
from generation.models.options import GenerationOptions
from generation.providers import catalogue
from generation.providers.pricing import OverBudgetError
from generation.requests import lifecycle, maintenance, services
from generation.requests.new_request import NewRequest
from generation.states import ACTIVE, GIVEN_UP, Status
from tests.integration.test_executor import png
from tests.support.length import lasting
from workers.executor import Executor
from workers.policies.rate_limit import RateLimiter
from workers.providers.base import ImageAnswer, ImageRequest, Provider, ProviderError, mark_sent
from workers.runtime import Runtime

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("empty_queues")]

SEQUENCES: Final = int(os.environ.get("MONEY_SEQUENCES", lasting(30, full=1000)))
FIRST_SEED: Final = int(os.environ.get("MONEY_SEED", 1))
PRICES: Final = {"openai": Decimal("0.05"), "stability": Decimal("0.03")}
#: Outcomes of a call that the vendor bills, and others.
BILLED: Final = (
    *("ok", "refused_output", "broken", "empty", "hang", "reset"),
    *("killed", "cancelled", "unstored", "untold", "odd"),
)
FREE: Final = (
    *("refused_input", "unavailable", "unreachable", "rate_limited"),
    *("auth", "quota", "no_model", "bad_request"),
)
IMAGE: Final = png()


class Killed(BaseException):
    """Stands for a kill: nothing after it runs."""


class World:
    """The vendors' side of one sequence: what they are told to do, and what stands on their bills."""

    def __init__(self, rng: random.Random, owner: User) -> None:
        self.rng = rng
        self.owner = owner
        self.billed: dict[str, Decimal] = defaultdict(Decimal)
        self.unanswered: Counter[str] = Counter()
        self.by_hand: Counter[str] = Counter()
        self.log: list[str] = []
        #: One outcome is a third of all calls, so that sequences differ in kind.
        self.favorite = rng.choice(BILLED + FREE)
        self.untold = False
        self.unstored = False

    def outcome(self) -> str:
        return self.favorite if self.rng.random() < 0.33 else self.rng.choice(BILLED + FREE)


class Vendor:
    """A vendor that bills what it was asked to make, whatever becomes of its answer."""

    billable: ClassVar[bool] = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.world: World

    async def generate(self, request: ImageRequest) -> ImageAnswer:
        world, outcome = self.world, self.world.outcome()
        world.log.append(f"{self.name}: {outcome}")
        assert await asyncio.to_thread(is_running, request.request_id), "called for a request that is not in progress"
        if outcome == "unreachable":
            raise ProviderError("unreachable", code="unavailable", sent=False)
        mark_sent()
        if outcome in BILLED:
            world.billed[request.request_id] += PRICES[self.name]
        if outcome in {"hang", "reset", "killed", "odd"}:
            world.unanswered[request.request_id] += 1
        match outcome:
            case "hang":
                await asyncio.sleep(60)
            case "reset":
                raise ProviderError("reset", code="unknown_outcome")
            case "killed":
                raise Killed
            case "odd":
                raise RuntimeError("network timeout")
            case "refused_input" | "refused_output" | "unavailable" | "rate_limited" | "auth":
                raise ProviderError(outcome, code=outcome, retry_after=1)
            case "quota":
                raise ProviderError(outcome, code="quota_exhausted")
            case "no_model":
                raise ProviderError(outcome, code="model_retired")
            case "bad_request":
                raise ProviderError(outcome, code="invalid_request")
            case "empty":
                raise ProviderError(outcome, code="empty_result")
            case "cancelled":
                await asyncio.to_thread(cancel, request.request_id, world.owner)
        world.untold = outcome == "untold"
        world.unstored = outcome == "unstored"
        data = IMAGE[:-20] if outcome == "broken" else IMAGE
        return ImageAnswer(data=data, content_type="image/png", model="m", usage={"images": 1})


def is_running(request_id: str) -> bool:
    try:
        return GenerationRequest.objects.filter(pk=request_id, status=Status.IN_PROGRESS).exists()
    finally:
        connection.close()


def cancel(request_id: str, owner: User) -> None:
    try:
        lifecycle.cancel([request_id], actor=owner)
    finally:
        connection.close()


class Vendors:
    """A registry of both."""

    def __init__(self) -> None:
        self._all = {name: Vendor(name) for name in PRICES}

    def choose(self, wanted: str = "") -> Provider:
        vendor: Any = self._all[wanted]
        return vendor  # type: ignore[no-any-return]

    def live_in(self, world: World) -> None:
        for vendor in self._all.values():
            vendor.world = world


# --- Steps ---


def submit(world: World) -> None:
    metadata: dict[str, Any] = {"onRefusal": "fallback"} if world.rng.random() < 0.2 else {}
    if world.rng.random() < 0.3:
        metadata["provider"] = world.rng.choice(sorted(PRICES))
    draft = NewRequest(
        type="cover",
        prompt=f"A dragon in a garden {world.rng.random()}",
        priority="normal",
        metadata=metadata,
        max_attempts=world.rng.choice([1, 2, 3, 10]),
        estimated_cost=catalogue.estimate(GenerationOptions.parse(metadata)),
    )
    try:
        world.log.append(f"submit {services.submit(owner=world.owner, draft=draft).pk[-4:]} {metadata}")
    except OverBudgetError:
        world.log.append("submit refused")


def one_of(world: World, *statuses: Status) -> GenerationRequest | None:
    rows = list(GenerationRequest.objects.filter(owner=world.owner, status__in=statuses).order_by("pk"))
    return world.rng.choice(rows) if rows else None


def run(world: World, executor: Executor) -> None:
    if (request := one_of(world, Status.QUEUED)) is None:
        return
    GenerationQueue.objects.filter(pk=request.pk).update(available_at=Now(), held=False)
    if world.rng.random() < 0.7:  # else a provider in trouble stays suspended
        ProviderState.objects.update(open_until=None, failures=0)
        ModelState.objects.all().delete()
        caching.clear_all()
    world.log.append(f"run {request.pk[-4:]}")
    try:
        executor.run(request.pk)
    except Killed:
        world.log.append("killed")


def rescue(world: World) -> None:
    past = Now() - timedelta(seconds=1)
    rows = GenerationRequest.objects.filter(owner=world.owner, status=Status.IN_PROGRESS)
    if rows.update(lease_expires_at=past):
        world.log.append(f"rescue {maintenance.rescue_expired()}")


def cancel_one(world: World) -> None:
    if request := one_of(world, *ACTIVE):
        world.log.append(f"cancel {request.pk[-4:]}")
        services.cancel(user=world.owner, request_id=request.pk)


def cancel_several(world: World) -> None:
    ids = list(GenerationRequest.objects.filter(owner=world.owner).order_by("pk").values_list("pk", flat=True))
    world.log.append(f"cancel {len(lifecycle.cancel(ids, actor=world.owner))}")


def retry_by_hand(world: World) -> None:
    if request := one_of(world, *GIVEN_UP):
        try:
            services.retry(user=world.owner, request=request)
        except OverBudgetError:
            return
        world.by_hand[request.pk] += 1
        world.log.append(f"retry {request.pk[-4:]}")


def play(seed: int, owner: User, executor: Executor, vendors: Vendors) -> World:
    world = World(random.Random(seed), owner)  # noqa: S311  a sequence that can be played again
    vendors.live_in(world)
    if world.rng.random() < 0.6:
        Budget.objects.create(owner=owner, per_day=world.rng.choice(["0.03", "0.05", "0.08", "0.10", "0.20"]))
    caching.clear_all()
    steps: list[tuple[Callable[[], None], int]] = [
        (lambda: submit(world), 3),
        (lambda: run(world, executor), 8),
        (lambda: rescue(world), 2),
        (lambda: cancel_one(world), 1),
        (lambda: cancel_several(world), 1),
        (lambda: retry_by_hand(world), 2),
    ]
    submit(world)
    for _ in range(world.rng.randint(4, 12)):
        [step] = world.rng.choices([one for one, _ in steps], [weight for _, weight in steps])
        step()
    rescue(world)
    return world


def check(world: World) -> None:
    story = "\n".join(world.log)
    spending = Spending.objects.filter(owner=world.owner).first()
    booked = spending.cost if spending else Decimal(0)
    billed = sum(world.billed.values(), Decimal(0))
    assert booked >= billed, f"billed {billed}, booked {booked}\n{story}"
    attempts = GenerationAttempt.objects.filter(request__owner=world.owner)
    assert booked == sum((one.booked_cost or Decimal(0) for one in attempts), Decimal(0)), story
    if budget := Budget.objects.filter(owner=world.owner).first():
        assert booked <= budget.per_day, f"booked {booked} of {budget.per_day}\n{story}"
    unanswered = attempts.filter(error_code__in=["unknown_outcome", "internal"], call_started_at__isnull=False)
    unknown = unanswered.values_list("request").annotate(calls=Count("pk"))
    for request_id, calls in unknown:
        assert calls <= 2 + world.by_hand[request_id], f"{request_id} had {calls} calls of unknown outcome\n{story}"


@pytest.fixture
def vendors(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Vendors:
    settings.PROVIDERS = list(PRICES)
    settings.PROVIDER_MODELS = {"openai": "gpt-image-2", "stability": "core"}
    settings.PROVIDER_TIMEOUT = settings.STORAGE_PATIENCE = timedelta(milliseconds=20)
    for provider, price in PRICES.items():
        ProviderModel.objects.filter(provider=provider).update(price_rule={"per_image": str(price)})
    caching.clear_all()
    vendors = Vendors()
    complete, save = lifecycle.complete, default_storage.save

    def tell(*arguments: Any, **more: Any) -> bool:
        world = vendors._all["openai"].world
        if world.untold:
            world.untold = False
            raise Killed
        return complete(*arguments, **more)

    def store(name: str, *arguments: Any) -> str:
        if vendors._all["openai"].world.unstored and name.startswith("results/"):
            raise OSError("disk full")
        return str(save(name, *arguments))

    monkeypatch.setattr(lifecycle, "complete", tell)
    monkeypatch.setattr(default_storage, "save", store)
    return vendors


def test_the_bill_is_booked_whatever_happens(vendors: Vendors) -> None:
    registry: Any = vendors
    executor = Executor(runtime=Runtime(slots=1), providers=registry, rates=RateLimiter(configured.REDIS_URL))
    for seed in range(FIRST_SEED, FIRST_SEED + SEQUENCES):
        owner = User.objects.create(username=f"owner-{seed}")
        try:
            world = play(seed, owner, executor, vendors)
            check(world)
        except BaseException:
            print(f"MONEY_SEED={seed}")  # noqa: T201  told with the failure
            raise
        rows = GenerationRequest.objects.filter(owner=owner)
        GenerationQueue.objects.filter(request__in=rows).delete()
        rows.filter(status__in=ACTIVE).update(status=Status.CANCELLED, lease_expires_at=None, completed_at=Now())
