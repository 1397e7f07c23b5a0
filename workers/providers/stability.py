"""Stability's REST API (v2beta), or any server that speaks it.

A style preset is never sent: the phrase of the image style stands in the prompt already, only one of the endpoints
knows presets, and their effect on top of a phrase is not ours to judge.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import httpx2

from generation.states import ErrorCode
from workers.providers.base import ImageAnswer, ImageRequest, ProviderError
from workers.providers.http import connection_error, new_client, request_id, retry_after
from workers.providers.vendors import PerLoop, name, refuse, unsendable_key

#: A model's name becomes part of an address.
_MODEL: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
#: How an error names the field that it is about: ``aspect_ratio: must be one of …``.
_FIELD: Final = re.compile(r"([a-z_]{1,32}):")
_SEED: Final = re.compile(r"[0-9]{1,10}")
#: How a refusal begins.
SAFETY: Final = "Stability's safety system refused the"


class StabilityProvider:
    """Calls ``/v2beta/stable-image/generate/…``."""

    name: ClassVar[str] = "stability"
    billable: ClassVar[bool] = True

    def __init__(self, *, api_key: str, base_url: str, timeout: float) -> None:
        """``timeout`` is how long, in seconds, a call may take at most."""
        self._api_key = api_key
        self._base_url = base_url.rstrip("/")
        self._timeout = timeout
        self._clients = PerLoop(self._client, httpx2.AsyncClient.aclose)

    async def generate(self, request: ImageRequest) -> ImageAnswer:
        """One call. A seed of 0 is sent, and to Stability means any; the answer has the one that was used.

        Raises :class:`ProviderError`.
        """
        refuse("Stability", {"quality": bool(request.quality)})
        authorization = bearer(self._api_key)
        fields = form(request)
        # The errors are raised `from None`: the client's carry the request with the key.
        try:
            response = await self._clients.get().post(
                f"{self._base_url}/v2beta/stable-image/generate/{endpoint(request.model)}",
                headers={"authorization": authorization, "accept": "image/*"},
                files={field: (None, value.encode()) for field, value in fields.items()},
            )
        except httpx2.HTTPError as error:
            raise connection_error("Stability", error) from None
        if response.status_code != 200:
            raise status_error(response.status_code, response.headers, response.content, model=request.model)
        return _answer(response, request)

    async def aclose(self) -> None:
        """Close the connections of the loop that runs."""
        await self._clients.close()

    def _client(self) -> httpx2.AsyncClient:
        return new_client(timeout=self._timeout)


def bearer(api_key: str) -> str:
    """The header that carries the key. Raises :class:`ProviderError` for a key that none can carry."""
    if not (api_key.isascii() and api_key.isprintable()):
        raise unsendable_key()
    return f"Bearer {api_key}"


def endpoint(model: str) -> str:
    """The last part of the address: ``sd3`` for all models of that family, else the model itself. Raises
    :class:`ProviderError`."""
    if not _MODEL.fullmatch(model):
        raise no_model(model)
    return "sd3" if model.startswith("sd3") else model


def form(request: ImageRequest) -> dict[str, str]:
    """The fields that are sent. What was not asked for is left to Stability."""
    fields = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "aspect_ratio": request.aspect_ratio,
        "seed": "" if request.seed is None else str(request.seed),
        "output_format": request.output_format,
        "model": request.model if endpoint(request.model) == "sd3" else "",
    }
    return {field: value for field, value in fields.items() if value}


def status_error(status: int, headers: Mapping[str, str], body: bytes, *, model: str) -> ProviderError:
    """What an answer that is no success means."""
    said = _read(body)
    detail: dict[str, Any] = {"status": status}
    if error_name := name(said.get("name")):
        detail["name"] = error_name
    if param := _param(said.get("errors")):
        detail["param"] = param
    code, words = _meaning(status, detail, model)
    return ProviderError(
        words,
        code=code,
        retry_after=retry_after(headers),
        provider_request_id=request_id(headers) or name(said.get("id")),
        detail=detail,
    )


def _meaning(status: int, detail: dict[str, Any], model: str) -> tuple[ErrorCode, str]:
    if status == 403 and "moderation" in detail.get("name", ""):
        detail |= {"stage": "input", "categories": []}
        return ErrorCode.REFUSED_INPUT, f"{SAFETY} prompt"
    if status in {401, 403}:
        return ErrorCode.AUTH, "Stability does not accept the key"
    if status == 402:
        return ErrorCode.QUOTA_EXHAUSTED, "The credit at Stability is used up"
    if status in {404, 410} or (status == 400 and detail.get("param") == "model"):
        return ErrorCode.MODEL_RETIRED, f"Stability has no model {model}"
    if status == 429:
        return ErrorCode.RATE_LIMITED, "Stability asks to wait"
    if status == 408 or status >= 500:
        return ErrorCode.UNAVAILABLE, f"Stability is not available at the moment (status {status})"
    what = f": {detail['param']}" if "param" in detail else ""
    return ErrorCode.INVALID_REQUEST, f"Stability does not accept the request (status {status}{what})"


def _read(body: bytes) -> Mapping[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _param(errors: object) -> str:
    """The field that the first of the errors is about."""
    first = errors[0] if isinstance(errors, list) and errors else None
    found = _FIELD.match(first) if isinstance(first, str) else None
    return found[1] if found else ""


def no_model(model: str) -> ProviderError:
    """The model does not exist, or not any more."""
    return ProviderError(f"Stability has no model {model or '(none named)'}", code=ErrorCode.MODEL_RETIRED)


def _answer(response: httpx2.Response, request: ImageRequest) -> ImageAnswer:
    headers = response.headers
    reason = headers.get("finish-reason", "").upper()
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    is_picture = kind.startswith("image/")

    def failure(message: str, code: ErrorCode, **detail: Any) -> ProviderError:
        return ProviderError(message, code=code, provider_request_id=request_id(headers), detail=detail)

    if reason == "CONTENT_FILTERED":
        # With status 200 and a picture that was made unrecognizable.
        raise failure(f"{SAFETY} picture", ErrorCode.REFUSED_OUTPUT, stage="output", categories=[])
    if reason not in {"", "SUCCESS"}:
        raise failure("Stability made no picture", ErrorCode.EMPTY_RESULT, reason=name(reason))
    if not is_picture and not reason:
        # A page of some proxy's: Stability itself has not answered, and the next attempt may reach it.
        raise failure("Something other than Stability answered", ErrorCode.UNAVAILABLE)
    if not response.content:
        raise failure("Stability answered without a picture", ErrorCode.EMPTY_RESULT)
    seed = headers.get("seed", "")
    return ImageAnswer(
        data=response.content,
        content_type=kind if is_picture else f"image/{request.output_format}",
        model=request.model,
        seed=int(seed) if _SEED.fullmatch(seed) else None,
        provider_request_id=request_id(headers),
        usage={"images": 1},
    )
