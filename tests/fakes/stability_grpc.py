"""Stability's older wire: ``gooseai.GenerationService/Generate`` over gRPC, in the SDK's own messages.

The service listens behind a door of ours, which knows the connections: a gRPC server alone cannot reset one.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
import grpc.aio
from stability_sdk.interfaces.gooseai.generation import generation_pb2 as messages

from tests.fakes.images import png, spoilt
from tests.fakes.journal import Call
from tests.fakes.script import Behavior
from tests.fakes.stage import Stage
from tests.fakes.wire import A_KEY, UNSPEAKABLE

_MB: Final = b"A" * 1024 * 1024
_ENGINES: Final = ("stable-diffusion-xl-1024-v1-0", "stable-diffusion-v1-6")
_XL_SIZES: Final = ((1024, 1024), (1152, 896), (1216, 832), (1344, 768), (1536, 640))
#: How many answers without anything come before the image of one that drips.
_DRIPS: Final = 200

_STATUSES: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    402: grpc.StatusCode.RESOURCE_EXHAUSTED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
}


class _Connection:
    """One of a client's, passed on to the service."""

    def __init__(self, number: int, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self._writer = writer

    def reset(self) -> None:
        """Close without the usual farewell."""
        connection: socket.socket = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


class GrpcListener:
    """Listens on a port of its own and answers by the stage's script."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._server = grpc.aio.server(options=[("grpc.max_send_message_length", -1)])
        self._service_port = 0
        #: By the service's name for the peer, which is the door's end.
        self._connections: dict[str, _Connection] = {}
        handler = grpc.unary_stream_rpc_method_handler(
            self._generate, request_deserializer=messages.Request.FromString, response_serializer=_serialize
        )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("gooseai.GenerationService", {"Generate": handler}),)
        )

    async def start(self, port: int) -> int:
        """Listen on the port of loopback, or a free one for 0; returns which."""
        self._service_port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        door = await asyncio.start_server(self._pass_on, "127.0.0.1", port, backlog=1024)
        return int(door.sockets[0].getsockname()[1])

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._service_port)
        peer = "ipv4:{}:{}".format(*inner_writer.get_extra_info("sockname"))
        self._connections[peer] = _Connection(0, writer)
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
        del self._connections[peer]

    async def _generate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        connection = self._connections[context.peer()]
        connection.number = connection.number or self._stage.next_connection()
        if self._stage.script.resets_unread:
            connection.reset()
            return
        prompt = next((prompt.text for prompt in request.prompt if prompt.parameters.weight >= 0), "")
        try:
            behavior = self._stage.script.behavior(prompt)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        call = Call(
            number=len(self._stage.journal.calls) + 1,
            vendor="stability",
            prompt=prompt,
            request_id=request.request_id,
            connection=connection.number,
            options=_options(request, context),
        )
        self._stage.journal.begin(call)
        outcome = "stopped"
        try:
            async for answer in self._answer(request, call, behavior, connection):
                if isinstance(answer, str):
                    outcome = answer
                elif isinstance(answer, grpc.StatusCode):
                    outcome = answer.name
                    key = dict(context.invocation_metadata()).get("authorization", "").rpartition(" ")[2]
                    await context.abort(answer, (behavior.says or UNSPEAKABLE).replace(A_KEY, key))
                else:
                    yield answer
        except (asyncio.CancelledError, GeneratorExit):  # the latter where it left between two messages
            outcome = outcome if outcome == "reset" else "gone"
            raise
        finally:
            self._stage.journal.end(call, outcome, disconnected=outcome == "gone")

    async def _answer(
        self, request: Any, call: Call, behavior: Behavior, connection: _Connection
    ) -> AsyncIterator[Any]:
        """Messages, or the status that ends the call; and its outcome for the journal."""
        await self._pause(behavior)
        keepalive = messages.Answer(answer_id=f"ans_fake_{call.number}", request_id=request.request_id)
        if behavior.reset:
            yield "reset"
            if behavior.reset == "after":
                yield keepalive
                await asyncio.sleep(0.1)  # what is still on its way when a connection is reset gets lost
            connection.reset()
            return
        if status := _status(request, call, behavior):
            yield status
            return
        for _ in range(_DRIPS if behavior.drip else 1):
            yield keepalive
            await asyncio.sleep(behavior.drip)
        if behavior.malformed:
            yield b"\xff\xff not a message"
        elif behavior.huge:
            count, data = (1, _MB * behavior.huge) if behavior.declared else (behavior.huge, _MB)
            for _ in range(count):
                yield messages.Answer(artifacts=[messages.Artifact(type=messages.ARTIFACT_IMAGE, binary=data)])
            await asyncio.sleep(5)  # who does not take it says so meanwhile
        else:
            keepalive.artifacts.extend(_artifacts(request, behavior, call.number))
            yield keepalive
        yield "OK"

    async def _pause(self, behavior: Behavior) -> None:
        if behavior.hang:
            await asyncio.Event().wait()
        if behavior.hold:
            await self._stage.released.wait()
        await asyncio.sleep(behavior.delay)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


def _serialize(message: Any) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()


def _options(request: Any, context: Any) -> dict[str, Any]:
    metadata = dict(context.invocation_metadata())
    return {
        "engine": request.engine_id,
        "width": request.image.width,
        "height": request.image.height,
        "samples": request.image.samples,
        "seed": list(request.image.seed),
        "negative_prompt": ", ".join(prompt.text for prompt in request.prompt if prompt.parameters.weight < 0),
        # The key itself is kept nowhere.
        "authorized": metadata.get("authorization", "").startswith("Bearer "),
    }


def _status(request: Any, call: Call, behavior: Behavior) -> Any:
    """The status of the error that is to be answered; ``None`` for none."""
    options = call.options
    if not options["authorized"]:
        return grpc.StatusCode.UNAUTHENTICATED
    if options["engine"] not in _ENGINES:
        return grpc.StatusCode.NOT_FOUND
    size = (options["width"], options["height"])
    is_xl = "xl" in options["engine"]
    fits = size in _XL_SIZES or size[::-1] in _XL_SIZES if is_xl else not any(side % 64 for side in size)
    if not (call.prompt and fits and 1 <= options["samples"] <= 10):
        return grpc.StatusCode.INVALID_ARGUMENT
    if behavior.quota:
        return grpc.StatusCode.RESOURCE_EXHAUSTED
    if behavior.code:
        return grpc.StatusCode[behavior.code.upper()]
    return None if behavior.status == 200 else _STATUSES.get(behavior.status, grpc.StatusCode.UNKNOWN)


def _artifacts(request: Any, behavior: Behavior, number: int) -> list[Any]:
    seed = next(iter(request.image.seed), 0) or 1_000_000 + number
    image = messages.Artifact(
        id=number,
        type=messages.ARTIFACT_IMAGE,
        mime=behavior.content_type or "image/png",
        binary=spoilt(request.request_id, "png", behavior.image),
        finish_reason=messages.STOP,
        seed=seed,
    )
    if behavior.moderation == "input":
        return [
            messages.Artifact(type=messages.ARTIFACT_TEXT, text=request.prompt[0].text, finish_reason=messages.FILTER)
        ]
    if behavior.moderation == "classified":
        image.binary = png("blurred")
        exceeded = messages.ClassifierParameters(
            exceeds=[messages.ClassifierCategory(name="violence")], realized_action=messages.ACTION_OBFUSCATE
        )
        return [image, messages.Artifact(type=messages.ARTIFACT_CLASSIFICATIONS, classifier=exceeded)]
    if behavior.moderation:
        image.binary = png("blurred")
        image.finish_reason = messages.FILTER
    unworried = messages.Artifact(
        type=messages.ARTIFACT_CLASSIFICATIONS,
        classifier=messages.ClassifierParameters(categories=[messages.ClassifierCategory(name="violence")]),
    )
    return [unworried] if behavior.empty else [unworried, image]
