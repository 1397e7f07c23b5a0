"""What the environment says of the providers, and what a worker loads for them: each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(script: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name not in {"PROVIDERS", "OPENAI_API_KEY"}}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, env=kept | environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("environment", "providers"),
    [
        ({}, "['clipart']"),
        ({"OPENAI_API_KEY": "sk-1"}, "['openai']"),
        ({"OPENAI_API_KEY": "sk-1", "PROVIDERS": "clipart"}, "['clipart']"),
        ({"OPENAI_API_KEY": "sk-1", "PROVIDERS": "clipart, openai"}, "['clipart', 'openai']"),
    ],
)
def test_the_providers_are_those_with_a_key_unless_they_are_named(environment: dict[str, str], providers: str) -> None:
    assert run("from config import settings; print(settings.PROVIDERS)", **environment) == providers


def test_a_worker_without_openai_does_not_load_its_sdk() -> None:
    script = (
        "import sys; from workers.providers.registry import Registry; "
        "Registry(['clipart'], {}).choose(); print('openai' in sys.modules)"
    )
    assert run(script) == "False"
