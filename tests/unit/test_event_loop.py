import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

from generation.event_loop import BackgroundLoop


@pytest.fixture
def loop() -> Iterator[BackgroundLoop]:
    loop = BackgroundLoop()
    yield loop
    loop.stop()


async def _loop_id() -> int:
    return id(asyncio.get_running_loop())


def test_everything_runs_on_one_loop(loop: BackgroundLoop) -> None:
    assert loop.submit(_loop_id()).result(5) == loop.submit(_loop_id()).result(5)


def test_cancelling_the_future_cancels_the_work(loop: BackgroundLoop) -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    future = loop.submit(work())
    loop.submit(asyncio.sleep(0)).result(5)
    future.cancel()
    with pytest.raises(CancelledError):
        future.result(5)
    loop.submit(asyncio.sleep(0)).result(5)
    assert ended == ["cancelled"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_gets_a_loop_of_its_own() -> None:
    from generation import event_loop

    event_loop.loop.submit(_loop_id()).result(5)
    pid = os.fork()
    if pid == 0:
        try:
            event_loop.loop.submit(_loop_id()).result(5)
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
