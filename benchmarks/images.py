"""Images of real sizes, from a vendor over HTTP to the storage: how many in a second, and what each costs. Beside them
LiteLLM's proxy, which passes the same images through."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import litellm, stages
from benchmarks.engines import Engine, engine
from benchmarks.floors import Floors
from benchmarks.litellm import RunningProxy
from benchmarks.load import Load
from benchmarks.plan import Plan
from benchmarks.report import Figure
from benchmarks.samples import Sample, samples
from benchmarks.turns import in_turns
from benchmarks.usage import processor_seconds
from benchmarks.vendor import running_vendor

#: As many calls at a time by the product as by the clients of the others.
_AT_ONCE: Final = 16
#: Seconds of a slice, and the bounds of the images in it.
_SLICE: Final = 4.0
_FEWEST: Final = 32
_MOST: Final = 400
#: A batch has at most this many requests.
_BATCH: Final = 100
#: Seconds without a completed image after which a run fails.
_STALLED: Final = 60.0
#: Seconds between two looks at how far a burst is. Each counts the completed requests.
_LOOK: Final = 0.25
#: Stored files are deleted after so many seconds: the run stores more than a disk may hold.
_KEPT: Final = 5.0
#: Goals.
_RATE: Final = 25.0
_OF_LITELLM: Final = 1.3
_PROCESSOR_MS: Final = 75.0
_GROWN: Final = 0.05

#: What is asked for each kind of sample.
_ASKED: Final[dict[str, dict[str, str]]] = {
    "photo": {"aspectRatio": "portrait"},
    "line art": {"aspectRatio": "square"},
    "jpeg": {"aspectRatio": "portrait", "outputFormat": "jpeg"},
    "webp": {"aspectRatio": "portrait", "outputFormat": "webp"},
}


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A rate in images a second, and the processor time of one image in ms, by the processes that took it."""

    rate: float
    processor: Mapping[str, float]

    @property
    def total(self) -> float:
        """Processor time of an image in all processes."""
        return sum(self.processor.values())


def run(plan: Plan, floors: Floors) -> Iterator[Figure]:
    """The stages first, then the vendor alone, LiteLLM and the product in turns, then the other kinds and memory."""
    photo = samples()["photo"]
    plan.say("images: the stages of an image")
    *parts, floor = stages.measure(photo, plan.folder)
    yield from (*parts, floor)
    with contextlib.ExitStack() as opened:
        port = opened.enter_context(running_vendor())
        up = opened.enter_context(engine(plan.folder, "images", 13, MAX_CONCURRENT_REQUESTS=str(_AT_ONCE)))
        up.env |= {"PROVIDERS": "openai", "OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1"}
        up.start("web", "dispatcher", "worker")
        up.wait_ready()
        ours = _Images(up)
        opened.callback(ours.close)
        plan.say("images: one worker, the vendor alone, LiteLLM")
        ours.burst("photo", _FEWEST)
        count = plan.size(_count_for(ours.burst("photo", _FEWEST), _SLICE), quick=_FEWEST)
        cases: dict[str, Callable[[], Slice]] = {"vendor": lambda: _vendor_alone(port)}
        proxy = litellm.find(plan.say) if plan.litellm else None
        if proxy:
            running = opened.enter_context(proxy.running(plan.folder / "litellm", vendor_port=port))
            passing = _Passing(running, photo)
            passed = plan.size(_count_for(passing.burst(_FEWEST), _SLICE), quick=_FEWEST)
            cases["litellm"] = lambda: passing.burst(passed)
        cases["ours"] = lambda: ours.burst("photo", count)
        yield from _compared(photo, in_turns(cases, slices=plan.slices), floor)
        for kind in ("line art", "jpeg", "webp"):
            plan.say(f"images: {samples()[kind].title}")
            count = _count_for(ours.burst(kind, _FEWEST), _SLICE / 2)
            found = ours.burst(kind, plan.size(count, quick=_FEWEST))
            title = samples()[kind].title
            yield Figure(f"image: {title}, completed, one worker", rate=found.rate)
            yield Figure(f"image: {title}, processor time in all processes", p50=found.total)
        plan.say(f"images: memory over {plan.images:,} images")
        yield _memory(plan, ours)


def _count_for(last: Slice, seconds: float) -> int:
    """Return how many images take about so long, by another slice."""
    return round(min(_MOST, max(_FEWEST, last.rate * seconds)))


def _compared(photo: Sample, taken: Mapping[str, Sequence[Slice]], stages_figure: Figure) -> Iterator[Figure]:
    def rate(name: str) -> float:
        return statistics.median(one.rate for one in taken[name])

    def milliseconds(name: str) -> float:
        return statistics.median(one.total for one in taken[name])

    vendor = Figure(f"floor: the vendor's {photo.title}, {_AT_ONCE} clients", rate=rate("vendor"))
    yield vendor
    passed = processor = None
    if "litellm" in taken:
        passed = Figure(f"peer: LiteLLM passes {photo.title} through, {_AT_ONCE} clients", rate=rate("litellm"))
        passed = passed.beside(vendor, "vendor")
        processor = Figure(f"peer: LiteLLM, processor time of {photo.title}", p50=milliseconds("litellm"))
        processor = processor.beside(stages_figure, "stages")
        yield from (passed, processor)
    title = f"image: {photo.title} of {photo.megabytes:.0f} MB"
    least = max(_RATE, _OF_LITELLM * rate("litellm")) if passed else _RATE
    figure = Figure(f"{title}, completed, one worker, {_AT_ONCE} slots", rate=rate("ours"), least=least)
    figure = figure.beside(vendor, "vendor", peer=passed).also(f"≥ {_RATE:g}/s", met=rate("ours") >= _RATE)
    if passed:
        # Of each turn, so that what else the machine did then cancels out.
        pairs = zip(taken["ours"], taken["litellm"], strict=True)
        ratio = statistics.median(one.rate / other.rate for one, other in pairs)
        figure = figure.also(f"≥ {_OF_LITELLM} × LiteLLM (is {ratio:.2f})", met=ratio >= _OF_LITELLM)
    yield figure
    ours = Figure(f"{title}, processor time in all processes", p50=milliseconds("ours"))
    yield ours.beside(stages_figure, "stages", peer=processor).hoping(p50=_PROCESSOR_MS)
    for name in taken["ours"][0].processor:
        part = statistics.median(one.processor[name] for one in taken["ours"])
        yield Figure(f"{title}, of it {name}", p50=part, share=part / milliseconds("ours"))


def _vendor_alone(port: int) -> Slice:
    body, headers = litellm.CALL, {"Content-Type": "application/json"}
    load = Load(
        port=port, paths=[litellm.PATH], connections=_AT_ONCE, seconds=1, method="POST", body=body, headers=headers
    )
    return Slice(rate=load.run().rate, processor={})


class _Passing:
    """Images through LiteLLM's proxy."""

    def __init__(self, proxy: RunningProxy, photo: Sample) -> None:
        self._proxy = proxy
        self._least = round(photo.megabytes * 1e6 * 4 / 3)
        self.burst(_FEWEST)  # the first ones open connections

    def burst(self, count: int) -> Slice:
        """Pass so many through."""
        before = sum(processor_seconds(self._proxy.pid))
        taken = self._proxy.calls(count, at_once=_AT_ONCE, least=self._least)
        spent = sum(processor_seconds(self._proxy.pid)) - before
        return Slice(rate=count / taken, processor={"proxy": spent * 1000 / count})


class _Images:
    """Requests of images to a running engine, through the API."""

    def __init__(self, up: Engine) -> None:
        self._up = up
        self._client = up.client()
        self._submitted = 0

    def close(self) -> None:
        """Close the client."""
        self._client.close()

    def submit(self, kind: str, count: int) -> None:
        """Submit so many requests in batches, no two alike."""
        for first in range(0, count, _BATCH):
            requests: list[dict[str, Any]] = [
                {
                    "type": "coloring-page",
                    "prompt": f"A friendly dragon number {self._submitted + number}",
                    "metadata": _ASKED[kind],
                }
                for number in range(first, min(count, first + _BATCH))
            ]
            self._client.post("/batch", json={"requests": requests}).raise_for_status()
        self._submitted += count

    def burst(self, kind: str, count: int) -> Slice:
        """Submit so many at once and wait for all."""
        before = self._up.processor_seconds()
        self.submit(kind, count)
        for _ in self.unfinished():
            pass
        after = self._up.processor_seconds()
        self.delete_files(older_than=0)
        spent = {name: (after[name] - before[name]) * 1000 / count for name in after}
        return Slice(rate=self._up.burst_rate(count), processor=spent)

    def unfinished(self) -> Iterator[int]:
        """Look again and again how many are not completed, until all are. Raises ``RuntimeError`` if a request failed,
        or none was completed for a minute."""
        least, progress = self._submitted, time.monotonic()
        while left := self._up.unfinished(self._submitted):
            if left < least:
                least, progress = left, time.monotonic()
            if time.monotonic() > progress + _STALLED:
                raise RuntimeError(f"{left} images were not completed, none of them for {_STALLED:.0f} s")
            yield left
            time.sleep(_LOOK)

    def delete_files(self, *, older_than: float = _KEPT) -> None:
        """Delete stored images, since a run stores tens of gigabytes."""
        until = time.time() - older_than
        media = Path(self._up.env["VAR_DIR"], "media")
        for path in itertools.chain(*(media.glob(f"{folder}/**/*") for folder in ("results", "thumbnails"))):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file() and path.stat().st_mtime < until:
                    path.unlink()

    def memory_while(self, kind: str, count: int) -> list[tuple[int, float]]:
        """Run so many, and return again and again how many are completed and how much memory the worker has."""
        looks: list[tuple[int, float]] = []
        self.submit(kind, count)
        for left in self.unfinished():
            looks.append((count - left, self._up.memory("worker")))
            self.delete_files()
        return looks


def _memory(plan: Plan, ours: _Images) -> Figure:
    looks = ours.memory_while("photo", plan.images)
    first = statistics.median(memory for done, memory in looks if done <= max(plan.images / 10, looks[0][0]))
    last = statistics.median(memory for done, memory in looks if done >= min(plan.images * 0.9, looks[-1][0]))
    grown = last / first - 1
    case = f"a worker's memory in the last tenth of {plan.images:,} images, beside the first"
    figure = Figure(case, share=grown, memory=last)
    return figure.also(f"≤ {_GROWN:.0%} more than {first:.0f} MB", met=grown <= _GROWN)
