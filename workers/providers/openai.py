"""OpenAI's Images API, or any server that speaks it, through the official SDK.

The retries are the ledger's and the time-out is the runtime's, so the SDK does neither.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal, NamedTuple, cast

import httpx2
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, omit

from generation.states import ErrorCode
from workers.providers import http
from workers.providers.base import ImageAnswer, ImageRequest, ProviderError
from workers.providers.vendors import PerLoop, name, refuse, unsendable_key

_VENDOR: Final = "OpenAI"
#: What every model can do.
_SIZES: Final = ((1024, 1024), (1536, 1024), (1024, 1536))
#: The models that take any size whose sides divide by 16, up to a ratio of 3:1.
_ANY_SIZE: Final = re.compile(r"gpt-image-2(-\d.*|\.5-.*)?")
_MOST_EXTREME_RATIO: Final = 3

_OUT_OF_CREDIT: Final = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}


class _Client(NamedTuple):
    sdk: AsyncOpenAI
    http: httpx2.AsyncClient

    async def close(self) -> None:
        await self.sdk.close()


class OpenAIProvider:
    """Keeps one client, and with it its connections, for each event loop that calls."""

    name: ClassVar[str] = "openai"
    billable: ClassVar[bool] = True

    def __init__(self, *, api_key: str, base_url: str, timeout: float) -> None:
        """``timeout`` is how long, in seconds, a call may take at most."""
        self._api_key = api_key
        self._base_url = base_url
        self._timeout = timeout
        self._clients = PerLoop(self._new_client, _Client.close)

    async def generate(self, request: ImageRequest) -> ImageAnswer:
        """One call of ``/images/generations``. Raises :class:`ProviderError`.

        Other servers that speak this API may answer with the picture's address instead of the picture. An address that
        a vendor names could lead anywhere, so it is followed only within the origin of ``OPENAI_BASE_URL``, to which
        requests go anyway.
        """
        refuse(_VENDOR, {"seed": request.seed is not None, "negativePrompt": bool(request.negative_prompt)})
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
            raise status_error(error.status_code, error.response.headers, error.body, model=model) from None
        except APIConnectionError as error:
            raise http.connection_error(_VENDOR, error.__cause__) from None
        except UnicodeEncodeError:  # its text has the header in it
            raise unsendable_key() from None
        request_id = http.request_id(response.headers)
        answer = http.read_answer(response.content, response.headers, _VENDOR, request_id)
        picture = http.mapping(next(iter(http.items(answer.get("data"))), None))
        if encoded := picture.get("b64_json"):
            data = http.read_picture(encoded, _VENDOR, request_id)
        elif url := picture.get("url"):
            data = await self._fetch(client.http, url, request_id)
        else:
            message = "OpenAI answered without a picture"
            raise ProviderError(message, code=ErrorCode.EMPTY_RESULT, provider_request_id=request_id)
        return ImageAnswer(
            data=data,
            content_type=f"image/{request.output_format}",
            model=model,
            revised_prompt=http.sentence(picture.get("revised_prompt")),
            provider_request_id=request_id,
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

    async def _fetch(self, client: httpx2.AsyncClient, address: object, request_id: str) -> bytes:
        """The picture at this address, without the key: such addresses are made for browsers."""

        def failure(message: str, code: ErrorCode) -> ProviderError:
            return ProviderError(message, code=code, provider_request_id=request_id)

        base = httpx2.URL(self._base_url)
        try:
            url = base.join(str(address))
        except httpx2.InvalidURL:
            raise failure("OpenAI's picture has an address that is none", ErrorCode.EMPTY_RESULT) from None
        if _origin(url) != _origin(base):
            message = "OpenAI answered with an address elsewhere instead of a picture, and that is not followed"
            raise failure(message, ErrorCode.EMPTY_RESULT)
        try:
            response = await client.get(url)
        except httpx2.HTTPError:
            # The picture was made and paid for, so not even "cannot be reached" would mean that nothing happened.
            message = "OpenAI's picture could not be fetched from the address that it gave"
            raise failure(message, ErrorCode.UNKNOWN_OUTCOME) from None
        if response.status_code != 200:
            raise failure("OpenAI's picture is not at the address that it gave", ErrorCode.EMPTY_RESULT)
        return response.content


def _origin(url: httpx2.URL) -> tuple[str, str, int | None, bytes]:
    port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    return url.scheme, url.host, port, url.userinfo


def size_for(model: str, width: int, height: int) -> str:
    """The size that the model can make and that comes nearest to this shape."""
    if _ANY_SIZE.fullmatch(model):
        longest = _MOST_EXTREME_RATIO * min(width, height)
        return f"{min(width, longest)}x{min(height, longest)}"
    ratio = width / height
    across, down = min(_SIZES, key=lambda size: abs(math.log(size[0] / size[1] / ratio)))
    return f"{across}x{down}"


def status_error(status: int, headers: Mapping[str, str], body: object, *, model: str) -> ProviderError:
    """What an answer that is no success means. ``body`` is what stands under ``error`` in it, or anything else."""
    said: Mapping[str, Any] = body if isinstance(body, Mapping) else {}
    detail: dict[str, Any] = {"status": status}
    detail |= {key: word for key in ("type", "code", "param") if (word := name(said.get(key)))}
    code, words = _meaning(status, headers, said, detail, model)
    return ProviderError(
        words,
        code=code,
        retry_after=http.retry_after(headers),
        provider_request_id=http.request_id(headers),
        detail=detail,
    )


def _meaning(
    status: int, headers: Mapping[str, str], said: Mapping[str, Any], detail: dict[str, Any], model: str
) -> tuple[ErrorCode, str]:
    vendor_code, param = detail.get("code"), detail.get("param")
    if vendor_code == "moderation_blocked":
        return _refusal(said, detail)
    if vendor_code in _OUT_OF_CREDIT or detail.get("type") in _OUT_OF_CREDIT:
        return ErrorCode.QUOTA_EXHAUSTED, "The quota or credit at OpenAI is used up"
    if status in {401, 403}:
        return ErrorCode.AUTH, "OpenAI does not accept the key"
    if vendor_code == "model_not_found" or (param == "model" and status in {400, 404}):
        return ErrorCode.MODEL_RETIRED, f"OpenAI has no model {model}"
    # Its own word on whether to try again counts for more than the status.
    advice = headers.get("x-should-retry", "").lower()
    if status == 429:
        if advice == "false":
            return ErrorCode.QUOTA_EXHAUSTED, "OpenAI refuses further calls"
        return ErrorCode.RATE_LIMITED, "OpenAI asks to wait"
    if advice == "true" or (advice != "false" and (status in {408, 409} or status >= 500)):
        return ErrorCode.UNAVAILABLE, f"OpenAI is not available at the moment (status {status})"
    what = f": {param}" if param else ""
    return ErrorCode.INVALID_REQUEST, f"OpenAI does not accept the request (status {status}{what})"


def _refusal(said: Mapping[str, Any], detail: dict[str, Any]) -> tuple[ErrorCode, str]:
    details = said.get("moderation_details")
    details = details if isinstance(details, Mapping) else {}
    stage = "output" if details.get("moderation_stage") == "output" else "input"
    listed = details.get("categories")
    categories = [word for item in listed if (word := name(item))] if isinstance(listed, list) else []
    detail |= {"stage": stage, "categories": categories}
    code = ErrorCode.REFUSED_OUTPUT if stage == "output" else ErrorCode.REFUSED_INPUT
    why = f" ({', '.join(categories)})" if categories else ""
    return code, f"OpenAI's safety system refused the {'picture' if stage == 'output' else 'prompt'}{why}"


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
