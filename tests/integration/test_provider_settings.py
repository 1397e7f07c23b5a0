"""What the environment says of the providers, and what a worker loads for them: each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: What decides which providers there are.
DECISIVE = {"PROVIDERS", "OPENAI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_CLOUD_PROJECT_ID"}


def run(script: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name not in DECISIVE}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, env=kept | environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("environment", "providers"),
    [
        ({}, "['clipart']"),
        ({"OPENAI_API_KEY": "sk-1"}, "['openai']"),
        ({"GOOGLE_API_KEY": "AIza-1"}, "['google']"),
        ({"GOOGLE_CLOUD_PROJECT_ID": "studio"}, "['google']"),
        ({"GOOGLE_CLOUD_PROJECT_ID": "studio", "OPENAI_API_KEY": "sk-1"}, "['openai', 'google']"),
        ({"OPENAI_API_KEY": "sk-1", "PROVIDERS": "clipart"}, "['clipart']"),
        ({"OPENAI_API_KEY": "sk-1", "PROVIDERS": "clipart, openai"}, "['clipart', 'openai']"),
    ],
)
def test_the_providers_are_those_with_a_key_unless_they_are_named(environment: dict[str, str], providers: str) -> None:
    assert run("from config import settings; print(settings.PROVIDERS)", **environment) == providers


def test_who_is_not_configured_is_not_among_the_options() -> None:
    assert run("from config import settings; print(sorted(settings.PROVIDER_OPTIONS))") == "['clipart']"


def test_a_worker_without_a_vendor_does_not_load_its_sdk() -> None:
    script = (
        "import sys; from workers.providers.registry import Registry; "
        "Registry(['clipart'], {'clipart': {}}).choose(); print({'openai', 'google.genai'} & sys.modules.keys())"
    )
    assert run(script) == "set()"
