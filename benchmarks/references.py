"""Reference images: what a submit with one costs, how soon waiting pages start, and the memory of calls with many."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from PIL import Image

from benchmarks.engines import BODY, Engine, engine
from benchmarks.floors import Floors
from benchmarks.load import Load
from benchmarks.plan import Plan
from benchmarks.report import Figure
from benchmarks.stacks import API, bearer
from benchmarks.turns import in_turns, middle
from tests.fakes.control import FakeProvider
from tests.support.stack import wait_until

_SUBMITTERS: Final = 32
_PAGES: Final = 50
_CALLS: Final = 20
_IMAGES: Final = 4
_SIDE: Final = 2_048
#: Goals: of the rate without a reference, seconds until the last page starts, and MB.
_KEPT: Final = 0.8
_STARTED: Final = 1.0
_MB: Final = 600.0
_BYTES_READ: Final = "SELECT coalesce(sum(bytes), 0) FROM generation_uploads"


def run(plan: Plan, _: Floors) -> Iterator[Figure]:
    """Measure everything, one case after the other."""
    plan.say("references: submits")
    yield from _submits(plan)
    plan.say(f"references: {_PAGES} pages that wait for one sheet")
    yield _start(plan)
    plan.say(f"references: {_CALLS} calls of {_IMAGES} images each")
    yield _memory(plan)


def _vendor_of(up: Engine, vendor: FakeProvider) -> None:
    up.env |= {"PROVIDERS": "openai", "OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": vendor.openai_url}


def _submits(plan: Plan) -> Iterator[Figure]:
    with FakeProvider() as vendor, engine(plan.folder, "references-submit", 11) as up:
        _vendor_of(up, vendor)
        up.start("web", "dispatcher", "worker")
        up.wait_ready()
        with up.client() as client:
            sheet = client.post("/submit", json=BODY).raise_for_status().json()["requestId"]
            wait_until(lambda: up.completed() == 1, what="the sheet")
            up.stop("worker", "dispatcher")
            waiting = client.post("/submit", json=BODY).raise_for_status().json()["requestId"]
        headers = bearer(up, "alice") | {"Content-Type": "application/json"}

        def post(**more: Any) -> Load:
            return Load(
                port=up.port,
                paths=[f"{API}/submit"],
                connections=_SUBMITTERS,
                seconds=plan.size(3, quick=1),
                method="POST",
                body=json.dumps(BODY | more),
                headers=headers,
            )

        loads = {
            "submit without a reference": post(),
            "submit with a reference": post(references=[{"requestId": sheet, "name": "Pip"}]),
            "submit that waits for a reference": post(references=[{"requestId": waiting, "name": "Pip"}]),
        }
        taken = in_turns({name: load.run for name, load in loads.items()}, slices=plan.slices)
        plain, *others = (Figure.of(middle(slices), name) for name, slices in taken.items())
        yield plain
        for figure in others:
            yield figure.beside(plain, "without").at_least(_KEPT, plain, "without")


def _start(plan: Plan) -> Figure:
    """Pages that wait for a sheet, from its completion to the start of the last page."""
    with FakeProvider() as vendor, engine(plan.folder, "references-start", 12, MAX_CONCURRENT_REQUESTS="64") as up:
        _vendor_of(up, vendor)
        up.start("web", "dispatcher", "worker")
        up.wait_ready()
        taken = []
        for _ in range(plan.slices):
            vendor.reset()
            vendor.script("hold", default="delay=0.5")
            done = up.completed()
            page = BODY | {"references": [{"item": 0, "name": "Pip"}]}
            with up.client() as client:
                batch = client.post("/batch", json={"requests": [BODY, *[page] * _PAGES]}).raise_for_status().json()
            wait_until(lambda: vendor.stats().active == 1, what="the call for the sheet")
            time.sleep(1)
            if vendor.stats().count != 1:
                raise RuntimeError("a page was called before its sheet was there")
            vendor.release()
            wait_until(partial(_has_completed, up, done + _PAGES + 1), seconds=60, what="all pages")
            sheet, *pages = (one["requestId"] for one in batch["requests"])
            ids = ", ".join(f"'{one}'" for one in pages)
            seconds = up.one(
                f"SELECT extract(epoch FROM (SELECT max(started_at) FROM generation_requests WHERE id IN ({ids}))"  # noqa: S608
                f" - completed_at) FROM generation_requests WHERE id = '{sheet}'"
            )
            taken.append(float(seconds) * 1000)
        figure = Figure.of_times(f"{_PAGES} pages: from the sheet's end to the last start", taken)
        return figure.hoping(p50=_STARTED * 1000)


def _has_completed(up: Engine, count: int) -> bool:
    return up.completed() == count


def _photo(number: int) -> bytes:
    """A photo-like image with the most detail that a JPEG keeps."""
    noise = Image.frombytes("RGB", (256, 256), os.urandom(256 * 256 * 3))
    image = noise.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    image.paste((number % 256, 0, 0), (0, 0, 32, 32))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=95, subsampling=0)
    return out.getvalue()


def _memory(plan: Plan) -> Figure:
    with (
        FakeProvider() as vendor,
        engine(
            plan.folder, "references-memory", 13, MAX_CONCURRENT_REQUESTS=str(_CALLS), UPLOAD_QUOTA_MB="10000"
        ) as up,
    ):
        _vendor_of(up, vendor)
        vendor.script(default="hold")
        up.start("web", "dispatcher", "worker")
        up.wait_ready()
        with up.client() as client, ThreadPoolExecutor(2) as threads:

            def upload(number: int) -> str:
                answer = client.post(
                    "/uploads", files={"file": ("photo.jpg", _photo(number), "image/jpeg")}, timeout=60
                )
                return str(answer.raise_for_status().json()["uploadId"])

            ids = list(threads.map(upload, range(_CALLS * _IMAGES)))
            megabytes = float(up.one(_BYTES_READ)) / 1e6 / len(ids)
            idle = Figure("the same without a call", memory=up.memory("worker"))
            requests = [
                BODY | {"references": [{"uploadId": one} for one in ids[start : start + _IMAGES]]}
                for start in range(0, len(ids), _IMAGES)
            ]
            client.post("/batch", json={"requests": requests}).raise_for_status()
        most = 0.0

        def all_called() -> bool:
            nonlocal most
            most = max(most, up.memory("worker"))
            return vendor.stats().active == _CALLS

        wait_until(all_called, seconds=120, what="all calls under way")
        vendor.script()
        vendor.release()
        while up.unfinished(_CALLS):
            most = max(most, up.memory("worker"))
    figure = Figure(f"a worker with {_CALLS} calls of {_IMAGES} images of {megabytes:.1f} MB, at most", memory=most)
    return figure.beside(idle, "no call").also(f"< {_MB:.0f} MB", met=most < _MB)
