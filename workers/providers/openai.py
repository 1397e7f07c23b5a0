"""The adapter for OpenAI's Images API, or any compatible server, with the official SDK.

The queue retries calls and the runtime limits their time, so both are disabled in the SDK.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Final, NamedTuple

import httpx2
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, omit

from generation.states import REFERENCE_ROLES, ErrorCode, ImageRole
from workers.providers import bodies, http, openai_stream, refusals
from workers.providers.base import ImageAnswer, ImageRequest, ProviderError
from workers.providers.openai_errors import VENDOR, error_in, refusal_in, status_error
from workers.providers.openai_images import ImageUrls, entry_of, image_of
from workers.providers.support import (
    EVENT_STREAM,
    PerEventLoop,
    image_extension,
    reject_images,
    reject_unsupported,
    unknown_outcome,
    unsendable_key,
)

#: Sizes that every model supports.
_SIZES: Final = ((1024, 1024), (1536, 1024), (1024, 1536))
#: Models that support any size whose sides are multiples of 16, up to a ratio of 3:1.
_ANY_SIZE: Final = re.compile(r"gpt-image-2(-\d.*|\.5-.*)?")
_MOST_EXTREME_RATIO: Final = 3


#: The most images in all, and of each role; only one is changed.
_MOST_IMAGES: Final = 16
_ROLES: Final[Mapping[str, int]] = {**dict.fromkeys(REFERENCE_ROLES, _MOST_IMAGES), ImageRole.SOURCE: 1}


class _Client(NamedTuple):
    sdk: AsyncOpenAI
    http: httpx2.AsyncClient

    async def close(self) -> None:
        await self.sdk.close()


class OpenAIProvider:
    """Calls ``/images/generations``, or ``/images/edits`` with images."""

    name: ClassVar[str] = "openai"
    billable: ClassVar[bool] = True

    def __init__(self, *, api_key: str, base_url: str, timeout: float, image_hosts: Collection[str] = ()) -> None:
        """``timeout`` is the time limit of a call in seconds; ``image_hosts`` are the hosts from which images may be
        fetched besides that of ``base_url``."""
        self._api_key = api_key
        self._base_url = base_url
        self._urls = ImageUrls(base_url=base_url, hosts=image_hosts)
        self._timeout = timeout
        self._clients = PerEventLoop(self._new_client, _Client.close)

    async def generate(self, request: ImageRequest) -> ImageAnswer:
        """Generate an image with one call. Raises :class:`ProviderError`."""
        reject_unsupported(VENDOR, {"seed": request.seed is not None, "negativePrompt": bool(request.negative_prompt)})
        reject_images(VENDOR, request, roles=_ROLES, most=_MOST_IMAGES, mask=True)
        model = request.model
        client = self._clients.get()
        images = client.sdk.images
        endpoint, body = _call(request)
        # Errors are raised `from None`, since those of the SDK contain the request with the key and the answer's body.
        try:
            if request.previews:
                body["extra_headers"]["accept"] = f"{EVENT_STREAM}, application/json"
                begin = getattr(images.with_streaming_response, endpoint)
                async with begin(**body, stream=True, partial_images=request.previews) as answer:
                    parsed = await openai_stream.read(answer.iter_bytes(), answer.headers, model=model)
                    return await self._read(parsed, answer.headers, request, client)
            response = await getattr(images.with_raw_response, endpoint)(**body)
        except APIStatusError as error:
            failed = error.response
            raise status_error(failed.status_code, failed.headers, failed.content, model=model) from None
        except APIConnectionError as error:
            raise http.connection_error(VENDOR, error.__cause__) from None
        except httpx2.HTTPError:  # of an answer that had begun
            raise unknown_outcome(VENDOR) from None
        except UnicodeEncodeError:  # its text contains the header
            raise unsendable_key() from None
        parsed = bodies.read_answer(response.content, response.headers, VENDOR, http.request_id(response.headers))
        return await self._read(parsed, response.headers, request, client)

    async def _read(
        self, parsed: object, headers: Mapping[str, str], request: ImageRequest, client: _Client
    ) -> ImageAnswer:
        """Read an answer with a status of success: the bytes of an image, or JSON. Raises :class:`ProviderError`."""
        call_id = http.request_id(headers)
        answer: Mapping[str, object] = {"data": parsed} if isinstance(parsed, list) else http.mapping(parsed)
        entry: Mapping[str, object] = {}
        if isinstance(parsed, bytes):
            data = parsed
        else:
            if refusal := refusal_in(answer):
                raise refusals.error(VENDOR, refusal, call_id=call_id)
            entry = entry_of(answer)
            image = await image_of(entry, call_id, lambda url, id_: self._urls.fetch(client.http, url, id_))
            if image is None:
                message = "OpenAI answered without an image"
                raise error_in(answer, headers, model=request.model) or ProviderError(
                    message, code=ErrorCode.EMPTY_RESULT, provider_request_id=call_id
                )
            data = image
        return ImageAnswer(
            data=data,
            content_type=bodies.image_type(data) or f"image/{request.output_format}",
            model=request.model,
            revised_prompt=http.sentence(entry.get("revised_prompt")),
            provider_request_id=call_id,
            usage=usage_of(answer),
        )

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        await self._clients.close()

    def _new_client(self) -> _Client:
        client = http.new_client(timeout=self._timeout)
        sdk = AsyncOpenAI(
            api_key=self._api_key,
            base_url=self._base_url,
            max_retries=0,
            timeout=client.timeout,
            # Else the SDK's own header would override the client's.
            default_headers={"accept-encoding": client.headers["accept-encoding"]},
            http_client=client,
        )
        return _Client(sdk, client)


def _call(request: ImageRequest) -> tuple[str, dict[str, Any]]:
    """Return the SDK's method for the request, and its arguments."""
    body: dict[str, Any] = {
        "model": request.model,
        "prompt": request.prompt,
        "size": size_for(request.model, request.width, request.height),
        "quality": request.quality or omit,
        "output_format": request.output_format,
        "extra_headers": {"x-client-request-id": request.request_id},
    }
    if not request.references:
        return "generate", body
    body["image"] = [
        (f"image-{number}.{image_extension(image.content_type)}", image.data, image.content_type)
        for number, image in enumerate(request.references, start=1)
    ]
    if request.mask:
        body["mask"] = ("mask.png", request.mask, "image/png")
    return "edit", body


def size_for(model: str, width: int, height: int) -> str:
    """Return the supported size of the model that is closest to this aspect ratio."""
    if _ANY_SIZE.fullmatch(model):
        longest = _MOST_EXTREME_RATIO * min(width, height)
        return f"{min(width, longest)}x{min(height, longest)}"
    ratio = width / height
    across, down = min(_SIZES, key=lambda size: abs(math.log(size[0] / size[1] / ratio)))
    return f"{across}x{down}"


def usage_of(answer: Mapping[str, object]) -> dict[str, int]:
    """Return the usage that OpenAI reports; other servers may report none."""
    usage = http.mapping(answer.get("usage"))
    input_ = http.mapping(usage.get("input_tokens_details"))
    output = http.mapping(usage.get("output_tokens_details"))
    text = http.count(output.get("text_tokens"))
    tokens = {
        "input_text": http.count(input_.get("text_tokens") if input_ else usage.get("input_tokens")),
        "input_image": http.count(input_.get("image_tokens")),
        "output_text": text,
        # Without a count of its own, all output tokens that are not text count as image.
        "output_image": http.count(output.get("image_tokens")) or max(0, http.count(usage.get("output_tokens")) - text),
    }
    return {"images": 1} | {unit: count for unit, count in tokens.items() if count}
