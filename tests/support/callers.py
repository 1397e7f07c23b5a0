"""How tests call an adapter: on an event loop that stays, as in a worker."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from generation import event_loop
from tests.fakes.control import FakeProvider
from tests.support.stack import wait_until
from workers.providers.base import ImageAnswer, ImageRequest, Provider, ProviderError

PROMPT = "A friendly dragon playing in a garden"


class Caller:
    """One adapter. ``usual`` is asked for unless a test says otherwise."""

    def __init__(self, provider: Any, **usual: Any) -> None:
        self.provider = provider
        self._usual = usual

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run it to its end on the loop."""
        return event_loop.loop.submit(work).result(timeout=60)

    def asked(self, prompt: str = PROMPT, **more: Any) -> ImageRequest:
        """A request."""
        return asked(prompt, **self._usual | more)

    def generate(self, prompt: str = PROMPT, **more: Any) -> ImageAnswer:
        """One call that succeeds."""
        return self.run(self.provider.generate(self.asked(prompt, **more)))  # type: ignore[no-any-return]

    def fail(self, prompt: str = PROMPT, **more: Any) -> ProviderError:
        """One call that fails."""
        with pytest.raises(ProviderError) as caught:
            self.generate(prompt, **more)
        return caught.value

    def at_once(self, fake: FakeProvider, count: int) -> list[ImageAnswer]:
        """So many calls, all of which go on before the first is answered. The fake's script is ``hold``."""

        async def crowd() -> list[ImageAnswer]:
            calls = [asyncio.create_task(self.provider.generate(self.asked())) for _ in range(count)]
            await asyncio.to_thread(wait_until, lambda: fake.stats().active == count)
            await asyncio.to_thread(fake.release)
            answers: list[ImageAnswer] = await asyncio.gather(*calls)
            return answers

        return self.run(asyncio.wait_for(crowd(), 30))  # type: ignore[no-any-return]

    def cancel_one_of_two(self, fake: FakeProvider) -> ImageAnswer:
        """Cancel a call that hangs, beside another that is answered afterwards."""
        fake.script("hang", "hold")

        async def both() -> ImageAnswer:
            first = asyncio.create_task(self.provider.generate(self.asked()))
            await asyncio.to_thread(wait_until, lambda: fake.stats().active == 1)
            second = asyncio.create_task(self.provider.generate(self.asked()))
            await asyncio.to_thread(wait_until, lambda: fake.stats().active == 2)
            first.cancel()
            await asyncio.to_thread(wait_until, lambda: gone(fake), seconds=1, what="the end of the call")
            with pytest.raises(asyncio.CancelledError):
                await first
            await asyncio.to_thread(fake.release)
            answer: ImageAnswer = await second
            return answer

        return self.run(asyncio.wait_for(both(), 20))  # type: ignore[no-any-return]

    def run_out_of_time(self, prompt: str, *, seconds: float = 0.5) -> None:
        """One call that a time limit around it ends."""

        async def limited() -> None:
            async with asyncio.timeout(seconds):
                await self.provider.generate(self.asked(prompt))

        with pytest.raises(TimeoutError):
            self.run(limited())

    def close(self) -> None:
        """Close the connections."""
        self.run(self.provider.aclose())


@contextmanager
def calling(provider: Provider, **usual: Any) -> Iterator[Caller]:
    """A caller for as long as this lasts."""
    caller = Caller(provider, **usual)
    try:
        yield caller
    finally:
        caller.close()


def asked(prompt: str = PROMPT, **more: Any) -> ImageRequest:
    """A request as the runtime makes them."""
    return ImageRequest(**{"request_id": "vga_1", "type": "cover", "subject": prompt, "prompt": prompt} | more)


def gone(fake: FakeProvider) -> bool:
    """Whether a client has left a call before its answer."""
    return any(call.disconnected for call in fake.journal())


def with_nobody_there(call: Callable[[str], Any]) -> None:
    """Call with an address (``host:port``) without a server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        call(f"127.0.0.1:{free.getsockname()[1]}")
