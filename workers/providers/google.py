"""Google's Gemini through the official SDK: the Developer API by key, or Vertex by project.

The retries are the ledger's and the time-out is the runtime's, so the SDK does neither. Nor does it read the answers,
since it repeats words that it does not know in warnings.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final, NamedTuple

import httpx2
from google import genai
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError, TransportError
from google.genai import types

from generation.states import ErrorCode
from workers.providers import http
from workers.providers.base import ImageAnswer, ImageRequest, ProviderError
from workers.providers.vendors import PerLoop, name, refuse, unsendable_key

_VENDOR: Final = "Google"
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
_IN_VAIN: Final = {
    "LANGUAGE": (ErrorCode.INVALID_REQUEST, "Google's model does not know the language of the prompt"),
    "PUP_LIMITED_DISABLED": (ErrorCode.AUTH, "Google has limited or closed the account"),
}
_DELAY: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
#: There is no field that says it.
_NO_CREDIT: Final = re.compile(r"credits? (?:are|is) depleted", re.IGNORECASE)


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
        self._clients = PerLoop(self._new_client, _Client.close)

    async def generate(self, request: ImageRequest) -> ImageAnswer:
        """One call of ``generateContent``. Raises :class:`ProviderError`."""
        config = self._config(request)
        # The errors below are raised `from None`: what they come from may carry the request with the key.
        try:
            answer = await self._clients.get().sdk.aio.models.generate_content(
                model=request.model, contents=request.prompt, config=config
            )
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise http.connection_error(_VENDOR, error) from None
        except GoogleAuthError as error:
            raise _no_credentials(error) from None
        except UnicodeEncodeError:  # its text has the header in it
            raise unsendable_key() from None
        except ValueError:  # of the SDK, for a name that would change the address
            raise ProviderError("No model of Google's has such a name", code=ErrorCode.INVALID_REQUEST) from None
        said = answer.sdk_http_response or types.HttpResponse()
        return answer_of(http.read_answer(said.body or "", said.headers or {}, _VENDOR, ""), request)

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
        refuse(_VENDOR, unknown)
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


def answer_of(said: Mapping[str, object], request: ImageRequest) -> ImageAnswer:
    """The picture that is in this answer with status 200. Raises :class:`ProviderError` where there is none."""
    request_id = name(said.get("responseId"))
    feedback = http.mapping(said.get("promptFeedback"))
    candidate = http.mapping(next(iter(http.items(said.get("candidates"))), None))
    finish = name(candidate.get("finishReason"))
    if blocked := name(feedback.get("blockReason")):
        raise _refusal("input", blocked, feedback, request_id)
    if finish in _REFUSALS:
        raise _refusal("output", finish, candidate, request_id)
    picture = next(_pictures(candidate), None)
    if picture is None:
        code, message = _IN_VAIN.get(finish, (ErrorCode.EMPTY_RESULT, "Google answered without a picture"))
        detail = {"reason": finish} if finish else {}
        raise ProviderError(message, code=code, provider_request_id=request_id, detail=detail)
    return ImageAnswer(
        data=http.read_picture(picture.get("data"), _VENDOR, request_id),
        content_type=name(picture.get("mimeType")),
        model=request.model,
        seed=request.seed,
        provider_request_id=request_id,
        usage=usage_of(said),
    )


def _pictures(candidate: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """Those that are meant as the answer; a model that thinks makes sketches on the way."""
    for item in http.items(http.mapping(candidate.get("content")).get("parts")):
        part = http.mapping(item)
        picture = http.mapping(part.get("inlineData"))
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
    ratings = map(http.mapping, http.items(why.get("safetyRatings")))
    to_blame = [name(rating.get("category")) for rating in ratings if rating.get("blocked") is True]
    categories = list(filter(None, to_blame)) or [reason]
    what = "picture" if stage == "output" else "prompt"
    return ProviderError(
        f"Google's safety system refused the {what} ({', '.join(categories)})",
        code=ErrorCode.REFUSED_OUTPUT if stage == "output" else ErrorCode.REFUSED_INPUT,
        provider_request_id=request_id,
        detail={"stage": stage, "categories": categories, "reason": reason},
    )


async def _raise_for_status(response: httpx2.Response) -> None:
    if response.status_code != 200:
        raise status_error(response.status_code, response.headers, await response.aread())


def status_error(status: int, headers: Mapping[str, str], content: bytes) -> ProviderError:
    """What an answer that is no success means. ``content`` is its body, of whatever kind."""
    try:
        body = http.read_json(content)
    except ValueError:
        body = None
    if isinstance(body, list):  # Vertex wraps some errors
        body = next(iter(body), None)
    error = http.mapping(http.mapping(body).get("error"))
    details = [http.mapping(item) for item in http.items(error.get("details"))]
    detail: dict[str, Any] = {"status": status}
    quotas = [quota for entry in details for quota in _quotas(entry)]
    known = {
        "type": name(error.get("status")),
        "code": _first(name(entry.get("reason")) for entry in details),
        "param": _first(field for entry in details for field in _fields(entry)),
        "quota": _first(quota for quota in quotas if "PerDay" in quota) or _first(quotas),
    }
    detail |= {key: word for key, word in known.items() if word}
    code, words = _meaning(status, detail, str(error.get("message", "")))
    return ProviderError(
        words,
        code=code,
        retry_after=next(filter(None, map(_delay, details)), None) or http.retry_after(headers),
        provider_request_id=_first(name(entry.get("requestId")) for entry in details),
        detail=detail,
    )


def _meaning(status: int, detail: Mapping[str, Any], message: str) -> tuple[ErrorCode, str]:
    kind, reason = detail.get("type", ""), detail.get("code", "")
    if status == 429:
        if "PerDay" in detail.get("quota", "") or _NO_CREDIT.search(message):
            return ErrorCode.QUOTA_EXHAUSTED, "The quota or credit at Google is used up"
        return ErrorCode.RATE_LIMITED, "Google asks to wait"
    if reason.startswith("BILLING_"):
        return ErrorCode.QUOTA_EXHAUSTED, "Google Cloud does not bill the project, so it does not serve it"
    # A bad key comes as 400.
    if status in {401, 403} or reason.startswith("API_KEY_"):
        return ErrorCode.AUTH, "Google does not accept the key or account"
    if status == 400 and kind == "FAILED_PRECONDITION":
        return ErrorCode.AUTH, "Google does not serve this account, or not from here"
    if status == 404 and kind == "NOT_FOUND":
        return ErrorCode.MODEL_RETIRED, "Google has no such model, or not in this location"
    if status == 504 and kind == "DEADLINE_EXCEEDED":
        return ErrorCode.TIMEOUT, "Google ran out of time"
    if status in {408, 409, 499} or status >= 500:
        return ErrorCode.UNAVAILABLE, f"Google is not available at the moment (status {status})"
    what = f": {detail['param']}" if "param" in detail else ""
    return ErrorCode.INVALID_REQUEST, f"Google does not accept the request (status {status}{what})"


def _quotas(entry: Mapping[str, object]) -> Iterator[str]:
    """The quotas that a QuotaFailure or an ErrorInfo names."""
    for violation in map(http.mapping, http.items(entry.get("violations"))):
        yield name(violation.get("quotaId"))
    yield name(http.mapping(entry.get("metadata")).get("quota_limit"))


def _fields(entry: Mapping[str, object]) -> Iterator[str]:
    """The fields that a BadRequest complains of."""
    for violation in map(http.mapping, http.items(entry.get("fieldViolations"))):
        yield name(violation.get("field"))


def _first(names: Iterable[str]) -> str:
    return next(filter(None, names), "")


def _delay(entry: Mapping[str, object]) -> float | None:
    """The seconds of a RetryInfo."""
    said = entry.get("retryDelay")
    match = _DELAY.fullmatch(said) if isinstance(said, str) else None
    return float(match[1]) if match else None


def _no_credentials(error: GoogleAuthError) -> ProviderError:
    if isinstance(error, TransportError) or error.retryable:
        return ProviderError("Google's sign-in cannot be reached", code=ErrorCode.UNAVAILABLE)
    return ProviderError("There are no credentials that Google Cloud accepts", code=ErrorCode.AUTH)
