"""Google's Gemini through the official SDK: the Developer API by key, or Vertex by project.

The queue retries and the runtime sets the deadline, so the SDK does neither. Nor does it read the answers,
since it repeats words that it does not know in warnings.
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
from generation.states import ErrorCode
from workers.providers import bodies, http, refusals
from workers.providers.base import ImageAnswer, ImageRequest, ProviderError
from workers.providers.google_errors import VENDOR, error_in, status_error
from workers.providers.support import PerEventLoop, name, reject_unsupported, unsendable_key, unsupported

#: What has pictures on either side, whatever the SDK's version takes for its default.
_DEVELOPER_API, _VERTEX_API = "v1beta", "v1beta1"
_IMAGE_SIZES: Final = {"low": "1K", "medium": "1K", "high": "2K"}
_LARGEST_SEED: Final = 2**31 - 1

#: Finish reasons by which the safety system says no to what was drawn. Those that are not here say that nothing was.
_REFUSALS: Final = frozenset(
    {
        *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"),
        *("SAFETY", "PROHIBITED_CONTENT", "RECITATION", "BLOCKLIST", "SPII", "MODEL_ARMOR", "ESCALATION"),
    }
)
#: Another way of writing them would be needed, or another account.
_IN_VAIN: Final[dict[str, tuple[ErrorCode, ErrorScope | None, str]]] = {
    "LANGUAGE": (
        ErrorCode.INVALID_REQUEST,
        ErrorScope.MODEL,
        "Google's model does not know the language of the prompt",
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
    """Keeps one client, and with it its connections, for each event loop that calls."""

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
        """With ``api_key`` it is the Developer API; without, ``project`` and ``location`` on Vertex, signed in by
        ``credentials`` or else by what Google calls application default credentials. ``base_url`` is Google's own where
        it is empty; ``timeout`` is how long, in seconds, a call may take at most."""
        self._api_key = api_key
        self._project = project
        self._location = location
        self._base_url = base_url
        self._timeout = timeout
        self._credentials = credentials
        self._clients = PerEventLoop(self._new_client, _Client.close)

    async def generate(self, request: ImageRequest) -> ImageAnswer:
        """One call of ``generateContent``. Raises :class:`ProviderError`."""
        config = self._config(request)
        # The errors below are raised `from None`: what they come from may carry the request with the key.
        try:
            answer = await self._clients.get().sdk.aio.models.generate_content(
                model=request.model, contents=request.prompt, config=config
            )
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise http.connection_error(VENDOR, error) from None
        except GoogleAuthError as error:
            raise _no_credentials(error) from None
        except UnicodeEncodeError:  # its text has the header in it
            raise unsendable_key() from None
        except ValueError:  # of the SDK, for a name that would change the address
            raise unsupported("No model of Google's has such a name") from None
        said = answer.sdk_http_response or types.HttpResponse()
        headers = {key.lower(): value for key, value in (said.headers or {}).items()}
        return answer_of(bodies.read_answer(said.body or "", headers, VENDOR, ""), request, headers)

    async def aclose(self) -> None:
        """Close the connections of the loop that runs."""
        await self._clients.close()

    def _config(self, request: ImageRequest) -> types.GenerateContentConfig:
        formats = {"png"} if self._api_key else {"png", "jpeg"}
        unknown = {
            "negativePrompt": bool(request.negative_prompt),
            f"outputFormat {request.output_format}": request.output_format not in formats,
            "seed of this size": request.seed is not None and not 0 <= request.seed <= _LARGEST_SEED,
            f"quality {request.quality}": bool(request.quality) and request.quality not in _IMAGE_SIZES,
        }
        reject_unsupported(VENDOR, unknown)
        return types.GenerateContentConfig(
            response_modalities=["IMAGE"],
            seed=request.seed,
            image_config=types.ImageConfig(
                aspect_ratio=request.aspect_ratio,
                image_size=_IMAGE_SIZES.get(request.quality),
                # PNG is what comes anyway.
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
            # Said in full, since the SDK would take what is left out from environment variables of its own.
            vertexai=not self._api_key,
            **({"api_key": self._api_key} if self._api_key else on_vertex),
            http_options=types.HttpOptions(
                api_version=_DEVELOPER_API if self._api_key else _VERTEX_API,
                base_url=self._base_url or None,
                timeout=math.ceil(self._timeout * 1000),  # in ms; tells Google, while the client keeps its own time
                httpx_async_client=client,
            ),
        )
        return _Client(sdk, client)


def answer_of(body: object, request: ImageRequest, headers: Mapping[str, str]) -> ImageAnswer:
    """Return the image that is in this answer with status 200. Raises :class:`ProviderError` where there is none."""
    if isinstance(body, list):  # what streams comes in a list
        body = next(iter(body), None)
    said = http.mapping(body)
    request_id = name(_get(said, "responseId", "response_id"))
    feedback = http.mapping(_get(said, "promptFeedback", "prompt_feedback"))
    candidate = http.mapping(next(iter(http.items(said.get("candidates"))), None))
    finish = name(_get(candidate, "finishReason", "finish_reason"))
    if blocked := name(_get(feedback, "blockReason", "block_reason")):
        raise _refusal("input", blocked, feedback, request_id)
    if finish in _REFUSALS or refusals.is_refusal(finish):
        raise _refusal("output", finish, candidate, request_id)
    picture = next(_pictures(candidate), None)
    if picture is None:
        raise _without_image(said, candidate, finish, request, headers)
    return ImageAnswer(
        data=bodies.read_image(picture.get("data"), VENDOR, request_id),
        content_type=name(_get(picture, "mimeType", "mime_type")),
        model=request.model,
        seed=request.seed,
        provider_request_id=request_id,
        usage=usage_of(said),
    )


def _without_image(
    said: Mapping[str, object],
    candidate: Mapping[str, object],
    finish: str,
    request: ImageRequest,
    headers: Mapping[str, str],
) -> ProviderError:
    request_id = name(_get(said, "responseId", "response_id"))
    if error := error_in(said, headers, model=request.model):
        return error
    # The model may refuse in its own words, with a finish that says nothing.
    parts = [http.mapping(item) for item in http.items(http.mapping(candidate.get("content")).get("parts"))]
    texts = [_get(candidate, "finishMessage", "finish_message"), *(part.get("text") for part in parts)]
    if any(isinstance(text, str) and refusals.speaks_of_refusal(text) for text in texts):
        return refusals.error(VENDOR, refusals.Refusal(), number=request_id, reason=finish)
    if any(_get(part, "fileData", "file_data") for part in parts):
        message = "Google answered with an address instead of an image, and that is not followed"
        return ProviderError(message, code=ErrorCode.INVALID_IMAGE, provider_request_id=request_id)
    code, scope, message = _IN_VAIN.get(finish, (ErrorCode.EMPTY_RESULT, None, "Google answered without an image"))
    return ProviderError(
        message,
        code=code,
        scope=scope,
        provider_request_id=request_id,
        detail={"reason": finish} if finish else {},
    )


def _get(said: Mapping[str, object], *keys: str) -> object:
    """The value of the first key that has one: proxies write Google's names in snake case."""
    return next((said[key] for key in keys if said.get(key)), None)


def _pictures(candidate: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """Those that are meant as the answer; a model that thinks makes sketches on the way."""
    for item in http.items(http.mapping(candidate.get("content")).get("parts")):
        part = http.mapping(item)
        picture = http.mapping(_get(part, "inlineData", "inline_data"))
        if picture.get("data") and not part.get("thought"):
            yield picture


def usage_of(said: Mapping[str, object]) -> dict[str, int]:
    """What Google counted. Thoughts are billed as text."""
    usage = http.mapping(said.get("usageMetadata"))
    asked = _by_modality(usage.get("promptTokensDetails"))
    made = _by_modality(usage.get("candidatesTokensDetails"))
    counted = {
        "input_text": asked.get("TEXT", 0) if asked else http.count(usage.get("promptTokenCount")),
        "input_image": asked.get("IMAGE", 0),
        "output_text": made.get("TEXT", 0) + http.count(usage.get("thoughtsTokenCount")),
        "output_image": made.get("IMAGE", 0) if made else http.count(usage.get("candidatesTokenCount")),
    }
    return {"images": 1} | {unit: number for unit, number in counted.items() if number}


def _by_modality(details: object) -> dict[str, int]:
    counts = map(http.mapping, http.items(details))
    return {name(entry.get("modality")): http.count(entry.get("tokenCount")) for entry in counts}


def _refusal(stage: str, reason: str, why: Mapping[str, object], request_id: str) -> ProviderError:
    """``why`` is what holds the safety ratings. Where none of them is to blame, the reason is all that is known."""
    ratings = map(http.mapping, http.items(_get(why, "safetyRatings", "safety_ratings")))
    to_blame = [name(rating.get("category")) for rating in ratings if rating.get("blocked") is True]
    categories = list(filter(None, to_blame)) or [reason]
    return refusals.error(
        VENDOR, refusals.Refusal(stage=stage, categories=categories), number=request_id, reason=reason
    )


async def _raise_for_status(response: httpx2.Response) -> None:
    if response.status_code != 200:
        raise status_error(response.status_code, response.headers, await response.aread())


def _no_credentials(error: GoogleAuthError) -> ProviderError:
    if isinstance(error, TransportError) or error.retryable:
        return ProviderError("Google's sign-in cannot be reached", code=ErrorCode.UNAVAILABLE, sent=False)
    return ProviderError("There are no credentials that Google Cloud accepts", code=ErrorCode.AUTH, sent=False)
