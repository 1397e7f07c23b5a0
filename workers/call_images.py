"""The images that are sent with calls: read from the storage for the time of a call, and bounded in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from generation.requests.input_images import StoredImage
from generation.states import ErrorCode, ImageRole
from generation.storage import images
from workers import reference_images
from workers.providers.base import ProviderError, ReferenceImage
from workers.reference_images import PreparedImage

T = TypeVar("T")

#: Bytes of images that a worker keeps at once for all of its calls. A call that alone needs more gets them alone.
_ROOM: Final = 192 * 1024 * 1024
#: Images that are read and scaled at once. Each may need as much as it is large.
_AT_ONCE: Final = 2


class Run(Protocol):
    """Runs a function in a thread."""

    def __call__(self, act: Callable[[], T], /) -> Awaitable[T]: ...


@dataclass(eq=False, slots=True)
class _Shared:
    """One image in memory, and the number of calls that use it."""

    task: asyncio.Task[PreparedImage]
    size: int
    users: int = field(default=0)


class CallImages:
    """The images of the running calls of a worker. Calls that send the same image share it."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._shared: dict[tuple[str, bool], _Shared] = {}
        self._held = 0
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()
        self._preparing = asyncio.Semaphore(_AT_ONCE)

    @asynccontextmanager
    async def loaded(self, stored: Sequence[StoredImage]) -> AsyncIterator[tuple[ReferenceImage, ...]]:
        """Yield the images as they are to be sent, once there is room for them. Raises :class:`ProviderError` if one is
        not there or cannot be read."""
        if any(not image.key for image in stored):
            raise _gone()
        used: list[tuple[str, bool]] = []
        try:
            async with self._turn:  # in the order in which they came, so that a large one is not passed for ever
                for image in stored:  # one by one, so that each that was taken is put back
                    used += [await self._take(image)]
            yield tuple([await self._reference(image, key) for image, key in zip(stored, used, strict=True)])
        finally:
            for key in used:
                self._put_back(key)

    async def _take(self, image: StoredImage) -> tuple[str, bool]:
        # A mask has to keep the size of what it masks.
        key = (image.key, image.role not in {ImageRole.SOURCE, ImageRole.MASK})
        if key not in self._shared:
            while self._held and self._held + image.size > _ROOM:
                self._freed.clear()
                await self._freed.wait()
            task = asyncio.create_task(self._load(image, may_scale=key[1]))
            self._shared[key] = _Shared(task, image.size)
            self._held += image.size
        self._shared[key].users += 1
        return key

    def _put_back(self, key: tuple[str, bool]) -> None:
        shared = self._shared[key]
        shared.users -= 1
        if not shared.users:
            shared.task.cancel()  # without effect if it has ended
            del self._shared[key]
            self._held -= shared.size
            self._freed.set()

    async def _load(self, image: StoredImage, *, may_scale: bool) -> PreparedImage:
        def load() -> PreparedImage:
            return reference_images.prepare(images.read(image.key), image.content_type, may_scale=may_scale)

        async with self._preparing:
            return await self._run(load)

    async def _reference(self, image: StoredImage, key: tuple[str, bool]) -> ReferenceImage:
        try:
            prepared = await asyncio.shield(self._shared[key].task)
        except FileNotFoundError:
            raise _gone() from None
        except OSError as error:
            message = "A reference image cannot be read at the moment"
            raise ProviderError(message, code=ErrorCode.STORAGE, sent=False) from error
        facts: dict[str, Any] = {"subject": image.subject, "seed": image.seed, "name": image.name, "role": image.role}
        return ReferenceImage(
            data=prepared.data,
            content_type=prepared.content_type,
            width=prepared.width,
            height=prepared.height,
            sha256=prepared.sha256,
            **facts,
        )


def _gone() -> ProviderError:
    return ProviderError(
        "An image that this request refers to does not exist any more", code=ErrorCode.INVALID_REQUEST, sent=False
    )
