"""OpenAI's Images API, or any server that speaks it, through the official SDK.

The retries are the ledger's and the time-out is the runtime's, so the SDK does neither.
"""

from __future__ import annotations

import binascii
import json
import math
import re
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal, cast

from openai import APIConnectionError, APIStatusError, AsyncOpenAI, omit

from generation.states import ErrorCode
from workers.providers.base import ImageAnswer, ImageRequest, ProviderError
from workers.providers.http import connection_error, new_client, request_id, retry_after
from workers.providers.vendors import PerLoop, name, refuse

#: What every model can do.
_SIZES: Final = ((1024, 1024), (1536, 1024), (1024, 1536))
#: The models that take any size whose sides divide by 16, up to a ratio of 3:1.
_ANY_SIZE: Final = re.compile(r"gpt-image-2(-\d.*|\.5-.*)?")
_MOST_EXTREME_RATIO: Final = 3

_OUT_OF_CREDIT: Final = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_LONGEST_TEXT: Final = 4000


class OpenAIProvider:
    """Keeps one client, and with it its connections, for each event loop that calls."""

    name: ClassVar[str] = "openai"
    billable: ClassVar[bool] = True

    def __init__(self, *, api_key: str, base_url: str, timeout: float) -> None:
        """``timeout`` is how long, in seconds, a call may take at most."""
        self._api_key = api_key
        self._base_url = base_url
        self._timeout = timeout
        self._clients = PerLoop(self._client, AsyncOpenAI.close)

    async def generate(self, request: ImageRequest) -> ImageAnswer:
        """One call of ``/images/generations``. Raises :class:`ProviderError`."""
        refuse("OpenAI", {"seed": request.seed is not None, "negativePrompt": bool(request.negative_prompt)})
        model = request.model
        # The errors below are raised `from None`: the SDK's carry the request with the key, and the answer's body.
        try:
            response = await self._clients.get().images.with_raw_response.generate(
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
            raise connection_error("OpenAI", error.__cause__) from None
        return _answer(response.content, response.headers, model=model, output_format=request.output_format)

    async def aclose(self) -> None:
        """Close the connections of the loop that runs."""
        await self._clients.close()

    def _client(self) -> AsyncOpenAI:
        http_client = new_client(timeout=self._timeout)
        return AsyncOpenAI(
            api_key=self._api_key,
            base_url=self._base_url,
            max_retries=0,
            timeout=http_client.timeout,
            default_headers={"accept-encoding": "identity"},
            http_client=http_client,
        )


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
        retry_after=retry_after(headers),
        provider_request_id=request_id(headers),
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


def _answer(content: bytes, headers: Mapping[str, str], *, model: str, output_format: str) -> ImageAnswer:
    call_id = request_id(headers)

    def failure(message: str, code: ErrorCode) -> ProviderError:
        return ProviderError(message, code=code, provider_request_id=call_id)

    if "json" not in headers.get("content-type", ""):
        # A page of some proxy's: OpenAI itself has not answered, and the next attempt may reach it.
        raise failure("Something other than OpenAI answered", ErrorCode.UNAVAILABLE)
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        # It came whole and was paid for; asking again would be paid for again.
        raise failure("OpenAI's answer cannot be read", ErrorCode.INVALID_IMAGE) from None
    pictures = answer.get("data") if isinstance(answer, dict) else None
    first = pictures[0] if isinstance(pictures, list) and pictures else None
    picture = first if isinstance(first, dict) else {}
    encoded = picture.get("b64_json")
    if not encoded:
        raise failure("OpenAI answered without a picture", ErrorCode.EMPTY_RESULT)
    try:
        data = b64decode(encoded, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise failure("OpenAI's picture cannot be read", ErrorCode.INVALID_IMAGE) from None
    return ImageAnswer(
        data=data,
        content_type=f"image/{output_format}",
        model=model,
        revised_prompt=_sentence(picture.get("revised_prompt")),
        provider_request_id=call_id,
    )


def _sentence(value: object) -> str:
    """Text of a vendor's that can be stored and shown, whatever it holds."""
    return "".join(filter(str.isprintable, value[:_LONGEST_TEXT])) if isinstance(value, str) else ""
