"""Clean uploaded images: upright, in sRGB, without metadata.

A decoder that hangs, crashes or fills the memory must not take the web process along, so each image is decoded in a
process of its own. The web process has threads and therefore starts a program instead of forking; that takes a fifth of
a second, and neither process holds the bytes twice.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from typing import IO, Any, Final

#: Maximum bytes of an uploaded file, and of the body around it, which is a form with a name.
MAX_BYTES: Final = 20 * 1024 * 1024
MAX_BODY_BYTES: Final = MAX_BYTES + 64 * 1024
#: Maximum bytes of a form with several images, and of one in JSON, which has to be in memory.
MAX_FORM_BYTES: Final = 64 * 1024 * 1024
MAX_JSON_BYTES: Final = 28 * 1024 * 1024
#: Seconds for one image. The slowest that is accepted takes some ten.
_SECONDS: Final = 60.0
#: Images that a process has cleaned at the same time, and the seconds that a call waits for its turn.
_AT_ONCE: Final = 2
_MAX_WAIT: Final = 20.0
_ROOT: Final = Path(__file__).resolve().parent.parent.parent
_slots = threading.BoundedSemaphore(_AT_ONCE)


class RejectedImageError(Exception):
    """The image is not accepted; ``code`` is ``unsupported_media`` or ``invalid_image``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class BusyError(Exception):
    """No process could be started, or too many uploads wait for one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CleanImage:
    """An image as it is to be stored, in a temporary file."""

    file: IO[bytes]
    content_type: str
    width: int
    height: int
    bytes: int
    sha256: str


@contextmanager
def cleaned(upload: IO[bytes]) -> Iterator[CleanImage]:
    """Decode the image of a file, and yield it encoded again. Raises :class:`RejectedImageError`, :class:`BusyError`,
    and ``OSError`` if a temporary file cannot be written."""
    with tempfile.TemporaryFile() as output:
        report = _run(upload, output)
        output.seek(0)
        yield CleanImage(file=output, **report)


def _run(upload: IO[bytes], output: IO[bytes]) -> dict[str, Any]:
    if not _slots.acquire(timeout=_MAX_WAIT):
        raise BusyError
    try:
        upload.seek(0)
        ended = subprocess.run(  # noqa: S603  our own program
            [sys.executable, "-m", "generation.storage.uploads_cleaner", str(output.fileno())],
            stdin=upload.fileno(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[output.fileno()],
            cwd=_ROOT,
            env={"PYTHONDONTWRITEBYTECODE": "1"},  # none of our secrets
            timeout=_SECONDS,
            start_new_session=True,  # a signal to the whole group asks this process to finish its calls
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RejectedImageError("invalid_image", f"The image was not decoded within {_SECONDS:g} s") from None
    except (BlockingIOError, MemoryError):
        raise BusyError from None
    finally:
        _slots.release()
    if ended.returncode == -SIGKILL:  # by the system, which lacks memory
        raise BusyError
    if ended.returncode:
        raise RejectedImageError("invalid_image", "The image does not decode")
    report: dict[str, Any] = json.loads(ended.stdout)
    if "code" in report:
        raise RejectedImageError(report["code"], report["message"])
    return report
