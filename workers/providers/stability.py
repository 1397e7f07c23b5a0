"""Stability's REST API (v2beta), or any server that speaks it.

A style preset is never sent: the phrase of the image style stands in the prompt already, only one of the endpoints
knows presets, and their effect on top of a phrase is not ours to judge.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import httpx2

from generation.providers.error_policy import ErrorScope
from generation.states import ErrorCode
from workers.providers import bodies, http, refusals, statuses
from workers.providers.base import ImageAnswer, ImageRequest, ProviderError
from workers.providers.http import connection_error, new_client, request_id, retry_after
from workers.providers.support import PerEventLoop, name, reject_unsupported, unsendable_key

VENDOR: Final = "Stability"

#: A model's name becomes part of an address.
_MODEL: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
#: How an error names the field that it is about: ``aspect_ratio: must be one of …``.
_FIELD: Final = re.compile(r"([a-z_]{1,32}):")
_SEED: Final = re.compile(r"[0-9]{1,10}")
#: Fields that are about the prompt. The limits of all others differ from model to model.
_OF_THE_PROMPT: Final = frozenset({"prompt", "text_prompts", "image", "init_image"})
#: How an answer in JSON says that the image was blurred, in this and in the older version of the API.
_FILTERED: Final = frozenset({"CONTENT_FILTERED", "CONTENT_FILTER", "FILTERED", "FILTER"})
_MADE: Final = frozenset({"", "SUCCESS", "STOP", "NULL"})


class StabilityProvider:
    """Calls ``/v2beta/stable-image/generate/…``."""

    name: ClassVar[str] = "stability"
    billable: ClassVar[bool] = True

    def __init__(self, *, api_key: str, base_url: str, timeout: float) -> None:
        """``timeout`` is how long, in seconds, a call may take at most."""
        self._api_key = api_key
        self._base_url = base_url.rstrip("/")
        self._timeout = timeout
        self._clients = PerEventLoop(self._client, httpx2.AsyncClient.aclose)

    async def generate(self, request: ImageRequest) -> ImageAnswer:
        """One call. A seed of 0 is sent, and to Stability means any; the answer has the one that was used.

        Raises :class:`ProviderError`.
        """
        reject_unsupported(VENDOR, {"quality": bool(request.quality)})
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
            raise connection_error(VENDOR, error) from None
        if not response.is_success:
            raise status_error(response.status_code, response.headers, response.content, model=request.model)
        return answer_of(response.headers, response.content, request)

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
    """Judge an answer with an error status."""
    return _judge(status, headers, bodies.read_error(body, headers), model=model)


def _judge(status: int, headers: Mapping[str, str], body: object, *, model: str) -> ProviderError:
    said = http.mapping(body)
    detail: dict[str, Any] = {"status": status}
    if error_name := name(said.get("name")):
        detail["name"] = error_name
    if param := _param(said.get("errors")):
        detail["param"] = param
    number = request_id(headers) or name(said.get("id"))
    if refusal := refusals.find(body, status=status):
        return refusals.error(VENDOR, refusal, number=number, **detail)
    if not _is_theirs(said):
        return statuses.page_error(VENDOR, status, retry_after=retry_after(headers), number=number)
    code, scope, words = _meaning(status, detail, _text(said), model)
    return ProviderError(
        words, code=code, scope=scope, retry_after=retry_after(headers), provider_request_id=number, detail=detail
    )


def _is_theirs(said: Mapping[str, object]) -> bool:
    """Whether an error has Stability's shape: a name, and errors or an id."""
    has_name = isinstance(said.get("name"), str)
    return (has_name and any(key in said for key in ("errors", "id", "message"))) or isinstance(
        said.get("errors"), list
    )


def _meaning(status: int, detail: Mapping[str, Any], text: str, model: str) -> tuple[ErrorCode, ErrorScope | None, str]:
    param = detail.get("param", "")
    if status == 403 and (param == "model" or statuses.is_about_model(text, model if "." in model else "")):
        return ErrorCode.AUTH, ErrorScope.MODEL, f"Stability does not allow this account to use the model {model}"
    if status in {401, 403}:
        return ErrorCode.AUTH, None, "Stability does not accept the key"
    if status == 402:
        return ErrorCode.QUOTA_EXHAUSTED, None, "The credit at Stability is used up"
    if status in {404, 410} or (status == 400 and param == "model"):
        return ErrorCode.MODEL_RETIRED, None, f"Stability has no model {model}"
    if status == 429:
        return ErrorCode.RATE_LIMITED, None, "Stability asks to wait"
    if statuses.ran_out_of_time(status, (detail.get("name", ""), text)):
        return statuses.unanswered(VENDOR)
    if statuses.is_fault(status):
        return statuses.unavailable(VENDOR, status)
    if status in statuses.WRONG_ADDRESS:
        return statuses.nothing_here(VENDOR, status)
    is_limit = (bool(param) and param not in _OF_THE_PROMPT) or statuses.is_limit(text)
    return statuses.not_accepted(VENDOR, status, param=param, is_limit=is_limit or status == 413)


def _text(said: Mapping[str, object]) -> str:
    sentences = [said.get("message"), *http.items(said.get("errors"))]
    return " ".join(sentence for sentence in sentences if isinstance(sentence, str))


def _param(errors: object) -> str:
    """The field that the first of the errors is about."""
    first = errors[0] if isinstance(errors, list) and errors else None
    found = _FIELD.match(first) if isinstance(first, str) else None
    return found[1] if found else ""


def no_model(model: str, *, sent: bool = False) -> ProviderError:
    """The model does not exist, or not any more."""
    message = f"Stability has no model {model or '(none named)'}"
    return ProviderError(message, code=ErrorCode.MODEL_RETIRED, sent=sent)


def answer_of(headers: Mapping[str, str], content: bytes, request: ImageRequest) -> ImageAnswer:
    """Read an answer that is a success by its status: an image, or JSON with one. Raises :class:`ProviderError`."""
    number = request_id(headers)
    reason = headers.get("finish-reason", "").upper()
    if reason in _FILTERED:
        # It comes with an image that was made unrecognizable.
        raise refusals.error(VENDOR, refusals.Refusal(stage="output"), number=number)
    if reason == "SUCCESS" and content.strip()[:1] not in {b"{", b"["}:
        said: object = content  # whatever its type is said to be
    else:
        said = bodies.read_answer(content, headers, VENDOR, number)
    seed = headers.get("seed", "")
    if not isinstance(said, bytes):
        reason, seed, said = _read_json(said, headers, request)
    if reason not in _MADE:
        raise _empty("Stability made no image", number, reason=name(reason))
    if not said:
        raise _empty("Stability answered without an image", number)
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    declared = kind if kind.startswith("image/") else f"image/{request.output_format}"
    return ImageAnswer(
        data=said,
        content_type=bodies.image_type(said) or declared,
        model=request.model,
        seed=int(seed) if _SEED.fullmatch(seed) else None,
        provider_request_id=number,
        usage={"images": 1},
    )


def _read_json(body: object, headers: Mapping[str, str], request: ImageRequest) -> tuple[str, str, bytes]:
    """Return finish reason, seed and image of an answer in JSON, though an image was asked for."""
    said = http.mapping(body)
    number = request_id(headers) or name(said.get("id"))
    made = http.mapping(next(iter(http.items(said.get("artifacts"))), None)) or said  # the older version has a list
    reason = str(made.get("finish_reason") or made.get("finishReason") or "").upper()
    if reason in _FILTERED or refusals.is_refusal(reason):
        raise refusals.error(VENDOR, refusals.Refusal(stage="output"), number=number)
    encoded = made.get("image") or made.get("base64") or made.get("b64_json")
    if encoded:
        return reason, str(made.get("seed", "")), bodies.read_image(encoded, VENDOR, number)
    parts = [said[key] for key in ("error", "errors") if said.get(key)]
    if parts or _is_theirs(said) or isinstance(said.get("message"), str):
        # Without a status in it an error is final: what the call cost is not known, and another may cost the same.
        status = statuses.implied([said, *parts], around=said) or 400
        raise _judge(status, headers, body, model=request.model)
    return reason, "", b""


def _empty(message: str, number: str, **detail: Any) -> ProviderError:
    return ProviderError(message, code=ErrorCode.EMPTY_RESULT, provider_request_id=number, detail=detail)
