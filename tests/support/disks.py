"""A place for files that a test may fill or take away."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_SIZE = 2 * 1024 * 1024


class Disk:
    """Stands at a path by a link, and is taken away by a file in place of the link."""

    def __init__(self, place: Path, folder: Path, *, is_small: bool) -> None:
        self.place = place
        self._folder = folder
        #: Whether it can be filled: a disk of its own takes the right to mount one.
        self.is_small = is_small
        self._ballast = folder / "ballast"
        self._link()

    @contextmanager
    def full(self) -> Iterator[None]:
        """Not one more byte has room."""
        assert self.is_small
        with pytest.raises(OSError, match="No space left"):
            _write_forever(self._ballast)
        try:
            yield
        finally:
            self._ballast.unlink()

    @contextmanager
    def away(self) -> Iterator[None]:
        """There is a file in place of the folder."""
        other = self.place.with_suffix(".other")
        other.touch()
        other.replace(self.place)
        try:
            yield
        finally:
            self._link()

    def files(self) -> set[Path]:
        """What is stored, by its path on the disk."""
        return {path.relative_to(self._folder) for path in self._folder.rglob("*") if path.is_file()}

    def _link(self) -> None:
        other = self.place.with_suffix(".other")
        other.symlink_to(self._folder)
        other.replace(self.place)


@contextmanager
def disk_at(place: Path) -> Iterator[Disk]:
    """A disk of 2 MB, or a folder if mounting is not permitted."""
    folder = place.with_name(f"{place.name}-disk")
    folder.mkdir(parents=True)
    is_small = _as_root("mount", "-t", "tmpfs", "-o", f"size={_SIZE},mode=1777", "tmpfs", str(folder))
    try:
        yield Disk(place, folder, is_small=is_small)
    finally:
        if is_small:
            assert _as_root("umount", str(folder))


def _write_forever(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def _as_root(*command: str) -> bool:
    for prefix in ([], ["sudo", "-n"]):
        try:
            if subprocess.run([*prefix, *command], capture_output=True, stdin=subprocess.DEVNULL).returncode == 0:
                return True
        except FileNotFoundError:
            continue
    return False
