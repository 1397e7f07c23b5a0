"""LiteLLM's proxy, a gateway in front of vendors: it passes an image through where the product also checks and stores
it. It is installed into an environment of its own on first use."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Final

import httpx2

from config.local.parent_death import ending_with_this
from config.local.valkey import free_port
from tests.support.stack import ROOT, wait_until

#: One version, so that ratios of different runs can be compared.
_REQUIREMENT: Final = "litellm[proxy]==1.108.7"
_MODEL: Final = "gpt-image-2"
PATH: Final = "/v1/images/generations"
CALL: Final = json.dumps({"model": _MODEL, "prompt": "A friendly dragon in a garden", "size": "1024x1536", "n": 1})
#: It imports for some ten seconds.
_START_SECONDS: Final = 90.0
#: No download of prices, and no log line for each call.
_SETTINGS: Final = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "DISABLE_ADMIN_UI": "True"}


@dataclass(frozen=True, kw_only=True)
class RunningProxy:
    """A proxy with one process."""

    port: int
    pid: int
    headers: dict[str, str]

    def answers(self) -> bool:
        """Return whether it is up."""
        try:
            return httpx2.get(f"http://127.0.0.1:{self.port}/health/liveliness").status_code == 200
        except httpx2.TransportError:
            return False

    def calls(self, count: int, *, at_once: int, least: int) -> float:
        """Make so many calls over ``at_once`` connections, and return how long they took in seconds. Raises
        ``RuntimeError`` if an answer is an error or has fewer bytes than ``least``."""
        connections: SimpleQueue[http.client.HTTPConnection] = SimpleQueue()

        def call(_: int) -> None:
            connection = connections.get()
            try:
                connection.request("POST", PATH, CALL, self.headers)
                answer = connection.getresponse()
                body = answer.read()
            finally:
                connections.put(connection)  # the other threads wait for one
            if answer.status != 200 or len(body) < least:
                raise RuntimeError(f"LiteLLM answered {answer.status} with {len(body):,} bytes: {body[:300]!r}")

        with contextlib.ExitStack() as opened:
            for _ in range(at_once):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                connections.put(opened.enter_context(contextlib.closing(connection)))
            began = time.monotonic()
            with ThreadPoolExecutor(at_once) as threads:
                list(threads.map(call, range(count)))
            return time.monotonic() - began


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
        command = [str(self.program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
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
        subprocess.run([sys.executable, *command], check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True)
