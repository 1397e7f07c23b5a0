"""The description of the API, held against the API: by a fuzzer, and by a client that was generated from it."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from generation.api.openapi.examples import CREDENTIALS, SUBMIT
from tests.support.length import lasting
from tests.support.stack import PASSWORD, ROOT, Stack, prepared_stack, wait_until

pytestmark = pytest.mark.long

#: How many inputs are made up for a call, on top of those that follow from its description.
EXAMPLES = int(lasting(8, full=50))
#: Links that are guessed on top of the described ones lead away from those.
FUZZER_SETTINGS = "[phases.stateful.inference]\nalgorithms = []\n"
#: A generated client saves images as bytes, once it is told that they are.
CLIENT_SETTINGS = """\
post_hooks: []
content_type_overrides: {image/png: application/octet-stream, image/jpeg: application/octet-stream,
  image/webp: application/octet-stream}
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("stack")
    rates = dict.fromkeys(("SUBMIT_RATE", "TOKEN_RATE"), "1000000/s")
    rates["WEBHOOK_ALLOWED_NETWORKS"] = "192.0.2.0/24"
    # The worker must leave some of the machine to the fuzzer.
    with prepared_stack(folder, MAX_CONCURRENT_REQUESTS="1", **rates) as stack:
        user = f"from django.contrib.auth.models import User; User.objects.create_user(**{CREDENTIALS!r})"
        stack.manage("shell", "-v0", "-c", user)
        stack.start("web", "worker", "dispatcher")
        stack.wait_ready()
        yield stack


def run(*command: str, cwd: Path, **environment: str) -> None:
    """Run a program of the virtual environment; its output is shown where it fails."""
    program, *arguments = command
    done = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        cwd=cwd,
        env={"PATH": str(Path(sys.executable).parent), "HOME": str(cwd), "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def fuzz(stack: Stack, folder: Path, *options: str, examples: int = EXAMPLES) -> None:
    """Run schemathesis as alice, with every check that fits, and the same inputs in every run."""
    (folder / "schemathesis.toml").write_text(FUZZER_SETTINGS)
    with stack.client() as alice:
        token = alice.headers["Authorization"]
    run(
        "schemathesis",
        *("--config-file", "schemathesis.toml", "run", f"{stack.base_url}/api/schema"),
        *("--no-color", "--header", f"Authorization: {token}"),
        *("--generation-deterministic", "--max-examples", str(examples), "--continue-on-failure"),
        # A schema cannot say which bytes are an image. The tests of edits and uploads try both kinds.
        *("--exclude-path", "/v1/images/edits"),
        *("--exclude-operation-id", "uploadImage"),
        # What is deleted here is cancelled, as the guide has it: it is over, and its status says so.
        *("--checks", "all", "--exclude-checks", "use_after_free"),
        # No string may have NUL in it, since PostgreSQL takes none. A pattern on every string could say so, at the cost
        # of the patterns that tell something.
        *("--generation-allow-x00", "false"),
        *options,
        cwd=folder,
        SCHEMATHESIS_HOOKS="tests.support.schemathesis_hooks",
        DJANGO_SETTINGS_MODULE="config.settings",
        DEBUG="true",
        VAR_DIR=str(folder / "var"),
    )


@pytest.mark.parametrize("phases", ["examples", "coverage", "fuzzing"])
def test_schemathesis_finds_no_answer_that_is_not_described(stack: Stack, tmp_path: Path, phases: str) -> None:
    """By the examples, by what follows from the description, and by made-up inputs, good and bad."""
    fuzz(stack, tmp_path, "--phases", phases)


# Together they are so many that few of the links would be followed.
# Each call for a token hashes a password, which is slow on purpose.
@pytest.mark.parametrize(
    ("tags", "examples"),
    [
        (("Requests", "Pictures"), EXAMPLES),
        (("Batches",), EXAMPLES),
        (("Tokens",), EXAMPLES // 2),
        (("API keys",), EXAMPLES // 2),
        (("Webhooks",), EXAMPLES // 2),
    ],
    ids=["Requests", "Batches", "Tokens", "API keys", "Webhooks"],
)
def test_schemathesis_finds_none_in_calls_that_follow_on_each_other(
    stack: Stack, tmp_path: Path, tags: tuple[str, ...], examples: int
) -> None:
    named = (option for tag in tags for option in ("--include-tag", tag))
    fuzz(stack, tmp_path, "--phases", "stateful", *named, examples=examples)


@pytest.fixture
def generated(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports a module of a client that openapi-python-client wrote, with no warning, from the description."""
    (tmp_path / "settings.yml").write_text(CLIENT_SETTINGS)
    run(
        "openapi-python-client",
        *("generate", "--url", f"{stack.base_url}/api/schema", "--output-path", "visual_generation_client"),
        *("--meta", "none", "--config", "settings.yml", "--fail-on-warning"),
        cwd=tmp_path,
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda name: importlib.import_module(f"visual_generation_client.{name}")
    for name in [name for name in sys.modules if name.startswith("visual_generation_client")]:
        del sys.modules[name]


def test_a_generated_client_signs_in_and_gets_an_image(stack: Stack, generated: Any) -> None:
    models, client = generated("models"), generated("client")
    with client.Client(base_url=stack.base_url, raise_on_unexpected_status=True) as anonymous:
        credentials = models.Credentials(username="alice", password=PASSWORD)
        tokens = generated("api.tokens.obtain_token").sync(client=anonymous, body=credentials)
    with client.AuthenticatedClient(
        base_url=stack.base_url, token=tokens.access, raise_on_unexpected_status=True
    ) as alice:
        submit, status = generated("api.requests.submit_request"), generated("api.requests.get_request")
        # Before all that the fuzzer may have left in the queue.
        accepted = submit.sync(client=alice, body=models.Submit.from_dict(SUBMIT | {"priority": "urgent"}))
        assert accepted.status is models.Status.QUEUED

        def ended() -> Any:
            request = status.sync(accepted.request_id, client=alice, image_data=False)
            return request if request.status not in {models.Status.QUEUED, models.Status.IN_PROGRESS} else None

        request = wait_until(ended, what="an end")
        assert request.status is models.Status.COMPLETED
        assert request.metadata.image_style == SUBMIT["metadata"]["imageStyle"]
        file = generated("api.pictures.get_image").sync(accepted.request_id, client=alice)
        with Image.open(BytesIO(file.payload.read())) as image:
            assert image.size == (request.result.width, request.result.height)

        refused = submit.sync(client=alice, body=models.Submit(type_=models.GenerationType.COVER, prompt="?"))
        assert isinstance(refused, models.ValidationError)
        assert [fault.path for fault in refused.errors] == ["prompt"]
