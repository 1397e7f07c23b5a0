"""What the environment says of the providers, and what a worker loads for them: each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("PROVIDERS", "OPENAI_", "STABILITY_", "GOOGLE_")


def run(script: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, env=kept | environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("environment", "providers"),
    [
        ({}, "['clipart']"),
        ({"OPENAI_API_KEY": "sk-1"}, "['openai']"),
        ({"STABILITY_API_KEY": "sk-2"}, "['stability']"),
        ({"STABILITY_API_KEY": "sk-2", "OPENAI_API_KEY": "sk-1"}, "['openai', 'stability']"),
        ({"GOOGLE_API_KEY": "AIza-1"}, "['google']"),
        ({"GOOGLE_CLOUD_PROJECT_ID": "studio"}, "['google']"),
        ({"GOOGLE_CLOUD_PROJECT_ID": "studio", "OPENAI_API_KEY": "sk-1"}, "['openai', 'google']"),
        (
            {"GOOGLE_API_KEY": "AIza-1", "STABILITY_API_KEY": "sk-2", "OPENAI_API_KEY": "sk-1"},
            "['openai', 'stability', 'google']",
        ),
        ({"OPENAI_API_KEY": "sk-1", "PROVIDERS": "clipart"}, "['clipart']"),
        ({"OPENAI_API_KEY": "sk-1", "PROVIDERS": "clipart, openai"}, "['clipart', 'openai']"),
    ],
)
def test_the_providers_are_those_with_a_key_unless_they_are_named(environment: dict[str, str], providers: str) -> None:
    assert run("from config import settings; print(settings.PROVIDERS)", **environment) == providers


def test_an_unconfigured_provider_is_not_offered() -> None:
    assert run("from config import settings; print(sorted(settings.PROVIDER_OPTIONS))") == "['clipart']"


def test_a_worker_without_a_vendor_does_not_load_its_sdk() -> None:
    script = (
        "import sys; from workers.providers.registry import Registry; "
        "Registry(['clipart'], {'clipart': {}}).choose(); "
        "print({'openai', 'google.genai', 'grpc', 'httpx2'} & sys.modules.keys())"
    )
    assert run(script) == "set()"


MADE = (
    "from config import settings; from workers.providers.registry import Registry; import sys; "
    "chosen = Registry(settings.PROVIDERS, settings.PROVIDER_OPTIONS).choose(); "
    "print(type(chosen).__name__, settings.PROVIDER_MODELS['stability'], 'grpc' in sys.modules)"
)


@pytest.mark.parametrize(
    ("environment", "made"),
    [
        ({}, "StabilityProvider core False"),
        ({"STABILITY_TRANSPORT": "rest", "STABILITY_IMAGE_MODEL": "ultra"}, "StabilityProvider ultra False"),
        pytest.param(
            {"STABILITY_TRANSPORT": "grpc"},
            "StabilityGrpcProvider stable-diffusion-xl-1024-v1-0 True",
            marks=pytest.mark.skipif(find_spec("stability_sdk") is None, reason="there is none for Python 3.13"),
        ),
    ],
)
def test_the_transport_to_stability_is_a_setting_and_only_that_is_loaded(
    environment: dict[str, str], made: str
) -> None:
    assert run(MADE, STABILITY_API_KEY="sk-2", **environment) == made


def test_a_transport_that_is_none_is_refused() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run("from config import settings", STABILITY_TRANSPORT="carrier-pigeon")
    assert "STABILITY_TRANSPORT must be one of rest, grpc, not 'carrier-pigeon'" in caught.value.stderr
