"""Stability's older gRPC service, through the messages of its SDK.

The SDK's client blocks and its retries are its own, so only its generated code is used, over ``grpc.aio``.
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
from workers.providers.support import MAX_ANSWER_BYTES, PerEventLoop, name, reject_unsupported, too_long

#: The most bytes of one message, by the vendor's own client.
_MAX_MESSAGE_BYTES: Final = 10 * 1024 * 1024
#: How long a channel may take to notice that its connection is gone.
_NEWS_SECONDS: Final = 0.25
_LARGEST_SEED: Final = 4_294_967_294
_SIDES_DIVIDE_BY: Final = 64
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    # Whether a call is repeated is not the library's business.
    ("grpc.enable_retries", 0),
    # No algorithm but none: a compressed answer would be bounded only before it is inflated.
    ("grpc.compression_enabled_algorithms_bitset", 1),
    # A new channel tries at once, however recently another one failed.
    ("grpc.use_local_subchannel_pool", 1),
)
_READY: Final = grpc.ChannelConnectivity.READY
_FAILED: Final = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)

#: What the service itself says, and what it means.
_MEANINGS: Final[dict[str, tuple[ErrorCode, ErrorScope | None, str]]] = {
    "UNAUTHENTICATED": (ErrorCode.AUTH, None, "Stability does not accept the key"),
    "PERMISSION_DENIED": (ErrorCode.AUTH, None, "Stability does not accept the key"),
    # The vendor's client takes it for that and nothing else.
    "RESOURCE_EXHAUSTED": (ErrorCode.QUOTA_EXHAUSTED, None, "The credit at Stability is used up"),
    "INVALID_ARGUMENT": (ErrorCode.INVALID_REQUEST, None, "Stability does not accept the request"),
    "OUT_OF_RANGE": (ErrorCode.INVALID_REQUEST, ErrorScope.MODEL, "Stability does not accept the request"),
    "FAILED_PRECONDITION": (ErrorCode.INVALID_REQUEST, None, "Stability does not accept the request"),
    # It is not about the prompt, and another provider may be asked.
    "UNIMPLEMENTED": (ErrorCode.INVALID_REQUEST, ErrorScope.MODEL, "Stability does not offer this service any more"),
}
#: Words in the details of a status for a request that is beyond this model.
_LIMIT: Final = re.compile(
    r"\b(?:dimension|width|height|size|resolution|pixel|step|sampler?|seed|cfg|engine|style)", re.IGNORECASE
)
_TOO_FAST: Final = re.compile(r"rate[ _-]?limit|too many requests|slow down|throttl", re.IGNORECASE)
#: How the library says that no gRPC came at all, but the page of a proxy.
_PAGE: Final = re.compile(r"http2 header with status: (\d{3})", re.IGNORECASE)
#: The service has a fault, if it was the service that said so.
_FAULTS: Final = {"UNAVAILABLE", "INTERNAL", "UNKNOWN", "ABORTED", "DATA_LOSS"}
#: The HTTP status by which words about a refusal are judged.
_LIKE_HTTP: Final = {
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
        """``host`` is ``name:port``, reached over TLS unless it is on loopback; ``timeout`` is how long, in seconds, a
        call may take at most."""
        self._api_key = api_key
        self._timeout = timeout
        self._channels: PerEventLoop[Any] = PerEventLoop(lambda: _channel(host), lambda channel: channel.close())

    async def generate(self, request: ImageRequest) -> ImageAnswer:
        """One call. A seed of 0 means any to Stability; the answer has the one that was used.

        Raises :class:`ProviderError`.
        """
        asked = _message(request)
        metadata = (("authorization", bearer(self._api_key)),)
        channel = await self._connected()
        mark_sent()
        call = GenerationServiceStub(channel).Generate(
            asked, metadata=metadata, timeout=self._timeout + support.SPARE_SECONDS
        )
        # The errors are raised `from None`: the library's carry whatever the other side said.
        try:
            answers = [answer async for answer in _bounded(call)]
        except grpc.aio.AioRpcError as error:
            raise rpc_error(
                error.code().name,
                _said(error),
                still_connected=await _stays_connected(channel),
                model=request.model,
            ) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task and task.cancelling():
                raise
            raise support.unknown_outcome(VENDOR) from None  # not we were cancelled, but the channel was closed
        finally:
            call.cancel()  # what has ended is not cancelled any more
        return _picture(answers, model=request.model)

    async def aclose(self) -> None:
        """Close the connection of the loop that runs."""
        await self._channels.close()

    async def _connected(self) -> Any:
        """The channel, once it is known that there is somebody: what fails later may have been sent."""
        channel = self._channels.get()
        try:
            async with asyncio.timeout(support.CONNECT_SECONDS):
                while (state := channel.get_state(try_to_connect=True)) is not _READY:
                    if state in _FAILED:
                        break
                    await channel.wait_for_state_change(state)
                else:
                    return channel
        except (TimeoutError, grpc.aio.UsageError):  # the latter where another call has just given the channel up
            pass
        if self._channels.get() is channel:
            await self._channels.close()  # it would wait longer with each failure until it tries again
        raise support.unreachable(VENDOR)


def rpc_error(status: str, details: str, *, still_connected: bool, model: str) -> ProviderError:
    """Judge a status. The library reports a broken connection as it reports a service that says that it is not
    available; but in the first case it is not connected afterwards."""
    detail = {"status": status}
    if status == "RESOURCE_EXHAUSTED" and "message larger than max" in details:
        return too_long(_MAX_MESSAGE_BYTES)
    if "ompression" in details and status in {"INTERNAL", "UNIMPLEMENTED"}:
        return bodies.unreadable("The compressed answer of Stability")
    if page := _PAGE.search(details):
        return statuses.page_error(VENDOR, int(page[1]))
    if status in {"DEADLINE_EXCEEDED", "CANCELLED"}:
        return support.unknown_outcome(VENDOR)
    # A credit that is used up comes as its own status, as a rate limit does over HTTP.
    if refusal := refusals.find({"details": details}, status=_LIKE_HTTP.get(status, 400)):
        return refusals.error(VENDOR, refusal, **detail)
    if status == "NOT_FOUND":
        return no_model(model, sent=True)
    if status in _MEANINGS:
        code, scope, words = _MEANINGS[status]
        if status == "RESOURCE_EXHAUSTED" and _TOO_FAST.search(details):
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


def _said(error: grpc.aio.AioRpcError) -> str:
    """The words of a status, and those in its metadata, where richer errors stand."""
    richer = [value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"]
    texts = [value.decode("latin-1") if isinstance(value, bytes) else value for value in richer]
    return " ".join([error.details() or "", *texts])


async def _stays_connected(channel: Any) -> bool:
    """A call that broke off is reported a moment before the channel knows."""
    try:
        async with asyncio.timeout(_NEWS_SECONDS):
            await channel.wait_for_state_change(_READY)
    except TimeoutError:
        return True
    return False


def _channel(host: str) -> Any:
    # The usual strategy (epoll1) misses one reset in a hundred, and the call then lasts until its time-out. It is read
    # when the first channel is made.
    os.environ.setdefault("GRPC_POLL_STRATEGY", "poll")
    if support.is_loopback(host.rpartition(":")[0]):
        return grpc.aio.insecure_channel(host, options=(*_OPTIONS, ("grpc.enable_http_proxy", 0)))
    return grpc.aio.secure_channel(host, grpc.ssl_channel_credentials(), options=_OPTIONS)


def _message(request: ImageRequest) -> Any:
    sides = (request.width, request.height)
    reject_unsupported(
        VENDOR,
        {
            "quality": bool(request.quality),
            f"outputFormat {request.output_format} over gRPC": request.output_format != "png",
            f"size {request.width}x{request.height}": any(side % _SIDES_DIVIDE_BY for side in sides),
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
        # The vendor's client always sends one, and makes one up for 0.
        seed=[request.seed or 1 + secrets.randbelow(_LARGEST_SEED)],
    )
    return messages.Request(engine_id=request.model, request_id=request.request_id, prompt=prompts, image=image)


async def _bounded(call: Any) -> Any:
    left = MAX_ANSWER_BYTES
    async for answer in call:
        if answer is None:  # the library's way to say that it is no message
            raise bodies.unreadable("Stability's answer")
        left -= answer.ByteSize()
        if left < 0:
            raise too_long()
        yield answer


def _picture(answers: Iterable[Any], *, model: str) -> ImageAnswer:
    call_id = ""
    pictures = []
    for answer in answers:
        call_id = name(answer.answer_id) or call_id
        for artifact in answer.artifacts:
            if refusal := _refusal(artifact, call_id):
                raise refusal
            if artifact.type == messages.ARTIFACT_IMAGE and artifact.finish_reason != messages.ERROR:
                pictures.append(artifact)
    if not pictures or not pictures[0].binary:
        message = "Stability answered without an image"
        raise ProviderError(message, code=ErrorCode.EMPTY_RESULT, provider_request_id=call_id)
    picture = pictures[0]
    return ImageAnswer(
        data=picture.binary,
        content_type=picture.mime if picture.mime.startswith("image/") else "image/png",
        model=model,
        seed=picture.seed,
        provider_request_id=call_id,
        usage={"images": 1},
    )


def _refusal(artifact: Any, call_id: str) -> ProviderError | None:
    """A picture that was filtered is a refusal, whatever there is to be seen; so is a text, which is the prompt."""
    categories: list[str] = []
    filtered = artifact.finish_reason == messages.FILTER
    if artifact.type == messages.ARTIFACT_CLASSIFICATIONS:
        filtered = filtered or artifact.classifier.realized_action in _OBSCURED
        categories = [word for category in artifact.classifier.exceeds if (word := name(category.name))]
    if not filtered:
        return None
    stage = "input" if artifact.type == messages.ARTIFACT_TEXT else "output"
    return refusals.error(VENDOR, refusals.Refusal(stage=stage, categories=categories), number=call_id)
