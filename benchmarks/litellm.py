"""LiteLLM's proxy, a gateway in front of vendors: it passes an image through where the product also checks and stores
it. It is installed into an environment of its own on first use."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from config.local.parent_death import ending_with_this
from config.local.valkey import free_port
from tests.support.stack import ROOT, wait_until

#: One version, so that ratios of different runs can be compared.
_REQUIREMENT: Final = "litellm[proxy]==1.108.7"
_MODEL: Final = "gpt-image-2"
#: It imports for some ten seconds.
_START_SECONDS: Final = 90.0
#: No download of prices, and no log line for each call.
_SETTINGS: Final = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "DISABLE_ADMIN_UI": "True"}


@dataclass(frozen=True, kw_only=True)
class RunningProxy:
    """A proxy with one process. ``headers`` and ``body`` are those of a call to ``path``."""

    port: int
    pid: int
    headers: dict[str, str]
    path: str = "/v1/images/generations"
    body: str = json.dumps({"model": _MODEL, "prompt": "A friendly dragon in a garden", "size": "1024x1536", "n": 1})

    def answers(self) -> bool:
        """Return whether it is up."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/health/liveliness").status_code == 200
        except httpx.TransportError:
            return False


@dataclass(frozen=True)
class LiteLLM:
    """An installed proxy: the path of its program."""

    program: Path

    @contextlib.contextmanager
    def running(self, folder: Path, *, vendor_port: int) -> Iterator[RunningProxy]:
        """Run the proxy in front of the vendor, without a database, while the block lasts."""
        folder.mkdir()
        port, key = free_port(), f"sk-{secrets.token_hex(16)}"
        options = {
            "model": f"openai/{_MODEL}",
            "api_base": f"http://127.0.0.1:{vendor_port}/v1",
            "api_key": "sk-test",
        }
        model = {"model_name": _MODEL, "litellm_params": options, "model_info": {"mode": "image_generation"}}
        config = folder / "config.json"
        config.write_text(json.dumps({"model_list": [model], "litellm_settings": {"telemetry": False}}))
        command = [self.program, "--config", config, "--host", "127.0.0.1", "--port", str(port)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "--num_workers", "1", "--telemetry", "False"],
                # Only what it needs: it reads settings of databases, vendors and telemetry from the environment.
                env={"PATH": os.environ["PATH"], "HOME": str(folder), "LITELLM_MASTER_KEY": key, **_SETTINGS},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=ending_with_this(),
            )
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        proxy = RunningProxy(port=port, pid=process.pid, headers=headers)
        try:
            wait_until(lambda: proxy.answers() or process.poll() is not None, seconds=_START_SECONDS, what="LiteLLM")
            if process.poll() is not None:
                raise RuntimeError(f"LiteLLM does not start: {(folder / 'log').read_text()[-500:]}")
            yield proxy
        finally:
            process.kill()
            process.wait(20)


def find(say: Callable[[str], None]) -> LiteLLM | None:
    """Return the proxy, installed if it was not. Without it, say why in one line and return None."""
    folder = ROOT / "var" / "bench" / "litellm"
    installed = folder / "installed"
    if not (installed.is_file() and installed.read_text() == _REQUIREMENT):
        say("installing LiteLLM's proxy, once; a minute or two")
        shutil.rmtree(folder, ignore_errors=True)
        try:
            _install(folder)
        except (OSError, subprocess.CalledProcessError) as error:
            lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            say(f"LiteLLM is left out, it cannot be installed: {lines[-1]}")
            return None
        installed.write_text(_REQUIREMENT)
    return LiteLLM(folder / "bin" / "litellm")


def _install(folder: Path) -> None:
    commands = (
        # Debian's Python cannot install pip into a new environment, but ours has one.
        ["-m", "venv", "--without-pip", str(folder)],
        ["-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet", "--no-input", _REQUIREMENT],
    )
    for command in commands:
        subprocess.run(
            [sys.executable, *command], check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
