"""The programs of a container engine, from Debian's packages.

Debian 12 has no Compose 2.24, so the engine comes from a newer suite. Its packages are unpacked into a folder and not
installed. ``runc`` of that suite needs a newer libc, so it and the small tools come from the machine's own suite.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

_NEWER_SUITE: Final = "trixie"
#: Package → the programs that are taken from it.
_UNPACKED: Final = {
    "docker.io": ["usr/sbin/dockerd", "usr/sbin/docker-proxy"],
    "docker-cli": ["usr/bin/docker"],
    "containerd": ["usr/bin/containerd", "usr/bin/containerd-shim-runc-v2"],
    "docker-compose": ["usr/libexec/docker/cli-plugins/docker-compose"],
    "docker-buildx": ["usr/libexec/docker/cli-plugins/docker-buildx"],
}
#: Program → the package that is installed if it is missing.
_INSTALLED: Final = {"runc": "runc", "iptables": "iptables", "tini-static": "tini", "mmdebstrap": "mmdebstrap"}
_SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def cache_folder(*recipe: str | bytes) -> Path:
    """A folder that stays for later runs, and changes with the recipe of what is in it."""
    key = hashlib.sha256()
    for part in recipe:
        key.update(part.encode() if isinstance(part, str) else part)
        key.update(b"\0")
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "visual-generation-tests" / key.hexdigest()[:16]


def can_make_an_engine() -> bool:
    """Whether this is root on Debian or a relative of it."""
    return os.geteuid() == 0 and bool(shutil.which("apt-get")) and bool(shutil.which("dpkg-deb"))


def suite() -> str:
    """The name of this machine's Debian, such as bookworm."""
    return platform.freedesktop_os_release()["VERSION_CODENAME"]


def mirror() -> str:
    """Where this machine gets Debian's main packages from."""
    targets = _run("apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)", "Created-By: Packages")
    for line in targets.splitlines():
        release, component, address = line.split(maxsplit=2)
        if (release, component) == (suite(), "main"):
            return address
    raise AssertionError(f"apt has no source for {suite()} main")


def installed() -> None:
    """Install what the machine itself needs."""
    missing = [package for name, package in _INSTALLED.items() if not system_program(name)]
    if missing:
        _run("apt-get", "-qq", "update")
        _run("apt-get", "-qq", "install", "--yes", "--no-install-recommends", *missing)


def system_program(name: str) -> str | None:
    """The path of a program of this machine."""
    return shutil.which(name, path=_SYSTEM_PATH)


def unpacked() -> Path:
    """A folder with the programs of the engine; ``cli-plugins`` in it is for ``DOCKER_CONFIG``."""
    folder = cache_folder(_NEWER_SUITE, repr(_UNPACKED))
    if folder.is_dir():
        return folder
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        work.chmod(0o755)
        packages = _download(work)
        made = work / "made"
        (made / "cli-plugins").mkdir(parents=True)
        for package, wanted in _UNPACKED.items():
            (archive,) = packages.glob(f"{package}_*.deb")
            _run("dpkg-deb", "--extract", str(archive), str(work / "root"))
            for program in wanted:
                target = made / ("cli-plugins" if "cli-plugins" in program else ".") / Path(program).name
                shutil.move(work / "root" / program, target)
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(made, folder.with_suffix(".new"), dirs_exist_ok=True)
        folder.with_suffix(".new").rename(folder)
    return folder


def _download(work: Path) -> Path:
    """Download the packages with folders of apt's own, so that this machine's apt does not learn of the newer suite."""
    sources, downloads = work / "sources", work / "downloads"
    for one in (sources, downloads, work / "lists" / "partial", work / "cache" / "archives" / "partial"):
        one.mkdir(parents=True)
    (sources / "newer.list").write_text(f"deb {mirror()} {_NEWER_SUITE} main\n")
    options = {
        "Dir::Etc::SourceList": "/dev/null",
        "Dir::Etc::SourceParts": str(sources),
        "Dir::State::Lists": str(work / "lists"),
        "Dir::Cache": str(work / "cache"),
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    given = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    _run("apt-get", "-qq", *given, "update")
    _run("apt-get", "-qq", *given, "download", *_UNPACKED, cwd=downloads)
    return downloads


def _run(*command: str, cwd: Path | None = None) -> str:
    environment = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "PATH": _SYSTEM_PATH}
    kept = {name: value for name, value in os.environ.items() if re.search("proxy$", name, re.IGNORECASE)}
    done = subprocess.run(
        command, cwd=cwd, env=environment | kept, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"{' '.join(command[:4])} …: {done.stdout[-1000:]}{done.stderr[-2000:]}"
    return done.stdout
