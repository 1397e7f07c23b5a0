"""OpenAI's Images API, or any server that speaks it, through the official SDK.

The queue retries and the runtime sets the deadline, so the SDK does neither.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import ClassVar, Final, Literal, NamedTuple, cast

import httpx2
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, omit

from generation.states import ErrorCode
from workers.providers import bodies, http, refusals
from workers.providers.base import ImageAnswer, ImageRequest, ProviderError
from workers.providers.openai_errors import VENDOR, error_in, refusal_in, status_error
from workers.providers.openai_images import ImageAddresses, entry_of, image_of
from workers.providers.support import PerEventLoop, reject_unsupported, unsendable_key

#: What every model can do.
_SIZES: Final = ((1024, 1024), (1536, 1024), (1024, 1536))
#: The models that take any size whose sides divide by 16, up to a ratio of 3:1.
_ANY_SIZE: Final = re.compile(r"gpt-image-2(-\d.*|\.5-.*)?")
_MOST_EXTREME_RATIO: Final = 3


class _Client(NamedTuple):
    sdk: AsyncOpenAI
    http: httpx2.AsyncClient

    async def close(self) -> None:
        await self.sdk.close()


class OpenAIProvider:
    """Keeps one client, and with it its connections, for each event loop that calls."""

    name: ClassVar[str] = "openai"
    billable: ClassVar[bool] = True

    def __init__(self, *, api_key: str, base_url: str, timeout: float, image_hosts: Collection[str] = ()) -> None:
        """``timeout`` is how long, in seconds, a call may take at most; ``image_hosts`` are those that images may be
        fetched from besides the host of ``base_url``."""
        self._api_key = api_key
        self._base_url = base_url
        self._addresses = ImageAddresses(base_url=base_url, hosts=image_hosts)
        self._timeout = timeout
        self._clients = PerEventLoop(self._new_client, _Client.close)

    async def generate(self, request: ImageRequest) -> ImageAnswer:
        """One call of ``/images/generations``. Raises :class:`ProviderError`."""
        reject_unsupported(VENDOR, {"seed": request.seed is not None, "negativePrompt": bool(request.negative_prompt)})
        model = request.model
        client = self._clients.get()
        # The errors below are raised `from None`: the SDK's carry the request with the key, and the answer's body.
        try:
            response = await client.sdk.images.with_raw_response.generate(
                model=model,
                prompt=request.prompt,
                size=size_for(model, request.width, request.height),
                quality=cast("Literal['low', 'medium', 'high']", request.quality) if request.quality else omit,
                output_format=cast("Literal['png', 'jpeg', 'webp']", request.output_format),
                extra_headers={"x-client-request-id": request.request_id},
            )
        except APIStatusError as error:
            answered = error.response
            raise status_error(answered.status_code, answered.headers, answered.content, model=model) from None
        except APIConnectionError as error:
            raise http.connection_error(VENDOR, error.__cause__) from None
        except UnicodeEncodeError:  # its text has the header in it
            raise unsendable_key() from None
        return await self._read(response.content, response.headers, request, client)

    async def _read(
        self, content: bytes, headers: Mapping[str, str], request: ImageRequest, client: _Client
    ) -> ImageAnswer:
        """Find the image in an answer with a status of success. Raises :class:`ProviderError`."""
        number = http.request_id(headers)
        said = bodies.read_answer(content, headers, VENDOR, number)
        answer: Mapping[str, object] = {"data": said} if isinstance(said, list) else http.mapping(said)
        entry: Mapping[str, object] = {}
        if isinstance(said, bytes):
            data = said
        else:
            if refusal := refusal_in(answer):
                raise refusals.error(VENDOR, refusal, number=number)
            entry = entry_of(answer)
            found = await image_of(entry, number, lambda url, number: self._addresses.fetch(client.http, url, number))
            if found is None:
                message = "OpenAI answered without an image"
                raise error_in(answer, headers, model=request.model) or ProviderError(
                    message, code=ErrorCode.EMPTY_RESULT, provider_request_id=number
                )
            data = found
        return ImageAnswer(
            data=data,
            content_type=bodies.image_type(data) or f"image/{request.output_format}",
            model=request.model,
            revised_prompt=http.sentence(entry.get("revised_prompt")),
            provider_request_id=number,
            usage=usage_of(answer),
        )

    async def aclose(self) -> None:
        """Close the connections of the loop that runs."""
        await self._clients.close()

    def _new_client(self) -> _Client:
        client = http.new_client(timeout=self._timeout)
        sdk = AsyncOpenAI(
            api_key=self._api_key,
            base_url=self._base_url,
            max_retries=0,
            timeout=client.timeout,
            # The SDK's own would come before the client's.
            default_headers={"accept-encoding": client.headers["accept-encoding"]},
            http_client=client,
        )
        return _Client(sdk, client)


def size_for(model: str, width: int, height: int) -> str:
    """The size that the model can make and that comes nearest to this shape."""
    if _ANY_SIZE.fullmatch(model):
        longest = _MOST_EXTREME_RATIO * min(width, height)
        return f"{min(width, longest)}x{min(height, longest)}"
    ratio = width / height
    across, down = min(_SIZES, key=lambda size: abs(math.log(size[0] / size[1] / ratio)))
    return f"{across}x{down}"


def usage_of(answer: Mapping[str, object]) -> dict[str, int]:
    """What OpenAI counted; other servers may count nothing."""
    usage = http.mapping(answer.get("usage"))
    asked = http.mapping(usage.get("input_tokens_details"))
    made = http.mapping(usage.get("output_tokens_details"))
    text = http.count(made.get("text_tokens"))
    counted = {
        "input_text": http.count(asked.get("text_tokens") if asked else usage.get("input_tokens")),
        "input_image": http.count(asked.get("image_tokens")),
        "output_text": text,
        # The whole but for what is known to be text: pictures are what the rest is.
        "output_image": http.count(made.get("image_tokens")) or max(0, http.count(usage.get("output_tokens")) - text),
    }
    return {"images": 1} | {unit: number for unit, number in counted.items() if number}
