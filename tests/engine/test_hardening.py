"""What a process in a container may do, as the engine describes it and as the process finds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.engine.project import SERVICES, Project
from tests.support import compose

OURS = compose.OURS[1:]  # without migrate, which ends
PROXY_CAPABILITIES = {"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_NET_BIND_SERVICE", "CAP_SETGID", "CAP_SETUID"}
#: Of a process: its user, its capabilities, whether it can gain privileges, and whether the root is writable.
_PROBE = """
while read name value rest; do case $name in Uid:|CapEff:|CapBnd:|NoNewPrivs:) echo "$name $value";; esac; done \
    </proc/self/status
for folder in / /etc /usr/bin; do touch $folder/probe 2>/dev/null && echo "wrote $folder"; done; true
"""


@pytest.mark.parametrize("service", SERVICES)
def test_the_engine_confines_each_container(project: Project, service: str) -> None:
    found = project.inspect(service)
    host = found["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["Privileged"] is False
    assert [name.removeprefix("CAP_") for name in host["CapDrop"]] == ["ALL"]
    added = {f"CAP_{name.removeprefix('CAP_')}" for name in host["CapAdd"] or []}
    assert added == (PROXY_CAPABILITIES if service == "proxy" else set())
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    published = {port for port, bound in (found["NetworkSettings"]["Ports"] or {}).items() if bound}
    assert published == ({"80/tcp", "443/tcp"} if service == "proxy" else set())


@pytest.mark.parametrize("service", [name for name in SERVICES if name != "proxy"])
def test_a_process_finds_itself_confined(project: Project, service: str) -> None:
    lines = project.execute(service, "sh", "-c", _PROBE).splitlines()
    told = dict(line.split() for line in lines)
    assert "wrote" not in told, lines
    assert int(told["Uid:"]) > 0
    assert int(told["CapEff:"], 16) == int(told["CapBnd:"], 16) == 0
    assert told["NoNewPrivs:"] == "1"


def test_a_process_of_ours_writes_only_where_images_go(project: Project) -> None:
    for service in OURS:
        mounts = {mount["Destination"]: mount["RW"] for mount in project.inspect(service)["Mounts"]}
        writable = {path for path, writes in mounts.items() if writes}
        assert writable == {"/var/lib/visual-generation"}, service
    mounts = {mount["Destination"]: mount["RW"] for mount in project.inspect("proxy")["Mounts"]}
    assert not any(mounts.values())


def test_each_container_has_only_the_secrets_that_it_needs(project: Project) -> None:
    file = compose.read({"PUBLIC_BASE_URL": project.url})
    for service in SERVICES:
        wanted = set(file["services"][service].get("secrets", []))
        there = project.execute(service, "sh", "-c", "ls /run/secrets 2>/dev/null || true").split()
        assert set(there) == wanted, service


def test_no_secret_is_in_an_environment_or_an_argument(project: Project) -> None:
    values = {path.read_text().strip() for path in Path(project.secrets).iterdir()} - {""}
    for service in SERVICES:
        found: dict[str, Any] = project.inspect(service)
        told = json.dumps([found["Config"], found["Path"], found["Args"]])
        assert not [value for value in values if value in told], service
