"""A decoder that crashes or hangs takes one image with it, and no process outlives its worker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import psutil
import pytest

from tests.support.stack import ROOT, wait_until

#: A worker as far as images go. It forks before it has a thread, so it is a process of its own.
_WORKER: Final = """
import asyncio, os, signal, sys, time
from workers import image_processes
from workers.image_processes import ImageProcesses
from workers.providers.base import ProviderError

def check(image, *, note):
    match image[:5]:
        case b"crash": os.kill(os.getpid(), signal.SIGSEGV)
        case b"hangs": time.sleep(60)
        case b"wrong": raise ProviderError("It is no image", code="invalid_image")
        case b"fault": raise LookupError("our bug")
    return image

def store(image, *, note):
    match image[:5]:
        case b"slow ": time.sleep(3)
        case b"full ": raise OSError(28, "No space left on device")
        case b"dies ": os.kill(os.getpid(), signal.SIGKILL)
    return len(image), note, os.getpid()

image_processes._SECONDS = 2.0
processes = ImageProcesses(check, store, limit=2)

async def result(image):
    try:
        return await processes.run(image, {"note": "n"}, {"note": "m"})
    except Exception as error:
        return f"{type(error).__name__} {getattr(error, 'code', '')}"

async def main():
    SCENARIO
asyncio.run(main())
"""


def run(scenario: str) -> list[str]:
    """Run the body of an asynchronous function in such a worker, and return the lines that it printed."""
    script = _WORKER.replace("SCENARIO", scenario.replace("\n", "\n    "))
    environment = {"PATH": "/usr/bin:/bin", "DJANGO_SETTINGS_MODULE": "config.settings"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_an_image_of_megabytes_is_passed_whole() -> None:
    assert run("print(*(await result(bytes(8_000_000)))[:2])") == ["8000000 m"]


def test_a_crash_takes_one_image_of_fifty() -> None:
    printed = run(
        'images = [b"image %d" % n for n in range(50)]\nimages[20] = b"crash"\n'
        "for one in await asyncio.gather(*map(result, images)): print(one)"
    )
    assert printed.pop(20) == "ProviderError invalid_image"
    assert all(line.startswith("(") for line in printed)


def test_an_image_that_hangs_ends_at_its_time_limit() -> None:
    printed = run('for one in await asyncio.gather(*map(result, [b"hangs", b"a", b"b"])): print(one)')
    assert printed[0] == "ProviderError invalid_image"
    assert all(line.startswith("(") for line in printed[1:])


@pytest.mark.parametrize(
    ("image", "error"),
    [
        ("full disk", "OSError "),
        ("dies while it stores", "OSError "),
        ("wrong", "ProviderError invalid_image"),
        ("fault", "RuntimeError "),
    ],
)
def test_errors_come_back_and_the_process_goes_on(image: str, error: str) -> None:
    printed = run(f'print(await result(b"{image}"))\nprint((await result(b"good"))[0])')
    assert printed == [error, "4"]


def test_a_slow_storage_is_not_taken_for_a_slow_decoder() -> None:
    assert run('print((await result(b"slow disk"))[0])') == ["9"]


def test_a_process_killed_from_outside_costs_no_image() -> None:
    printed = run('a = await result(b"a")\nos.kill(a[2], signal.SIGKILL)\nprint((await result(b"b"))[0])')
    assert printed == ["1"]


def test_without_a_template_no_image_is_called_invalid() -> None:
    printed = run(
        'import psutil\npsutil.Process().children()[0].kill()\nawait asyncio.sleep(0.2)\nprint(await result(b"a"))'
    )
    assert printed == ["NoProcessesError "]


def test_a_cancelled_caller_leaves_the_processes_usable() -> None:
    printed = run(
        'task = asyncio.create_task(result(b"hangs"))\nawait asyncio.sleep(0.2)\ntask.cancel()\n'
        'for one in await asyncio.gather(*map(result, [b"a", b"b", b"c"])): print(one[0])'
    )
    assert printed == ["1", "1", "1"]


def test_no_process_outlives_a_killed_worker(tmp_path: Path) -> None:
    script = _WORKER.replace("SCENARIO", 'await result(b"a"); print("up", flush=True); await asyncio.sleep(60)')
    worker = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "up\n"
    children = psutil.Process(worker.pid).children(recursive=True)
    assert len(children) == 2
    worker.kill()
    worker.wait(10)
    worker.stdout.close()
    wait_until(lambda: not any(child.is_running() for child in children), what="the end of the processes")
