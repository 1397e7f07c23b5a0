"""``manage.py check_provider``: one real call that no request stands for, and what it prints."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from PIL import Image

from generation import caching
from generation.models import GenerationRequest, ProviderModel
from generation.providers import circuit_breaker
from tests.support.stack import ROOT, closed_port, empty_database, prepared_database
from tests.support.vendors import Vendors

pytestmark = pytest.mark.django_db(transaction=True)


def check(*arguments: Any) -> tuple[int, str]:
    """Its exit code and what it printed."""
    out = io.StringIO()
    try:
        call_command("check_provider", *arguments, stdout=out, no_color=True)
    except SystemExit as end:
        return int(str(end.code)), out.getvalue()
    return 0, out.getvalue()


def not_configured(*arguments: Any) -> str:
    with pytest.raises(CommandError) as caught:
        check(*arguments)
    assert caught.value.returncode == 2
    return str(caught.value)


def test_a_call_that_succeeds_is_described_line_by_line(vendors: Vendors) -> None:
    code, page = check("stability")
    assert code == 0
    assert page.splitlines()[0] == "Requesting one image from stability with core. It costs about USD 0.03."
    table = {name.rstrip(): value for name, value in re.findall(r"^  (\S.*?)  +(\S.*)$", page, re.MULTILINE)}
    assert re.fullmatch(r"\d+\.\d s", table.pop("took"))
    assert re.fullmatch(r"[\d,]+", table.pop("bytes"))
    assert re.fullmatch(r"\d+ x \d+", table.pop("pixels"))
    assert table.pop("request id") != "not reported"
    assert table.pop("seed").isdigit()
    assert table == {
        "provider": "stability",
        "model": "core",
        "options": "negativePrompt, outputFormat, quality:low, quality:medium, seed",
        "format": "image/png",
        "usage": "images 1",
        "cost": "USD 0.03",
    }
    assert vendors.called == ["stability"]
    assert not GenerationRequest.objects.exists()


def test_prompt_and_model_can_be_chosen_and_the_prompt_is_built_as_usual(vendors: Vendors) -> None:
    code, page = check("stability", "--model", "ultra", "--prompt", "A whale in the sky")
    assert code == 0
    assert "with ultra. It costs about USD 0.08." in page
    (call,) = vendors.fake.journal()
    assert call.prompt.startswith("A whale in the sky, children's book illustration")


def test_the_image_is_saved_to_the_given_file(vendors: Vendors, tmp_path: Path) -> None:
    path = tmp_path / "page.png"
    _, page = check("openai", "--save", str(path))
    with Image.open(path) as image:
        assert f"{image.width} x {image.height}" in page
    assert str(path) in page


def test_a_folder_that_is_not_there_is_told_before_anything_is_paid_for(vendors: Vendors, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="There is no folder"):
        check("openai", "--save", str(tmp_path / "none" / "page.png"))
    assert vendors.called == []


def test_a_free_provider_says_so(vendors: Vendors) -> None:
    code, page = check("clipart")
    assert code == 0
    assert "It costs nothing." in page


@pytest.mark.parametrize(
    ("behavior", "code", "said", "advice"),
    [
        ("status=401", "auth", "OpenAI does not accept the key", "Check the provider's key"),
        ("quota", "quota_exhausted", "is used up", "Add credit"),
        ("status=429;retry-after=7", "rate_limited", "7 s", "Try again later"),
        ("moderation=input", "refused_input", "violence", "Rephrase"),
        ("empty", "empty_result", "without an image", "more clearly"),
        ("malformed", "invalid_image", "cannot be read", "another model"),
    ],
)
def test_a_call_that_fails_is_told_with_its_code_and_what_to_do(
    vendors: Vendors, behavior: str, code: str, said: str, advice: str
) -> None:
    vendors.fake.script(behavior)
    exit_code, page = check("openai")
    assert exit_code == 1
    for words in (code, said, advice, "req_fake_1"):
        assert words in page
    assert "sk-" not in page


def test_a_provider_that_never_answers_is_not_waited_for_for_ever(vendors: Vendors, settings: Any) -> None:
    settings.PROVIDER_TIMEOUT = timedelta(milliseconds=300)
    vendors.fake.script("hang")
    code, page = check("openai")
    assert (code, "timeout" in page) == (1, True)


def test_it_is_called_despite_its_open_breaker_and_says_so(vendors: Vendors) -> None:
    circuit_breaker.failed("openai", "auth", wait=timedelta(0))
    code, page = check("openai")
    assert code == 0
    assert page.splitlines()[-1] == "It is suspended at the moment; manage.py resume_provider openai ends that."


def test_a_retired_model_is_stood_in_for_and_that_is_told(vendors: Vendors) -> None:
    successor = ProviderModel.objects.get(name="ultra")
    ProviderModel.objects.filter(name="core").update(enabled=False, successor=successor)
    caching.clear_all()
    assert "The model core is retired; ultra was used." in check("stability")[1]


def test_an_unconfigured_provider_is_named_and_not_called(vendors: Vendors, settings: Any) -> None:
    settings.PROVIDER_OPTIONS = {"clipart": {}}
    assert not_configured("openai") == "openai is not configured: OPENAI_API_KEY is not set."
    assert "There is no provider midjourney; use one of clipart, google, openai, stability" in not_configured(
        "midjourney"
    )
    assert vendors.called == []


def test_a_model_that_is_gone_without_a_successor_is_not_configured_either(vendors: Vendors) -> None:
    ProviderModel.objects.filter(name="core").update(enabled=False)
    caching.clear_all()
    assert not_configured("stability", "--model", "core") == "The model core is retired."


def process(name: str, database_url: str) -> tuple[int, str]:
    """Exit code and all that it wrote."""
    environment = os.environ | {
        "DATABASE_URL": database_url,
        "OPENAI_API_KEY": "sk-canary",
        "OPENAI_BASE_URL": f"http://127.0.0.1:{closed_port()}/v1",
    }
    command = [sys.executable, "manage.py", "check_provider", name]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "sk-canary" not in done.stdout + done.stderr
    return done.returncode, done.stdout + done.stderr


def test_the_exit_codes_are_those_of_the_process() -> None:
    with prepared_database() as url:
        codes = {name: process(name, url)[0] for name in ("clipart", "openai", "stability")}
    assert codes == {"clipart": 0, "openai": 1, "stability": 2}


def test_without_tables_it_names_the_command_that_knows_more() -> None:
    with empty_database() as url:
        code, said = process("openai", url)
    assert code == 1
    assert "manage.py doctor" in said
