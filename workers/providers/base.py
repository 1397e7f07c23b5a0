"""The interface of image providers.

A provider turns one :class:`ImageRequest` into one :class:`ImageAnswer`, or raises one :class:`ProviderError`.
It does not depend on the database, on Celery or on the API, so that it can be used on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, runtime_checkable

if TYPE_CHECKING:
    from decimal import Decimal

    from generation.providers.error_policy import ErrorScope


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceImage:
    """An image that is sent with the prompt. ``role`` is one of ``generation.states.ImageRole``: a character, a style,
    a composition, or the source that is edited. ``name`` is how the prompt calls it. ``subject`` and ``seed`` are those
    of the request that made it, empty and None for an upload."""

    data: bytes = field(repr=False)
    content_type: str
    width: int
    height: int
    sha256: str
    role: str
    name: str = ""
    subject: str = ""
    seed: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRequest:
    """One image to generate.

    ``subject`` is the client's prompt; ``prompt`` has the style phrases of its type added, and is sent to the model.
    ``aspect_ratio`` is ``W:H`` and ``resolution`` 1K, 2K or 4K, and ``width`` and ``height`` are the model's pixels for
    both; a vendor gets the one or the other. ``seed`` is None if the client gave none; ``variation`` then tells apart
    the images of one submit, for a provider that makes the same image of the same prompt each time. ``title`` is the
    text that a cover shows. ``model`` is the vendor's name of the model; only the built-in provider accepts an empty
    one.
    """

    request_id: str
    type: str
    subject: str
    prompt: str
    aspect_ratio: str = "1:1"
    width: int = 1024
    height: int = 1024
    resolution: str = "1K"
    seed: int | None = None
    variation: int = 0
    negative_prompt: str = ""
    quality: str = ""
    output_format: str = "png"
    image_style: str = ""
    title: str = ""
    model: str = ""
    references: tuple[ReferenceImage, ...] = ()
    #: A PNG of the source's size, transparent where the source is to change; empty for none.
    mask: bytes = field(default=b"", repr=False)
    #: How many previews are wanted. Only an adapter whose models have the capability gets more than none.
    previews: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageAnswer:
    """The unchecked bytes of a provider's image, with the provider's information about them.

    ``usage`` has the vendor's counts by the names that a price rule uses: ``images``, and in tokens ``input_text``,
    ``input_image``, ``output_text``, ``output_image``. It is empty if the vendor reported none.
    """

    data: bytes = field(repr=False)
    content_type: str
    model: str
    seed: int | None = None
    revised_prompt: str = ""
    provider_request_id: str = ""
    attribution: str = ""
    usage: Mapping[str, int] = field(default_factory=dict)


class ProviderError(Exception):
    """A call that gave no image. ``code`` is one of ``generation.states.ErrorCode``.

    ``retry_after`` is in seconds, if the provider named a time. ``message`` is shown to the client: it never contains
    a key, a header or a raw body. ``sent`` is False if the request was not sent, so that nothing can have been billed.
    ``scope`` is what the error is about, and ``retryable`` whether another attempt may help; by default, the code's
    policy decides both.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        retry_after: float | None = None,
        provider_request_id: str = "",
        detail: Mapping[str, Any] | None = None,
        sent: bool = True,
        scope: ErrorScope | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.retry_after = retry_after
        self.provider_request_id = provider_request_id
        self.detail = dict(detail or {})
        self.sent = sent
        #: In US dollars. Set by the worker if the vendor's usage was known before the call failed.
        self.cost: Decimal | None = None
        self._scope = scope
        self._retryable = retryable

    @property
    def retryable(self) -> bool:
        """Whether another attempt may help."""
        # Imported here, so that an adapter can be used without loading Django.
        from generation.providers.error_policy import is_retryable

        return is_retryable(self.code) if self._retryable is None else self._retryable

    @property
    def scope(self) -> ErrorScope:
        """What the error is about."""
        from generation.providers.error_policy import POLICIES

        return self._scope or POLICIES[self.code].scope


class CallProgress:
    """The progress of one call. From ``sent`` on, a call that ends without an answer may have been billed."""

    def __init__(self, show: Callable[[bytes], None] | None = None) -> None:
        self.sent = False
        self.show = show


_PROGRESS: Final[ContextVar[CallProgress | None]] = ContextVar("call_progress", default=None)


def track_progress(show: Callable[[bytes], None] | None = None) -> CallProgress:
    """Start to track the next call of the current task, and return its progress. ``show`` gets the previews."""
    progress = CallProgress(show)
    _PROGRESS.set(progress)
    return progress


def mark_sent() -> None:
    """Note that the vendor may have received the request. Every adapter calls it before it sends the first byte."""
    if (progress := _PROGRESS.get()) is not None:
        progress.sent = True


def show_preview(data: bytes) -> None:
    """Hand over the unchecked bytes of a preview. Returns at once."""
    if (progress := _PROGRESS.get()) is not None and progress.show is not None:
        progress.show(data)


@runtime_checkable
class Provider(Protocol):
    """An image provider: a vendor's API, or the built-in one."""

    name: ClassVar[str]
    #: Whether a call costs money. If so, a call whose answer was lost is repeated at most once.
    billable: ClassVar[bool]

    async def generate(self, request: ImageRequest) -> ImageAnswer:
        """Generate the image. Raises :class:`ProviderError`. If the coroutine is cancelled, the call is abandoned."""
        ...
