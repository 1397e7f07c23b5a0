"""What every image provider looks like to the rest of the product.

A provider turns one :class:`ImageRequest` into one :class:`ImageAnswer`, or raises one :class:`ProviderError`.
It knows nothing of the database, of Celery or of HTTP clients of ours, so that it can be tried on its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, runtime_checkable

if TYPE_CHECKING:
    from decimal import Decimal

    from generation.providers.error_policy import ErrorScope


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRequest:
    """One picture to make.

    ``subject`` is what the client wrote; ``prompt`` is the same with the style phrases of its type added, which is
    what a model is sent. ``aspect_ratio`` is ``W:H``, and ``width`` and ``height`` are the pixels that the model makes
    of it; a vendor is told the one or the other. ``seed`` is ``None`` when the client gave none. ``title`` is the text
    that a cover leaves room for and shows. ``model`` is the vendor's name of the model, and never empty for a vendor.
    """

    request_id: str
    type: str
    subject: str
    prompt: str
    aspect_ratio: str = "1:1"
    width: int = 1024
    height: int = 1024
    seed: int | None = None
    negative_prompt: str = ""
    quality: str = ""
    output_format: str = "png"
    image_style: str = ""
    title: str = ""
    model: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageAnswer:
    """The bytes that a provider returned, unchecked, with what it said about them.

    ``usage`` is what the vendor counted, by names that a price rule can refer to: ``images``, and in tokens
    ``input_text``, ``input_image``, ``output_text``, ``output_image``. Empty where it did not say.
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
    """A call that gave no picture. ``code`` is one of ``generation.states.ErrorCode``.

    ``retry_after`` is in seconds, where the provider named a time. ``message`` is shown to the client: it never
    carries a key, a header or a raw body. ``sent`` is False where the request never left us, so that nothing can have
    been billed. ``scope`` is what the error says something about, and ``retryable`` whether another attempt may help;
    without them, the code's policy says it.
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
        #: Set by the worker where the vendor's usage was known before the call failed. In US dollars.
        self.cost: Decimal | None = None
        self._scope = scope
        self._retryable = retryable

    @property
    def retryable(self) -> bool:
        """Whether another attempt may help."""
        # Here, since an adapter need not load Django to be used.
        from generation.providers.error_policy import is_retryable

        return is_retryable(self.code) if self._retryable is None else self._retryable

    @property
    def scope(self) -> ErrorScope:
        """How much the error says something about."""
        from generation.providers.error_policy import POLICIES

        return self._scope or POLICIES[self.code].scope


class CallProgress:
    """Whether the request of one call has begun to leave us. A call that ends without an answer after that may have
    been billed."""

    def __init__(self) -> None:
        self.sent = False


_PROGRESS: Final[ContextVar[CallProgress | None]] = ContextVar("call_progress", default=None)


def track_progress() -> CallProgress:
    """Return the progress of the call that the current task makes from now on."""
    progress = CallProgress()
    _PROGRESS.set(progress)
    return progress


def mark_sent() -> None:
    """Note that the vendor may have received the request. Every adapter calls it before the first byte leaves."""
    if (progress := _PROGRESS.get()) is not None:
        progress.sent = True


@runtime_checkable
class Provider(Protocol):
    """One vendor, or the built-in one."""

    name: ClassVar[str]
    #: Whether a call costs money, so that one whose answer was lost is not lightly repeated.
    billable: ClassVar[bool]

    async def generate(self, request: ImageRequest) -> ImageAnswer:
        """Make the picture. Raises :class:`ProviderError`; cancelling the coroutine abandons the call."""
        ...
