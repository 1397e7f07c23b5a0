"""The benchmarks: their table, their comparison with an older run, their images and their vendor."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from PIL import Image

from benchmarks import litellm, report
from benchmarks.__main__ import PARTS
from benchmarks.__main__ import main as run_benchmarks
from benchmarks.litellm import RunningProxy
from benchmarks.report import Figure
from benchmarks.samples import samples
from benchmarks.turns import Measured, in_turns, middle
from benchmarks.usage import processor_seconds, proportional_memory
from benchmarks.vendor import running_vendor

pytestmark = pytest.mark.unit


def figure(case="submit", **values) -> Figure:
    return Figure(case, **values)


def slower(old: Figure, new: Figure) -> list[str]:
    return report.slower([old], [new])


def test_a_case_is_slower_if_its_ratio_to_the_same_floor_fell() -> None:
    view = Figure("floor: empty view", rate=1000.0)
    busy = Figure("floor: empty view", rate=100.0)
    before = figure(rate=500.0).beside(view, "empty view")
    assert slower(before, figure(rate=50.0).beside(busy, "empty view")) == []
    assert slower(before, figure(rate=400.0).beside(view, "empty view")) == [
        "submit: 0.5 → 0.4 × empty view (+25%)",
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (figure(rate=100.0), figure(rate=50.0), "submit: 0.01 → 0.02 s for each (+100%)"),
        (figure(p50=10.0), figure(p50=15.0), "submit: 10 → 15 ms (+50%)"),
        (figure(memory=100.0), figure(memory=150.0), "submit: 100 → 150 MB (+50%)"),
        # Another floor says nothing, the peer does.
        (
            figure(floor=0.5, on="INSERT", peer=2.0),
            figure(floor=0.1, on="empty view", peer=1.0),
            "submit: 2 → 1 × the peer (+100%)",
        ),
    ],
)
def test_without_a_common_floor_the_next_best_is_compared(old: Figure, new: Figure, said: str) -> None:
    assert slower(old, new) == [said]
    assert slower(new, old) == []


def test_a_fifth_is_noise_and_a_new_case_has_nothing_to_be_slower_than() -> None:
    assert slower(figure(p50=10.0), figure(p50=11.9)) == []
    assert slower(figure("another", p50=1.0), figure(p50=99.0)) == []


def test_a_stored_run_of_an_older_format_is_read_as_far_as_known(tmp_path: Path) -> None:
    figures = [figure(p50=1.0, floor=0.5, on="INSERT").hoping(p50=2)]
    path = tmp_path / "new" / "run.json"
    report.write(path, figures, requests=10)
    assert report.read(path) == figures
    run = json.loads(path.read_text())
    assert run["requests"] == 10
    run["figures"][0] |= {"floors": 3.0}
    path.write_text(json.dumps(run))
    assert report.read(path) == figures


def test_the_table_says_of_each_goal_whether_it_was_met() -> None:
    floor = Figure("floor: empty view", rate=1000.0)
    judged = figure(p50=3.0, p99=70.0, rate=700.0).beside(floor, "empty view")
    judged = judged.hoping(p50=5, p99=60).at_least(0.6, floor, "empty view")
    assert judged.met is False
    assert judged.goal == "met: p50 ≤ 5 ms; MISSED: p99 ≤ 60 ms; met: ≥ 0.6 × empty view"
    head, *lines, note, verdict = report.table([floor, judged]).splitlines()
    assert head.startswith("case")
    assert lines[1].endswith(judged.goal)
    assert note.startswith("×")
    assert verdict == "0 of 1 goals met"


def test_the_middle_of_each_column_counts_and_cases_take_turns() -> None:
    order: list[str] = []

    def case(name: str, times: list[float]) -> Measured:
        order.append(name)
        p50 = times.pop()
        return Measured(calls=1000 / p50, seconds=1, p50=p50, p99=10 * p50, slowest=20 * p50)

    first, second = [1.0, 9.0, 2.0], [5.0, 5.0, 5.0]
    taken = in_turns({"first": lambda: case("first", first), "second": lambda: case("second", second)}, slices=3)
    assert order == ["first", "second"] * 3
    found = middle(taken["first"])
    assert (found.p50, found.p99, found.slowest, found.rate) == (2.0, 20.0, 40.0, 500.0)


def test_a_count_that_grew_is_named() -> None:
    assert slower(figure(count=4), figure(count=6)) == ["submit: 4 → 6 in all (+50%)"]


@pytest.mark.parametrize("kind", ["photo", "line art", "jpeg", "webp"])
def test_a_sample_is_a_valid_image_that_its_number_makes_unique(kind: str) -> None:
    sample = samples()[kind]
    files = [sample.numbered(number) for number in (1, 2)]
    assert files[0] != files[1]
    pixels = []
    for data in files:
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format or "").lower() == sample.format
            assert image.size == sample.size
            pixels.append(image.tobytes())
    assert pixels[0] == pixels[1]


def test_the_photo_is_as_large_as_those_of_vendors() -> None:
    assert samples()["photo"].megabytes == pytest.approx(2, rel=0.1)


@pytest.fixture(scope="module")
def vendor() -> Iterator[int]:
    with running_vendor() as port:
        yield port


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        ({"size": "1024x1536"}, "photo"),
        ({"size": "1024x1024"}, "line art"),
        ({"size": "1024x1536", "output_format": "jpeg"}, "jpeg"),
        ({"size": "1024x1536", "output_format": "webp"}, "webp"),
    ],
)
def test_the_vendor_sends_another_image_for_each_call(vendor: int, asked: dict[str, str], kind: str) -> None:
    sample, images = samples()[kind], []
    with httpx2.Client(base_url=f"http://127.0.0.1:{vendor}/v1", trust_env=False) as client:
        for _ in range(2):
            answer = client.post("/images/generations", json=asked).raise_for_status().json()
            assert answer["output_format"] == sample.format
            images.append(base64.b64decode(answer["data"][0]["b64_json"], validate=True))
        assert client.get("/models").status_code == 404
    assert images[0] != images[1]
    for data in images:
        assert data.startswith(sample.head)
        assert data.endswith(sample.tail)
        assert len(data) == len(sample.numbered(0))


def test_calls_through_a_proxy_fail_on_an_answer_without_an_image(vendor: int) -> None:
    proxy = RunningProxy(port=vendor, pid=os.getpid(), headers={"Content-Type": "application/json"})
    assert proxy.calls(4, at_once=2, least=2_000_000) > 0
    with pytest.raises(RuntimeError, match="answered 200"):
        proxy.calls(4, at_once=2, least=20_000_000)


def test_without_a_registry_litellm_is_left_out_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litellm, "ROOT", tmp_path)
    for name, value in {"CONFIG_FILE": os.devnull, "INDEX_URL": "http://127.0.0.1:9/simple", "RETRIES": "0"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    said: list[str] = []
    assert litellm.find(said.append) is None
    assert len(said) == 2
    assert said[1].startswith("LiteLLM is left out")
    assert "\n" not in said[1]


def test_the_processor_time_of_an_ended_child_is_counted() -> None:
    own, before = processor_seconds(os.getpid())
    subprocess.run([sys.executable, "-c", "for _ in range(3_000_000): pass"], check=True)
    own_after, after = processor_seconds(os.getpid())
    assert after > before
    assert own_after >= own
    assert proportional_memory(os.getpid()) > 10


def test_the_help_of_the_benchmarks_describes_every_part(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--help"])
    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        with pytest.raises(SystemExit):
            run_benchmarks()
    finally:
        for number, handler in handlers:
            signal.signal(number, handler)
    printed = capsys.readouterr().out
    assert [name for name, (measures, _) in PARTS.items() if f"{name:10} {measures}" not in printed] == []
