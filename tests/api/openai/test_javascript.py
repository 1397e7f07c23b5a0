"""Images by the official JavaScript SDK."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.api.openai.conftest import OpenAIStack
from tests.support import npm

#: It needs Node 22, says its package, and runs under 20.
SDK = "openai@7.59.0"
SCRIPT = Path(__file__).with_name("client.mjs")

Run = Callable[[str], Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the SDK."""
    folder = tmp_path_factory.mktemp("javascript")
    npm.install(SDK, folder)
    shutil.copy(SCRIPT, folder)
    return folder


@pytest.fixture
def run(folder: Path, vendor: OpenAIStack) -> Run:
    """Return a function that runs a scenario of the script and returns its result."""

    def run(scenario: str) -> Any:
        environment = os.environ | {"BASE_URL": vendor.base_url, "API_KEY": vendor.key, "SCENARIO": scenario}
        command = ["node", str(folder / SCRIPT.name)]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    return run


def test_it_gets_an_image(run: Run, vendor: OpenAIStack) -> None:
    got = run("image")
    [row] = vendor.new_requests()
    assert got == {
        "image": "iVBOR",
        "size": f"{row['result']['width']}x{row['result']['height']}",
        "usage": 220,
        "ids": row["id"],
    }


def test_it_reads_a_stream(run: Run) -> None:
    assert run("stream") == [{"type": "image_generation.completed", "image": "iVBOR"}]


def test_it_reads_partial_images(run: Run, vendor: OpenAIStack, monkeypatch: pytest.MonkeyPatch) -> None:
    vendor.fake.script(default="stream=steps")
    monkeypatch.setenv("RELEASE_URL", f"{vendor.fake.openai_url.removesuffix('/v1')}/_release")
    assert run("partialImages") == [
        {"type": "image_generation.partial_image", "image": "iVBOR", "index": 0},
        {"type": "image_generation.completed", "image": "iVBOR", "index": None},
    ]


def encoded(mode: str, shade: Any) -> str:
    out = io.BytesIO()
    Image.new(mode, (96, 64), shade).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def test_it_edits_images(run: Run, vendor: OpenAIStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE", encoded("RGB", "red"))
    monkeypatch.setenv("MASK", encoded("RGBA", (0, 0, 0, 0)))
    assert run("edit") == "iVBOR"
    [call] = vendor.fake.journal()
    assert [image["field"] for image in call.options["images"]] == ["image", "image", "mask"]
    assert [row["priority"] for row in vendor.new_requests()] == ["high"]


def test_its_repeated_edit_joins_the_first(run: Run, vendor: OpenAIStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE", encoded("RGB", "red"))
    vendor.fake.script(default="delay=2")
    assert run("editAgain") == 1
    assert (vendor.calls, len(vendor.new_requests())) == (1, 1)


def test_it_reads_the_error_of_a_stream(run: Run, vendor: OpenAIStack) -> None:
    vendor.fake.script(default="moderation=input")
    error = run("streamError")
    assert error["code"] == "moderation_blocked"
    assert vendor.calls == 1


def test_it_reads_errors(run: Run) -> None:
    error = {"status": 400, "code": "invalid_choice", "type": "invalid_request_error", "requestID": True}
    assert run("error") == error


def test_it_reads_the_models(run: Run) -> None:
    assert run("models") is True


@pytest.mark.parametrize(
    ("scenario", "script", "status", "code"),
    [("failure", "status=500", 502, "unavailable"), ("tooLong", "hold", 504, "still_running")],
)
def test_it_sends_no_call_again_that_would_cost(
    run: Run, vendor: OpenAIStack, scenario: str, script: str, status: int, code: str
) -> None:
    vendor.fake.script(default=script)
    error = run(scenario)
    assert (error["status"], error["code"]) == (status, code)
    assert vendor.calls == 1
    assert len(vendor.new_requests()) == 1


def test_a_call_that_it_sends_again_costs_one_image(run: Run, vendor: OpenAIStack) -> None:
    vendor.fake.script(default="delay=1.5")
    assert run("again") == 1
    assert vendor.calls == 1
    assert len(vendor.new_requests()) == 1
