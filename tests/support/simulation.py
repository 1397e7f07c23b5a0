"""A simulated day of a queue with workers, whose waits are estimated by the real functions."""

from __future__ import annotations

import bisect
import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from generation.queue import figures, forecasts
from generation.queue.figures import Figures, Run
from generation.queue.forecasts import Factors, Measured

_HOUR: Final = 3600.0
_SLOTS: Final = 10
#: Of two models: the share of requests, the median seconds, and the deviation of the logarithm.
_MODELS: Final = {"quick": (0.6, 12.0, 0.35), "slow": (0.4, 30.0, 0.5)}
_RETRIED: Final = 0.05
_MOST_ATTEMPTS: Final = 3
_WEIGHTS: Final = {"urgent": 1000, "normal": 10, "retry": 1}
#: Seconds after which a process reads the figures and the factors again.
_CACHED: Final = 60.0
_KEPT: Final = 500
_OF_A_BATCH: Final = 10
_BATCH: Final = 100


@dataclass(frozen=True, slots=True)
class Submit:
    """Requests that an owner submits at once, so many seconds after midnight."""

    at: float
    owner: str
    count: int = 1
    priority: str = "normal"


#: Requests that the slots can do in a second.
_RATE: Final = _SLOTS / sum(share * median * math.exp(sigma**2 / 2) for share, median, sigma in _MODELS.values())


def steady(chance: random.Random) -> Iterator[Submit]:
    """Single requests of many owners, in the afternoon more than the workers can do."""
    at = 0.0
    while at < 24 * _HOUR:
        busy = 0.55 + 0.6 * max(0.0, math.sin((at / _HOUR - 8) / 12 * math.pi))
        at += chance.expovariate(_RATE * busy)
        yield Submit(at, f"owner-{chance.randrange(20)}", priority="urgent" if chance.random() < 0.05 else "normal")


def books(chance: random.Random) -> Iterator[Submit]:
    """Few single requests, and now and then a book of 400 pages."""
    at = 0.0
    while at < 24 * _HOUR:
        at += chance.expovariate(_RATE * 0.25)
        yield Submit(at, f"owner-{chance.randrange(20)}", priority="urgent" if chance.random() < 0.05 else "normal")
    at = 0.0
    while at < 24 * _HOUR:
        at += chance.expovariate(1 / 2400)
        yield from [Submit(at, f"author-{chance.randrange(3)}", count=_BATCH)] * 4


def owners(chance: random.Random) -> Iterator[Submit]:
    """Six owners with batches, who take turns."""
    for owner in range(6):
        at = 0.0
        while at < 24 * _HOUR:
            at += chance.expovariate(_RATE * 0.85 / 6 / 60)
            yield Submit(at, f"owner-{owner}", count=chance.randrange(20, 100))


def calm(_: random.Random) -> Iterator[Submit]:
    """One owner, who submits a hundred requests whenever the last ones are done."""
    at = 0.0
    while at < 24 * _HOUR:
        at += 1.05 * _BATCH / _RATE
        yield from [Submit(at, "author")] * _BATCH


#: An entry of the queue in its order: minus the weight, the turn, and the number of the request.
_Entry = tuple[int, int, int]


@dataclass(slots=True)
class _Request:
    owner: str
    model: str
    submitted: float
    attempts: int = 0
    first_start: float | None = None


@dataclass(slots=True)
class Day:
    """The queue and the workers. ``measured`` has every start with its estimate."""

    chance: random.Random
    measured: list[Measured] = field(default_factory=list)
    _queue: list[_Entry] = field(default_factory=list)
    _turns: dict[tuple[str, int], int] = field(default_factory=dict)
    _requests: list[_Request] = field(default_factory=list)
    _given: dict[int, tuple[forecasts.Start, forecasts.Start, bool]] = field(default_factory=dict)
    _running: int = 0
    _runs: deque[Run] = field(default_factory=lambda: deque(maxlen=2000))
    _occupancies: deque[float] = field(default_factory=lambda: deque(maxlen=2000))
    _sample: deque[Measured] = field(default_factory=lambda: deque(maxlen=_KEPT))
    _figures: Figures = field(default_factory=Figures)
    _factors: Factors = field(default_factory=Factors)
    _read_at: float = -_CACHED
    _events: list[tuple[float, int, Callable[[float], None]]] = field(default_factory=list)
    _count: int = 0

    def run(self, load: Callable[[random.Random], Iterator[Submit]]) -> None:
        """Process the load until the last request has its image."""
        for submit in load(self.chance):
            self._at(submit.at, partial(self._submit, submit))
        while self._events:
            now, _, act = heapq.heappop(self._events)
            act(now)
            while self._queue and self._running < _SLOTS:
                self._start(now)

    def _at(self, moment: float, act: Callable[[float], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (moment, self._count, act))

    def _submit(self, submit: Submit, now: float) -> None:
        if now - self._read_at >= _CACHED:
            self._read_at = now
            self._figures = figures.figures_of(reversed(self._runs), list(self._occupancies))
            self._factors = forecasts.factors(list(self._sample))
        step = max(1, submit.count // _OF_A_BATCH)
        numbers = []
        for _ in range(submit.count):
            model = "quick" if self.chance.random() < _MODELS["quick"][0] else "slow"
            self._requests.append(_Request(submit.owner, model, now))
            numbers.append(len(self._requests) - 1)
        entries = [self._enqueue(number, _WEIGHTS[submit.priority]) for number in numbers]
        for index, entry in enumerate(entries):
            ahead = bisect.bisect_left(self._queue, entry)
            occupancy = self._figures.occupancy
            begin = forecasts.start(ahead, slots=_SLOTS, running=self._running, occupancy=occupancy)
            is_kept = index % step == step // 2
            self._given[entry[2]] = (begin, forecasts.corrected(begin, self._factors), is_kept)

    def _enqueue(self, number: int, weight: int) -> _Entry:
        owner = (self._requests[number].owner, weight)
        first = bisect.bisect_left(self._queue, (-weight, -1, -1))
        is_any = first < len(self._queue) and self._queue[first][0] == -weight
        front = self._queue[first][1] if is_any else 0
        self._turns[owner] = max(front, self._turns.get(owner, -1) + 1)
        entry = (-weight, self._turns[owner], number)
        bisect.insort(self._queue, entry)
        return entry

    def _start(self, now: float) -> None:
        number = self._queue.pop(0)[2]
        request = self._requests[number]
        if request.first_start is None:
            request.first_start = now
            begin, given, is_kept = self._given.pop(number)
            self.measured.append(Measured(begin, given, now - request.submitted))
            if is_kept:
                self._sample.append(self.measured[-1])
        _, median, sigma = _MODELS[request.model]
        seconds = self.chance.lognormvariate(math.log(median), sigma)
        self._running += 1
        self._at(now + seconds, lambda now: self._end(now, number, seconds))

    def _end(self, now: float, number: int, seconds: float) -> None:
        request = self._requests[number]
        self._running -= 1
        self._occupancies.append(seconds)
        request.attempts += 1
        if self.chance.random() < _RETRIED and request.attempts < _MOST_ATTEMPTS:
            delay = 10.0 * 2**request.attempts
            self._at(now + delay, lambda _: self._retry(number))
        elif request.first_start is not None:
            self._runs.append(Run("cover", request.model, with_images=False, seconds=now - request.first_start))

    def _retry(self, number: int) -> None:
        self._enqueue(number, _WEIGHTS["retry"])


LOADS: Final = {"steady": steady, "books": books, "owners": owners, "calm": calm}


def simulated(load: str, *, seed: int) -> forecasts.Accuracy:
    """Return how well the estimates of a day with this load were met."""
    day = Day(random.Random(seed))  # noqa: S311  it must be the same each time
    day.run(LOADS[load])
    found = forecasts.accuracy(day.measured)
    assert found is not None
    return found
