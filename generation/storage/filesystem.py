"""Image files on disk."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.files.storage import FileSystemStorage

#: Bytes in one write.
_CHUNK: Final = 16 * 1024 * 1024
#: Folders whose files are needed for seconds. They survive the end of a process, which is what they are for, and may be
#: lost with the machine's power.
_BRIEF: Final = ("receipts/", "probes/", "previews/")
#: Folders whose files are sent to clients.
_PUBLIC: Final = ("results/", "thumbnails/", "uploads/")
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class AtomicFileSystemStorage(FileSystemStorage):
    """Stores files atomically: a crash while writing leaves nothing under the final name. Saving again replaces."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_overwrite=True, **options)

    def save(self, name: str | None, content: Any, max_length: int | None = None) -> str:
        """Write the file under exactly this name. Raises ``OSError``."""
        name = str(name)
        target = self.path(name)
        folder = os.path.dirname(target)
        draft = os.path.join(folder, f".draft-{secrets.token_hex(8)}")
        mode = 0o644 if settings.ACCEL_LOCATION and name.startswith(_PUBLIC) else 0o600
        try:
            handle = os.open(draft, _NEW_FILE, mode)
        except FileNotFoundError:  # rare, so it is not checked each time
            os.makedirs(folder, exist_ok=True)
            handle = os.open(draft, _NEW_FILE, mode)
        # Plain system calls: each further Python call in a worker may wait for the interpreter lock.
        try:
            try:
                for chunk in content.chunks(_CHUNK):
                    _write_all(handle, chunk)
                if not name.startswith(_BRIEF):
                    os.fsync(handle)
            finally:
                os.close(handle)
            os.replace(draft, target)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
        return name

    def delete(self, name: str) -> None:
        """Remove the file, if it exists. Raises ``OSError``."""
        with suppress(FileNotFoundError):
            os.unlink(self.path(name))

    def files(self, folder: str) -> Iterator[tuple[str, datetime]]:
        """Return every key below the folder with the time at which it was written, in no order. Raises ``OSError``."""
        root = Path(self.path(folder))
        for path in root.rglob("*"):
            with suppress(FileNotFoundError):  # removed by another process
                if path.is_file():
                    key = f"{folder}/{path.relative_to(root).as_posix()}"
                    yield key, datetime.fromtimestamp(path.stat().st_mtime, UTC)

    def path_for_proxy(self, key: str) -> str:
        """Return the path for ``X-Accel-Redirect``; empty without a proxy, or if the file was stored before there was
        one and the proxy may not read it. Raises ``FileNotFoundError``."""
        if not settings.ACCEL_LOCATION:
            return ""
        readable = os.stat(self.path(key)).st_mode & stat.S_IROTH
        return f"{settings.ACCEL_LOCATION}{key}" if readable else ""


def _write_all(handle: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]
