"""The adapter for Google's Gemini with the official SDK: the Developer API by key, or Vertex AI by project.

The queue retries calls and the runtime limits their time, so both are disabled in the SDK. Its parsing of answers is
not used either, since it logs unknown values of answers in warnings.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final, NamedTuple

import httpx2
from google import genai
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError, TransportError
from google.genai import types

from generation.providers.error_policy import ErrorScope
from generation.states import ErrorCode, ImageRole
from workers.providers import bodies, http, refusals
from workers.providers.base import ImageAnswer, ImageRequest, ProviderError
from workers.providers.google_errors import VENDOR, error_in, status_error
from workers.providers.support import PerEventLoop, name, reject_images, reject_unsupported, unsendable_key, unsupported

#: API versions that support images, independent of the defaults of the SDK's version.
_DEVELOPER_API, _VERTEX_API = "v1beta", "v1beta1"
#: Without a larger resolution, the quality decides.
_IMAGE_SIZES: Final = {"low": "1K", "medium": "1K", "high": "2K"}
_USUAL_RESOLUTION: Final = "1K"
_LARGEST_SEED: Final = 2**31 - 1

#: The most images of any model. How many of each role a model takes is in its row.
_MOST_IMAGES: Final = 14
_ROLES: Final[Mapping[str, int]] = dict.fromkeys(ImageRole, _MOST_IMAGES)

#: Finish reasons of an image that the safety system refused. With other reasons, no image was generated.
_REFUSALS: Final = frozenset(
    {
        *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"),
        *("SAFETY", "PROHIBITED_CONTENT", "RECITATION", "BLOCKLIST", "SPII", "MODEL_ARMOR", "ESCALATION"),
    }
)
#: Finish reasons after which a retry would not help, since it takes another prompt or account.
_FINAL_REASONS: Final[dict[str, tuple[ErrorCode, ErrorScope | None, str]]] = {
    "LANGUAGE": (
        ErrorCode.INVALID_REQUEST,
        ErrorScope.MODEL,
        "Google's model does not support the language of the prompt",
    ),
    "PUP_LIMITED_DISABLED": (ErrorCode.AUTH, None, "Google has limited or closed the account"),
}


class _Client(NamedTuple):
    sdk: genai.Client
    http: httpx2.AsyncClient

    async def close(self) -> None:
        await self.http.aclose()
        self.sdk.close()


class GoogleProvider:
    """Calls ``generateContent``."""

    name: ClassVar[str] = "google"
    billable: ClassVar[bool] = True

    def __init__(
        self,
        *,
        api_key: str,
        project: str,
        location: str,
        base_url: str,
        timeout: float,
        credentials: Credentials | None = None,
    ) -> None:
        """With ``api_key`` the Developer API is used; without, ``project`` and ``location`` on Vertex AI, with
        ``credentials`` or else Google's application default credentials. An empty ``base_url`` means Google's own;
        ``timeout`` is the time limit of a call in seconds."""
        self._api_key = api_key
        self._project = project
        self._location = location
        self._base_url = base_url
        self._timeout = timeout
        self._credentials = credentials
        self._clients = PerEventLoop(self._new_client, _Client.close)

    async def generate(self, request: ImageRequest) -> ImageAnswer:
        """Generate an image with one call. Raises :class:`ProviderError`."""
        config = self._config(request)
        reject_images(VENDOR, request, roles=_ROLES, most=_MOST_IMAGES, mask=False)
        # Errors are raised `from None`, since their causes may contain the request with the key.
        try:
            answer = await self._clients.get().sdk.aio.models.generate_content(
                model=request.model, contents=_contents(request), config=config
            )
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise http.connection_error(VENDOR, error) from None
        except GoogleAuthError as error:
            raise _no_credentials(error) from None
        except UnicodeEncodeError:  # its text contains the header
            raise unsendable_key() from None
        except ValueError:  # of the SDK, for a model name that would change the URL
            raise unsupported("Google has no model of this name") from None
        response = answer.sdk_http_response or types.HttpResponse()
        headers = {key.lower(): value for key, value in (response.headers or {}).items()}
        return answer_of(bodies.read_answer(response.body or "", headers, VENDOR, ""), request, headers)

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        await self._clients.close()

    def _config(self, request: ImageRequest) -> types.GenerateContentConfig:
        formats = {"png"} if self._api_key else {"png", "jpeg"}
        unsupported_options = {
            "negativePrompt": bool(request.negative_prompt),
            f"outputFormat {request.output_format}": request.output_format not in formats,
            f"seed {request.seed}": request.seed is not None and not 0 <= request.seed <= _LARGEST_SEED,
            f"quality {request.quality}": bool(request.quality) and request.quality not in _IMAGE_SIZES,
        }
        reject_unsupported(VENDOR, unsupported_options)
        return types.GenerateContentConfig(
            response_modalities=["IMAGE"],
            seed=request.seed,
            image_config=types.ImageConfig(
                aspect_ratio=request.aspect_ratio,
                image_size=_image_size(request),
                # PNG is the default.
                output_mime_type=None if request.output_format == "png" else f"image/{request.output_format}",
            ),
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
            automatic_continuation=False,
            should_return_http_response=True,
        )

    def _new_client(self) -> _Client:
        client = http.new_client(timeout=self._timeout, on_response=_raise_for_status)
        on_vertex: dict[str, Any] = {
            "project": self._project,
            "location": self._location,
            "credentials": self._credentials,
        }
        sdk = genai.Client(
            # All arguments are given, since the SDK would read omitted ones from environment variables.
            vertexai=not self._api_key,
            **({"api_key": self._api_key} if self._api_key else on_vertex),
            http_options=types.HttpOptions(
                api_version=_DEVELOPER_API if self._api_key else _VERTEX_API,
                base_url=self._base_url or None,
                timeout=math.ceil(self._timeout * 1000),  # in ms; sent to Google, the client has its own time limit
                httpx_async_client=client,
            ),
        )
        return _Client(sdk, client)


def _contents(request: ImageRequest) -> Any:
    """Return the prompt, after the images that it names by their numbers."""
    if not request.references:
        return request.prompt
    images = [types.Part.from_bytes(data=one.data, mime_type=one.content_type) for one in request.references]
    return [*images, types.Part.from_text(text=request.prompt)]


def _image_size(request: ImageRequest) -> str | None:
    return _IMAGE_SIZES.get(request.quality) if request.resolution == _USUAL_RESOLUTION else request.resolution


def answer_of(body: object, request: ImageRequest, headers: Mapping[str, str]) -> ImageAnswer:
    """Return the image in an answer with status 200. Raises :class:`ProviderError` if it has none."""
    if isinstance(body, list):  # the format of streamed answers
        body = next(iter(body), None)
    parsed = http.mapping(body)
    request_id = name(_get(parsed, "responseId", "response_id"))
    feedback = http.mapping(_get(parsed, "promptFeedback", "prompt_feedback"))
    candidate = http.mapping(next(iter(http.items(parsed.get("candidates"))), None))
    finish = name(_get(candidate, "finishReason", "finish_reason"))
    if blocked := name(_get(feedback, "blockReason", "block_reason")):
        raise _refusal("input", blocked, feedback, request_id)
    if finish in _REFUSALS or refusals.is_refusal(finish):
        raise _refusal("output", finish, candidate, request_id)
    image = next(_images(candidate), None)
    if image is None:
        raise _no_image_error(parsed, candidate, finish, request, headers)
    return ImageAnswer(
        data=bodies.read_image(image.get("data"), VENDOR, request_id),
        content_type=name(_get(image, "mimeType", "mime_type")),
        model=request.model,
        seed=request.seed,
        provider_request_id=request_id,
        usage=usage_of(parsed),
    )


def _no_image_error(
    parsed: Mapping[str, object],
    candidate: Mapping[str, object],
    finish: str,
    request: ImageRequest,
    headers: Mapping[str, str],
) -> ProviderError:
    request_id = name(_get(parsed, "responseId", "response_id"))
    if error := error_in(parsed, headers, model=request.model):
        return error
    # The model may refuse in its own words, with an unspecific finish reason.
    parts = [http.mapping(item) for item in http.items(http.mapping(candidate.get("content")).get("parts"))]
    texts = [_get(candidate, "finishMessage", "finish_message"), *(part.get("text") for part in parts)]
    if any(isinstance(text, str) and refusals.speaks_of_refusal(text) for text in texts):
        return refusals.error(VENDOR, refusals.Refusal(), call_id=request_id, reason=finish)
    if any(_get(part, "fileData", "file_data") for part in parts):
        message = "Google answered with a URL instead of an image, which is not fetched"
        return ProviderError(message, code=ErrorCode.INVALID_IMAGE, provider_request_id=request_id)
    code, scope, message = _FINAL_REASONS.get(
        finish, (ErrorCode.EMPTY_RESULT, None, "Google answered without an image")
    )
    return ProviderError(
        message,
        code=code,
        scope=scope,
        provider_request_id=request_id,
        detail={"reason": finish} if finish else {},
    )


def _get(parsed: Mapping[str, object], *keys: str) -> object:
    """Return the value of the first key that has one. Some proxies write Google's names in snake case."""
    return next((parsed[key] for key in keys if parsed.get(key)), None)


def _images(candidate: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """Yield the images of the answer, without the drafts of a thinking model."""
    for item in http.items(http.mapping(candidate.get("content")).get("parts")):
        part = http.mapping(item)
        image = http.mapping(_get(part, "inlineData", "inline_data"))
        if image.get("data") and not part.get("thought"):
            yield image


def usage_of(parsed: Mapping[str, object]) -> dict[str, int]:
    """Return the usage that Google reports. Thoughts are billed as text."""
    usage = http.mapping(parsed.get("usageMetadata"))
    input_ = _by_modality(usage.get("promptTokensDetails"))
    output = _by_modality(usage.get("candidatesTokensDetails"))
    tokens = {
        "input_text": input_.get("TEXT", 0) if input_ else http.count(usage.get("promptTokenCount")),
        "input_image": input_.get("IMAGE", 0),
        "output_text": output.get("TEXT", 0) + http.count(usage.get("thoughtsTokenCount")),
        "output_image": output.get("IMAGE", 0) if output else http.count(usage.get("candidatesTokenCount")),
    }
    return {"images": 1} | {unit: count for unit, count in tokens.items() if count}


def _by_modality(details: object) -> dict[str, int]:
    counts = map(http.mapping, http.items(details))
    return {name(entry.get("modality")): http.count(entry.get("tokenCount")) for entry in counts}


def _refusal(stage: str, reason: str, rated: Mapping[str, object], request_id: str) -> ProviderError:
    """Return the error for a refusal. Its categories are those of the blocking safety ratings, else the reason."""
    ratings = map(http.mapping, http.items(_get(rated, "safetyRatings", "safety_ratings")))
    blocking = [name(rating.get("category")) for rating in ratings if rating.get("blocked") is True]
    categories = list(filter(None, blocking)) or [reason]
    return refusals.error(
        VENDOR, refusals.Refusal(stage=stage, categories=categories), call_id=request_id, reason=reason
    )


async def _raise_for_status(response: httpx2.Response) -> None:
    if response.status_code != 200:
        raise status_error(response.status_code, response.headers, await response.aread())


def _no_credentials(error: GoogleAuthError) -> ProviderError:
    if isinstance(error, TransportError) or error.retryable:
        return ProviderError("Google's sign-in cannot be reached", code=ErrorCode.UNAVAILABLE, sent=False)
    return ProviderError("There are no credentials that Google Cloud accepts", code=ErrorCode.AUTH, sent=False)
