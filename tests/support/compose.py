"""``docker-compose.yml`` without an engine: read as Compose does, and its services run as plain processes."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
#: The services that run our own image.
OURS = ("migrate", "web", "realtime", "worker", "dispatcher", "deliverer")
_VARIABLE = re.compile(r"\$(?:(\$)|\{([A-Z_]+)(?:(:-|:\?)([^}]*))?\})")


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """``${NAME}``, ``${NAME:-default}`` and ``${NAME:?message}`` filled in, and ``$$`` as one. Raises ``KeyError``."""

    def fill(found: re.Match[str]) -> str:
        escaped, name, how, rest = found.groups()
        if escaped:
            return "$"
        if variables.get(name):
            return variables[name]
        if how != ":-":
            raise KeyError(f"{name}: {rest}")
        return rest.replace("$$", "$")

    return _VARIABLE.sub(fill, text)


def read(variables: Mapping[str, str]) -> dict[str, Any]:
    """The file with its anchors merged and its variables filled in."""

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: fill(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [fill(inner) for inner in value]
        return interpolated(value, variables) if isinstance(value, str) else value

    found: dict[str, Any] = fill(yaml.safe_load((ROOT / "docker-compose.yml").read_text()))
    return found


def make_secrets(folder: Path) -> None:
    """What the operator runs first."""
    subprocess.run([ROOT / "deploy/make-secrets.sh", folder], check=True, stdout=subprocess.DEVNULL)


def environment_of(service: Mapping[str, Any], *, secrets: Path, here: Mapping[str, str]) -> dict[str, str]:
    """What a process of the service finds in its environment on this machine: its secrets lie in a folder, and ``here``
    has what a container has to itself, such as ports and folders. Secrets that it is not given are not there."""
    given = {str(name): str(value) for name, value in service["environment"].items()}
    for name, value in given.items():
        if value.startswith("/run/secrets/"):
            secret = value.removeprefix("/run/secrets/")
            assert secret in service["secrets"], f"{name} names a secret that the service is not given"
            given[name] = str(secrets / secret)
    assert set(here) <= set(given), "only what the file sets is replaced"
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    return kept | given | dict(here)


def nginx_configuration(template: str, variables: Mapping[str, str]) -> str:
    """The template as the image fills it in: names that are in the environment, and no others."""
    return re.sub(r"\$\{([A-Z_]+)\}", lambda found: variables.get(found[1], found[0]), template)
