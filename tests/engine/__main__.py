"""Runs the tests of this folder: ``make compose-test``. It starts an engine where none answers, makes the base images
and the image once, and then runs the tests in two processes, each with deployments of its own on that engine. Arguments
are pytest's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.engine.base_images import make_base_images
from tests.engine.daemon import Engine, running_engine
from tests.engine.project import deployment
from tests.servers import temporary_folder

_COMMAND: Final = (
    # Building an image takes minutes, in which no test ends.
    *("-o", "faulthandler_timeout=900"),
    *("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", str(Path(__file__).parent)),
)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long a part takes."""
    started = time.monotonic()
    yield
    print(f"{time.monotonic() - started:6.1f} s  {what}", flush=True)


def main() -> int:
    """Run the tests, and leave nothing behind. The exit code is pytest's."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    with running_engine() as engine:
        print(f"{time.monotonic() - started:6.1f} s  an engine", flush=True)
        try:
            if engine.is_ours:
                with timed("base images"):
                    make_base_images(engine)
            with timed("docker compose build"):
                _build(engine)
            return _run_tests(engine)
        finally:
            if not engine.is_ours:
                engine.remove_all()


def _build(engine: Engine) -> None:
    """Build the image as docs/operations.md says."""
    with deployment(engine, temporary_folder(), name=f"{engine.name}-build", APP_IMAGE=engine.image) as project:
        project.make_secrets()
        project.build()


def _run_tests(engine: Engine) -> int:
    tests = subprocess.Popen(
        [sys.executable, "-m", "pytest", *_COMMAND, *sys.argv[1:]],
        env=os.environ | engine.as_environment(),
        start_new_session=True,
    )

    def interrupt(*_: object) -> None:
        os.killpg(tests.pid, signal.SIGINT)

    # The tests end in order first. What they leave on a second Ctrl-C, the end of the engine removes.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    return tests.wait()


if __name__ == "__main__":
    sys.exit(main())
