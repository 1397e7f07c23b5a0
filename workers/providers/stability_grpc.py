"""The adapter for Stability's older gRPC service, with the message classes of its SDK.

The SDK's client blocks and retries by itself, so only its generated code is used, with ``grpc.aio``.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections.abc import Iterable
from typing import Any, ClassVar, Final

import grpc
import grpc.aio
from stability_sdk.interfaces.gooseai.generation import generation_pb2 as messages
from stability_sdk.interfaces.gooseai.generation.generation_pb2_grpc import GenerationServiceStub

from generation.providers.error_policy import ErrorScope
from generation.states import ErrorCode
from workers.providers import bodies, refusals, statuses, support
from workers.providers.base import ImageAnswer, ImageRequest, ProviderError, mark_sent
from workers.providers.stability import VENDOR, bearer, no_model
from workers.providers.support import MAX_ANSWER_BYTES, PerEventLoop, name, reject_images, reject_unsupported, too_long

#: Maximum bytes of a message, as in the vendor's own client.
_MAX_MESSAGE_BYTES: Final = 10 * 1024 * 1024
#: How long a channel may take to notice that its connection is lost.
_STATE_CHANGE_SECONDS: Final = 0.25
_LARGEST_SEED: Final = 4_294_967_294
_SIDE_STEP: Final = 64
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    # The queue retries calls, not the library.
    ("grpc.enable_retries", 0),
    # Allow only the algorithm "identity": the library bounds a compressed answer only before inflating it.
    ("grpc.compression_enabled_algorithms_bitset", 1),
    # A new channel connects at once, without the backoff of an earlier one.
    ("grpc.use_local_subchannel_pool", 1),
)
_READY: Final = grpc.ChannelConnectivity.READY
_FAILED: Final = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)

#: The meaning of the service's own statuses.
_MEANINGS: Final[dict[str, tuple[ErrorCode, ErrorScope | None, str]]] = {
    "UNAUTHENTICATED": (ErrorCode.AUTH, None, "Stability does not accept the key"),
    "PERMISSION_DENIED": (ErrorCode.AUTH, None, "Stability does not accept the key"),
    # The vendor's own client interprets it so, too.
    "RESOURCE_EXHAUSTED": (ErrorCode.QUOTA_EXHAUSTED, None, "The credit at Stability is used up"),
    "INVALID_ARGUMENT": (ErrorCode.INVALID_REQUEST, None, "Stability does not accept the request"),
    "OUT_OF_RANGE": (ErrorCode.INVALID_REQUEST, ErrorScope.MODEL, "Stability does not accept the request"),
    "FAILED_PRECONDITION": (ErrorCode.INVALID_REQUEST, None, "Stability does not accept the request"),
    # Scope model, since it is not about the prompt, and another provider may be called.
    "UNIMPLEMENTED": (ErrorCode.INVALID_REQUEST, ErrorScope.MODEL, "Stability does not offer this service any more"),
}
#: Words in a status's details about limits of the model.
_LIMIT: Final = re.compile(
    r"\b(?:dimension|width|height|size|resolution|pixel|step|sampler?|seed|cfg|engine|style)", re.IGNORECASE
)
_RATE_LIMIT: Final = re.compile(r"rate[ _-]?limit|too many requests|slow down|throttl", re.IGNORECASE)
#: The library's message for an answer that is not gRPC, such as the page of a proxy.
_PAGE: Final = re.compile(r"http2 header with status: (\d{3})", re.IGNORECASE)
#: Statuses of a fault of the service, unless the library itself reports them.
_FAULTS: Final = {"UNAVAILABLE", "INTERNAL", "UNKNOWN", "ABORTED", "DATA_LOSS"}
#: The HTTP status that corresponds to a status, for recognizing refusals.
_HTTP_STATUSES: Final = {
    "UNAUTHENTICATED": 401,
    "RESOURCE_EXHAUSTED": 429,
    "PERMISSION_DENIED": 403,
    **dict.fromkeys(_FAULTS, 503),
}
_OBSCURED: Final = {
    messages.ACTION_OBFUSCATE,
    messages.ACTION_OBFUSCATE_DUPLICATE,
    messages.ACTION_DISCARD,
}


class StabilityGrpcProvider:
    """Calls ``gooseai.GenerationService/Generate``."""

    name: ClassVar[str] = "stability"
    billable: ClassVar[bool] = True

    def __init__(self, *, api_key: str, host: str, timeout: float) -> None:
        """``host`` is ``name:port``, which is called over TLS unless it is on loopback; ``timeout`` is the time limit
        of a call in seconds."""
        self._api_key = api_key
        self._timeout = timeout
        self._channels: PerEventLoop[Any] = PerEventLoop(lambda: _channel(host), lambda channel: channel.close())

    async def generate(self, request: ImageRequest) -> ImageAnswer:
        """Generate an image with one call. Raises :class:`ProviderError`.

        A seed of 0 means a random seed; the answer has the seed that was used.
        """
        message = _message(request)
        metadata = (("authorization", bearer(self._api_key)),)
        channel = await self._connected()
        mark_sent()
        call = GenerationServiceStub(channel).Generate(
            message, metadata=metadata, timeout=self._timeout + support.SPARE_SECONDS
        )
        # Errors are raised `from None`, since those of the library contain the server's text.
        try:
            answers = [answer async for answer in _bounded(call)]
        except grpc.aio.AioRpcError as error:
            raise rpc_error(
                error.code().name,
                _details(error),
                still_connected=await _stays_connected(channel),
                model=request.model,
            ) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task and task.cancelling():
                raise
            raise support.unknown_outcome(VENDOR) from None  # the channel was closed, and this task was not cancelled
        finally:
            call.cancel()  # no effect on a call that has ended
        return _answer(answers, model=request.model)

    async def aclose(self) -> None:
        """Close the connection of the running event loop."""
        await self._channels.close()

    async def _connected(self) -> Any:
        """Return the channel once it is connected. An error before that means that nothing was sent."""
        channel = self._channels.get()
        try:
            async with asyncio.timeout(support.CONNECT_SECONDS):
                while (state := channel.get_state(try_to_connect=True)) is not _READY:
                    if state in _FAILED:
                        break
                    await channel.wait_for_state_change(state)
                else:
                    return channel
        except (TimeoutError, grpc.aio.UsageError):  # the latter if another call has just closed the channel
            pass
        if self._channels.get() is channel:
            await self._channels.close()  # its backoff would grow with each failure
        raise support.unreachable(VENDOR)


def rpc_error(status: str, details: str, *, still_connected: bool, model: str) -> ProviderError:
    """Return the error for a gRPC status.

    The library reports a broken connection with the same status as a service that is unavailable. After a broken
    connection, the channel is not connected.
    """
    detail = {"status": status}
    if status == "RESOURCE_EXHAUSTED" and "message larger than max" in details:
        return too_long(_MAX_MESSAGE_BYTES)
    if "ompression" in details and status in {"INTERNAL", "UNIMPLEMENTED"}:
        return bodies.unreadable("The compressed answer of Stability")
    if page := _PAGE.search(details):
        return statuses.page_error(VENDOR, int(page[1]))
    if status in {"DEADLINE_EXCEEDED", "CANCELLED"}:
        return support.unknown_outcome(VENDOR)
    # Exhausted credit has a status of its own, which is treated like 429 here.
    if refusal := refusals.find({"details": details}, status=_HTTP_STATUSES.get(status, 400)):
        return refusals.error(VENDOR, refusal, **detail)
    if status == "NOT_FOUND":
        return no_model(model, sent=True)
    if status in _MEANINGS:
        code, scope, words = _MEANINGS[status]
        if status == "RESOURCE_EXHAUSTED" and _RATE_LIMIT.search(details):
            code, words = ErrorCode.RATE_LIMITED, "Stability asks to wait"
        elif status == "PERMISSION_DENIED" and statuses.is_about_model(details, model):
            scope, words = ErrorScope.MODEL, f"Stability does not allow this account to use the model {model}"
        elif status == "INVALID_ARGUMENT" and _LIMIT.search(details):
            scope = ErrorScope.MODEL
        return ProviderError(words, code=code, scope=scope, detail=detail)
    if status in _FAULTS and still_connected:
        message = f"Stability is not available at the moment ({status})"
        return ProviderError(message, code=ErrorCode.UNAVAILABLE, detail=detail)
    return support.unknown_outcome(VENDOR)


def _details(error: grpc.aio.AioRpcError) -> str:
    """Return the details of a status, with the detailed errors in its metadata."""
    details = [value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"]
    texts = [value.decode("latin-1") if isinstance(value, bytes) else value for value in details]
    return " ".join([error.details() or "", *texts])


async def _stays_connected(channel: Any) -> bool:
    """Return whether the channel stays connected. A broken call is reported a moment before the channel's state
    changes."""
    try:
        async with asyncio.timeout(_STATE_CHANGE_SECONDS):
            await channel.wait_for_state_change(_READY)
    except TimeoutError:
        return True
    return False


def _channel(host: str) -> Any:
    # The default strategy (epoll1) misses one connection reset in a hundred, and the call then lasts until its
    # time-out. The library reads the variable when the first channel is created.
    os.environ.setdefault("GRPC_POLL_STRATEGY", "poll")
    if support.is_loopback(host.rpartition(":")[0]):
        return grpc.aio.insecure_channel(host, options=(*_OPTIONS, ("grpc.enable_http_proxy", 0)))
    return grpc.aio.secure_channel(host, grpc.ssl_channel_credentials(), options=_OPTIONS)


def _message(request: ImageRequest) -> Any:
    sides = (request.width, request.height)
    reject_images(VENDOR, request, roles={}, most=0, mask=False)
    reject_unsupported(
        VENDOR,
        {
            "quality": bool(request.quality),
            f"outputFormat {request.output_format} over gRPC": request.output_format != "png",
            f"size {request.width}x{request.height}": any(side % _SIDE_STEP for side in sides),
            f"seed {request.seed}": request.seed is not None and not 0 <= request.seed <= _LARGEST_SEED,
        },
    )
    prompts = [messages.Prompt(text=request.prompt)]
    if request.negative_prompt:
        unwanted = messages.PromptParameters(weight=-1)
        prompts.append(messages.Prompt(text=request.negative_prompt, parameters=unwanted))
    image = messages.ImageParameters(
        width=request.width,
        height=request.height,
        samples=1,
        # Like the vendor's client, always send a seed, a random one instead of 0.
        seed=[request.seed or 1 + secrets.randbelow(_LARGEST_SEED)],
    )
    return messages.Request(engine_id=request.model, request_id=request.request_id, prompt=prompts, image=image)


async def _bounded(call: Any) -> Any:
    remaining = MAX_ANSWER_BYTES
    async for answer in call:
        if answer is None:  # the library yields None for an invalid message
            raise bodies.unreadable("Stability's answer")
        remaining -= answer.ByteSize()
        if remaining < 0:
            raise too_long()
        yield answer


def _answer(answers: Iterable[Any], *, model: str) -> ImageAnswer:
    call_id = ""
    images = []
    for answer in answers:
        call_id = name(answer.answer_id) or call_id
        for artifact in answer.artifacts:
            if refusal := _refusal(artifact, call_id):
                raise refusal
            if artifact.type == messages.ARTIFACT_IMAGE and artifact.finish_reason != messages.ERROR:
                images.append(artifact)
    if not images or not images[0].binary:
        message = "Stability answered without an image"
        raise ProviderError(message, code=ErrorCode.EMPTY_RESULT, provider_request_id=call_id)
    image = images[0]
    return ImageAnswer(
        data=image.binary,
        content_type=image.mime if image.mime.startswith("image/") else "image/png",
        model=model,
        seed=image.seed,
        provider_request_id=call_id,
        usage={"images": 1},
    )


def _refusal(artifact: Any, call_id: str) -> ProviderError | None:
    """Return the refusal in an artifact: a filtered image, whatever its content, or a filtered text, which is the
    prompt."""
    categories: list[str] = []
    is_filtered = artifact.finish_reason == messages.FILTER
    if artifact.type == messages.ARTIFACT_CLASSIFICATIONS:
        is_filtered = is_filtered or artifact.classifier.realized_action in _OBSCURED
        categories = [word for category in artifact.classifier.exceeds if (word := name(category.name))]
    if not is_filtered:
        return None
    stage = "input" if artifact.type == messages.ARTIFACT_TEXT else "output"
    return refusals.error(VENDOR, refusals.Refusal(stage=stage, categories=categories), call_id=call_id)
