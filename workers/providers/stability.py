"""The adapter for Stability's REST API (v2beta), or any compatible server.

A style preset is never sent: the prompt already has the phrase of the image style, only one of the endpoints supports
presets, and their effect in addition to a phrase is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final, NamedTuple

import httpx2

from generation.providers.error_policy import ErrorScope
from generation.states import ErrorCode, ImageRole
from workers.providers import bodies, http, refusals, statuses
from workers.providers.base import ImageAnswer, ImageRequest, ProviderError
from workers.providers.http import connection_error, new_client, request_id, retry_after
from workers.providers.support import (
    PerEventLoop,
    image_extension,
    name,
    reject_images,
    reject_unsupported,
    unsendable_key,
    unsupported,
)

VENDOR: Final = "Stability"

#: A valid model name, which becomes part of the URL.
_MODEL: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
#: The field at the beginning of an error: ``aspect_ratio: must be one of …``.
_FIELD: Final = re.compile(r"([a-z_]{1,32}):")
_SEED: Final = re.compile(r"[0-9]{1,10}")
#: Fields with the client's content. The limits of all other fields differ from model to model.
_CONTENT_FIELDS: Final = frozenset({"prompt", "text_prompts", "image", "init_image"})
#: Finish reasons of a blurred image, in this and in the older version of the API.
_FILTERED: Final = frozenset({"CONTENT_FILTERED", "CONTENT_FILTER", "FILTERED", "FILTER"})
_SUCCESS_REASONS: Final = frozenset({"", "SUCCESS", "STOP", "NULL"})


class Control(NamedTuple):
    """An endpoint that is guided by images. ``fields`` are the form fields by role; not all have an aspect ratio."""

    path: str
    fields: Mapping[str, str]
    has_ratio: bool = False


#: By the name of the model in the catalogue. The vendor calls them endpoints, and gives them no model.
CONTROLS: Final[Mapping[str, Control]] = {
    "control-style": Control("control/style", {ImageRole.STYLE: "image"}, has_ratio=True),
    "control-structure": Control("control/structure", {ImageRole.COMPOSITION: "image"}),
    "control-style-transfer": Control(
        "control/style-transfer", {ImageRole.COMPOSITION: "init_image", ImageRole.STYLE: "style_image"}
    ),
}


class StabilityProvider:
    """Calls ``/v2beta/stable-image/generate/…``, or ``/control/…`` for models that are guided by an image."""

    name: ClassVar[str] = "stability"
    billable: ClassVar[bool] = True

    def __init__(self, *, api_key: str, base_url: str, timeout: float) -> None:
        """``timeout`` is the time limit of a call in seconds."""
        self._api_key = api_key
        self._base_url = base_url.rstrip("/")
        self._timeout = timeout
        self._clients = PerEventLoop(self._client, httpx2.AsyncClient.aclose)

    async def generate(self, request: ImageRequest) -> ImageAnswer:
        """Generate an image with one call. Raises :class:`ProviderError`.

        A seed of 0 means a random seed to Stability; the answer has the seed that was used.
        """
        reject_unsupported(VENDOR, {"quality": bool(request.quality)})
        control = CONTROLS.get(request.model)
        roles = control.fields if control else {}
        reject_images(VENDOR, request, roles=dict.fromkeys(roles, 1), most=len(roles), mask=False)
        authorization = bearer(self._api_key)
        files = form(request)
        # Errors are raised `from None`, since those of the client contain the request with the key.
        try:
            response = await self._clients.get().post(
                f"{self._base_url}/v2beta/stable-image/{control.path if control else generate_path(request.model)}",
                headers={"authorization": authorization, "accept": "image/*"},
                files=files,
            )
        except httpx2.HTTPError as error:
            raise connection_error(VENDOR, error) from None
        if not response.is_success:
            raise status_error(response.status_code, response.headers, response.content, model=request.model)
        return answer_of(response.headers, response.content, request)

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        await self._clients.close()

    def _client(self) -> httpx2.AsyncClient:
        return new_client(timeout=self._timeout)


def bearer(api_key: str) -> str:
    """Return the authorization header. Raises :class:`ProviderError` for a key that a header cannot contain."""
    if not (api_key.isascii() and api_key.isprintable()):
        raise unsendable_key()
    return f"Bearer {api_key}"


def endpoint(model: str) -> str:
    """Return the last part of the URL's path: ``sd3`` for all models of that family, else the model's name. Raises
    :class:`ProviderError`."""
    if not _MODEL.fullmatch(model):
        raise no_model(model)
    return "sd3" if model.startswith("sd3") else model


def generate_path(model: str) -> str:
    """Return the end of the URL of a model that needs no image. Raises :class:`ProviderError`."""
    return f"generate/{endpoint(model)}"


def form(request: ImageRequest) -> dict[str, Any]:
    """Return the form fields of the request. Stability uses its defaults for omitted ones. Raises
    :class:`ProviderError` if an image is missing."""
    control = CONTROLS.get(request.model)
    fields = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "aspect_ratio": request.aspect_ratio if control is None or control.has_ratio else "",
        "seed": "" if request.seed is None else str(request.seed),
        "output_format": request.output_format,
        "model": request.model if endpoint(request.model) == "sd3" else "",
    }
    files: dict[str, Any] = {field: (None, value.encode()) for field, value in fields.items() if value}
    images = {image.role: image for image in request.references}
    for role, field in (control.fields if control else {}).items():
        if role not in images:
            raise unsupported(f"Stability's {request.model} needs an image of the role {role}")
        image = images[role]
        files[field] = (f"{field}.{image_extension(image.content_type)}", image.data, image.content_type)
    return files


def status_error(status: int, headers: Mapping[str, str], body: bytes, *, model: str) -> ProviderError:
    """Return the error for an answer with an error status."""
    return _judge(status, headers, bodies.read_error(body, headers), model=model)


def _judge(status: int, headers: Mapping[str, str], body: object, *, model: str) -> ProviderError:
    parsed = http.mapping(body)
    detail: dict[str, Any] = {"status": status}
    if error_name := name(parsed.get("name")):
        detail["name"] = error_name
    if param := _param(parsed.get("errors")):
        detail["param"] = param
    call_id = request_id(headers) or name(parsed.get("id"))
    if refusal := refusals.find(body, status=status):
        return refusals.error(VENDOR, refusal, call_id=call_id, **detail)
    if not _has_vendor_shape(parsed):
        return statuses.page_error(VENDOR, status, retry_after=retry_after(headers), call_id=call_id)
    code, scope, words = _meaning(status, detail, _text(parsed), model)
    return ProviderError(
        words, code=code, scope=scope, retry_after=retry_after(headers), provider_request_id=call_id, detail=detail
    )


def _has_vendor_shape(parsed: Mapping[str, object]) -> bool:
    """Return whether an error has Stability's shape: a name with errors, an id or a message, or a list of errors."""
    has_name = isinstance(parsed.get("name"), str)
    return (has_name and any(key in parsed for key in ("errors", "id", "message"))) or isinstance(
        parsed.get("errors"), list
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
        return statuses.not_found(VENDOR, status)
    is_limit = (bool(param) and param not in _CONTENT_FIELDS) or statuses.is_limit(text)
    return statuses.not_accepted(VENDOR, status, param=param, is_limit=is_limit or status == 413)


def _text(parsed: Mapping[str, object]) -> str:
    sentences = [parsed.get("message"), *http.items(parsed.get("errors"))]
    return " ".join(sentence for sentence in sentences if isinstance(sentence, str))


def _param(errors: object) -> str:
    """Return the field that the first of the errors names."""
    first = errors[0] if isinstance(errors, list) and errors else None
    match = _FIELD.match(first) if isinstance(first, str) else None
    return match[1] if match else ""


def no_model(model: str, *, sent: bool = False) -> ProviderError:
    """Return the error for a model that does not exist or was retired."""
    message = f"Stability has no model {model or '(none named)'}"
    return ProviderError(message, code=ErrorCode.MODEL_RETIRED, sent=sent)


def answer_of(headers: Mapping[str, str], content: bytes, request: ImageRequest) -> ImageAnswer:
    """Parse an answer with a status of success: an image, or JSON with one. Raises :class:`ProviderError`."""
    call_id = request_id(headers)
    reason = headers.get("finish-reason", "").upper()
    if reason in _FILTERED:
        # The answer has a blurred image.
        raise refusals.error(VENDOR, refusals.Refusal(stage="output"), call_id=call_id)
    if reason == "SUCCESS" and content.strip()[:1] not in {b"{", b"["}:
        parsed: object = content  # whatever its declared type
    else:
        parsed = bodies.read_answer(content, headers, VENDOR, call_id)
    seed = headers.get("seed", "")
    if not isinstance(parsed, bytes):
        reason, seed, parsed = _read_json(parsed, headers, request)
    if reason not in _SUCCESS_REASONS:
        raise _empty("Stability made no image", call_id, reason=name(reason))
    if not parsed:
        raise _empty("Stability answered without an image", call_id)
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    declared = kind if kind.startswith("image/") else f"image/{request.output_format}"
    return ImageAnswer(
        data=parsed,
        content_type=bodies.image_type(parsed) or declared,
        model=request.model,
        seed=int(seed) if _SEED.fullmatch(seed) else None,
        provider_request_id=call_id,
        usage={"images": 1},
    )


def _read_json(body: object, headers: Mapping[str, str], request: ImageRequest) -> tuple[str, str, bytes]:
    """Return finish reason, seed and image of an answer in JSON, which some servers send though an image was
    requested."""
    parsed = http.mapping(body)
    call_id = request_id(headers) or name(parsed.get("id"))
    # The older version of the API has a list.
    image = http.mapping(next(iter(http.items(parsed.get("artifacts"))), None)) or parsed
    reason = str(image.get("finish_reason") or image.get("finishReason") or "").upper()
    if reason in _FILTERED or refusals.is_refusal(reason):
        raise refusals.error(VENDOR, refusals.Refusal(stage="output"), call_id=call_id)
    encoded = image.get("image") or image.get("base64") or image.get("b64_json")
    if encoded:
        return reason, str(image.get("seed", "")), bodies.read_image(encoded, VENDOR, call_id)
    parts = [parsed[key] for key in ("error", "errors") if parsed.get(key)]
    if parts or _has_vendor_shape(parsed) or isinstance(parsed.get("message"), str):
        # An error without a status is final, since the call may have been billed, and another one may be, too.
        status = statuses.implied([parsed, *parts], around=parsed) or 400
        raise _judge(status, headers, body, model=request.model)
    return reason, "", b""


def _empty(message: str, call_id: str, **detail: Any) -> ProviderError:
    return ProviderError(message, code=ErrorCode.EMPTY_RESULT, provider_request_id=call_id, detail=detail)
