"""The images that are sent with calls: read from the storage for the time of a call, and bounded in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from generation.requests.input_images import StoredImage
from generation.states import ErrorCode, ImageRole
from generation.storage import images
from workers import reference_images
from workers.providers.base import ImageRequest, ProviderError, ReferenceImage
from workers.reference_images import OpaqueMaskError, PreparedImage

T = TypeVar("T")

#: Bytes of images that a worker keeps at once for all of its calls. A call that alone needs more gets them alone.
_ROOM: Final = 192 * 1024 * 1024
#: Images that are read and scaled at once. Each may need as much as it is large.
_AT_ONCE: Final = 2


#: A file, and whether it is a mask: that is prepared in another way than the same file as an image.
_Key: TypeAlias = tuple[str, bool]


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
        self._shared: dict[_Key, _Shared] = {}
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
        used: list[_Key] = []
        try:
            async with self._turn:  # in the order in which they came, so that a large one is not passed for ever
                for image in stored:  # one by one, so that each that was taken is put back
                    used += [await self._take(image, used)]
            yield tuple([await self._reference(image) for image in stored])
        finally:
            for key in used:
                self._put_back(key)

    async def _take(self, image: StoredImage, own: Collection[_Key]) -> _Key:
        """Take the image for the call that has its ``own`` already. Only the room of others can become free."""
        key = _key(image)
        if key not in self._shared:
            while self._held + image.size > _ROOM and not self._shared.keys() <= set(own):
                self._freed.clear()
                await self._freed.wait()
            self._shared[key] = _Shared(asyncio.create_task(self._load(image)), image.size)
            self._held += image.size
        self._shared[key].users += 1
        return key

    def _put_back(self, key: _Key) -> None:
        shared = self._shared[key]
        shared.users -= 1
        if not shared.users:
            shared.task.cancel()  # without effect if it has ended
            del self._shared[key]
            self._held -= shared.size
            self._freed.set()

    async def _load(self, image: StoredImage) -> PreparedImage:
        def load() -> PreparedImage:
            is_mask = image.role == ImageRole.MASK
            return reference_images.prepare(images.read(image.key), image.content_type, is_mask=is_mask)

        async with self._preparing:
            prepared = await self._run(load)
        # Less than the stored image in most cases, so that others fit in beside it.
        shared = self._shared.get(_key(image))
        if shared is not None and shared.task is asyncio.current_task():
            self._held += len(prepared.data) - shared.size
            shared.size = len(prepared.data)
            self._freed.set()
        return prepared

    async def _reference(self, image: StoredImage) -> ReferenceImage:
        try:
            prepared = await asyncio.shield(self._shared[_key(image)].task)
        except FileNotFoundError:
            raise _gone() from None
        except OpaqueMaskError:
            raise opaque_mask() from None
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


def _key(image: StoredImage) -> _Key:
    return image.key, image.role == ImageRole.MASK


def _gone() -> ProviderError:
    return ProviderError(
        "An image that this request refers to does not exist any more", code=ErrorCode.INVALID_REQUEST, sent=False
    )


def opaque_mask() -> ProviderError:
    """Return the error for a mask that lets nothing change."""
    message = "The mask is transparent nowhere, so nothing would change"
    return ProviderError(message, code=ErrorCode.INVALID_REQUEST, sent=False)


def with_images(request: ImageRequest, loaded: Sequence[ReferenceImage], limits: Mapping[str, Any]) -> ImageRequest:
    """Return the request with the loaded images: a mask apart, if the model with these limits takes one as such."""
    if loaded and loaded[-1].role == ImageRole.MASK and limits.get("mask"):
        return replace(request, references=tuple(loaded[:-1]), mask=loaded[-1].data)
    return replace(request, references=tuple(loaded))
