"""Gemini's wire: ``generateContent`` on the Developer API and on Vertex, and Google's sign-in for the latter."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Final

from tests.fakes.forms import described
from tests.fakes.images import encoded, spoilt
from tests.fakes.script import Behavior
from tests.fakes.wire import UNSPEAKABLE, Answer, Asked, Request, as_json, page

_NAME: Final = r"([A-Za-z0-9_.-]+)"
_DEVELOPER: Final = re.compile(rf"/v1beta/models/{_NAME}:generateContent")
_VERTEX: Final = re.compile(
    rf"/v1beta1/projects/{_NAME}/locations/{_NAME}/publishers/google/models/{_NAME}:generateContent"
)
_RATIOS: Final = {"1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9"}
_SIZES: Final = {"1K", "2K", "4K"}
#: Of one prompt, and of one image on Vertex.
_MOST_IMAGES: Final = 14
_MOST_BYTES: Final = 7_000_000
_SAFETY: Final = "HARM_CATEGORY_DANGEROUS_CONTENT"
_TYPES: Final = "type.googleapis.com/google.rpc."

#: Status → its name in the body.
_NAMES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class GoogleWire:
    """Answers as Gemini does."""

    vendor: ClassVar[str] = "google"

    def serves(self, request: Request) -> bool:
        path = request.path
        return request.method == "POST" and bool(_DEVELOPER.fullmatch(path) or _VERTEX.fullmatch(path))

    def read(self, request: Request) -> Asked:
        body = json.loads(request.body)
        _check(body, "", {"contents", "generationConfig", "safetySettings"})
        prompt, images = _prompt(body)
        config = body.get("generationConfig", {})
        _check(config, "generation_config", {"responseModalities", "imageConfig", "seed"})
        if config.get("responseModalities") != ["IMAGE"]:
            raise ValueError("The fake draws, and does nothing else")
        image = config.get("imageConfig", {})
        options: dict[str, Any] = {}
        if place := _VERTEX.fullmatch(request.path):
            options |= dict(zip(("project", "location", "model"), place.groups(), strict=True))
            options["authorized"] = request.headers.get("authorization", "").startswith("Bearer ")
            _check(image, "image_config", {"aspectRatio", "imageSize", "imageOutputOptions"})
            _one_of(image.get("imageOutputOptions", {}).get("mimeType"), {"image/png", "image/jpeg"}, "mime_type")
        elif place := _DEVELOPER.fullmatch(request.path):
            options["model"] = place[1]
            options["authorized"] = bool(request.headers.get("x-goog-api-key"))
            _check(image, "image_config", {"aspectRatio", "imageSize"})
        _one_of(image.get("aspectRatio"), _RATIOS, "aspect_ratio")
        _one_of(image.get("imageSize"), _SIZES, "image_size")
        seed = config.get("seed", 0)
        if not isinstance(seed, int) or not -(2**31) <= seed < 2**31:
            raise ValueError(f"Invalid value at 'generation_config.seed' (TYPE_INT32), {seed}")
        options |= image | {name: config[name] for name in ("seed",) if name in config}
        if images:
            options["images"] = images
        return Asked(prompt=prompt, options=options)

    def answer(self, asked: Asked, behavior: Behavior, *, number: int) -> Answer:
        headers = {"x-request-number": str(number)}
        if not asked.options["authorized"]:
            return _error(403, headers, message="Method doesn't allow unregistered callers")
        if behavior.html:
            return page(behavior.status)
        if behavior.quota:
            return _error(429, headers, _quota("GenerateRequestsPerDayPerProjectPerModel"), *_wait("41s"))
        if behavior.status != 200:
            return _scripted_error(behavior, headers)
        answer = as_json(_content(asked, behavior, number), headers=headers)
        return Answer(headers=headers, body=answer.body[:-20]) if behavior.malformed else answer

    def unreadable(self, why: str) -> Answer:
        field = {
            "@type": f"{_TYPES}BadRequest",
            "fieldViolations": [{"field": why.split("'")[1]}] if "'" in why else [],
        }
        return _error(400, {}, field, message=why)


class GoogleSignInWire:
    """Gives a token for a signed assertion."""

    vendor: ClassVar[str] = "google-sign-in"

    def serves(self, request: Request) -> bool:
        return request.method == "POST" and request.path == "/token"

    def read(self, request: Request) -> Asked:
        if b"assertion=" not in request.body:
            raise ValueError("invalid_grant")
        return Asked(prompt="")

    def answer(self, asked: Asked, behavior: Behavior, *, number: int) -> Answer:
        if behavior.status != 200:
            return as_json({"error": "invalid_grant"}, status=behavior.status)
        return as_json({"access_token": "ya29.only-for-tests", "expires_in": 3600, "token_type": "Bearer"})

    def unreadable(self, why: str) -> Answer:
        return as_json({"error": why}, status=400)


def _prompt(body: Mapping[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """The only text, and what is known of the images around it."""
    try:
        [content] = body["contents"]
        texts = [part["text"] for part in content["parts"] if "text" in part]
        inline = [part["inlineData"] for part in content["parts"] if "text" not in part]
        [prompt] = texts
        images = [_image(one) for one in inline]
    except (KeyError, TypeError, ValueError):
        raise ValueError("'contents' is not specified") from None
    if not isinstance(prompt, str) or not prompt:
        raise ValueError("'contents' is not specified")
    if len(images) > _MOST_IMAGES:
        raise ValueError("Too many images in 'contents'")
    return prompt, images


def _image(inline: Mapping[str, str]) -> dict[str, Any]:
    # Google reads both alphabets; its SDK for Python writes the one for URLs.
    data = b64decode(inline["data"].replace("-", "+").replace("_", "/"), validate=True)
    seen = described("inlineData", data)
    declared = inline.get("mimeType") or inline["mime_type"]  # Google reads both names
    if seen["content_type"] != declared or len(data) > _MOST_BYTES:
        raise ValueError("Unable to process input image")
    return seen


def _check(message: object, where: str, known: Collection[str]) -> None:
    """As strict as Google: a field that is not known is an error."""
    if not isinstance(message, dict):
        raise ValueError(f"Invalid value at '{where}'")
    if unknown := [name for name in message if name not in known]:
        raise ValueError(f"Invalid JSON payload received. Unknown name '{unknown[0]}' at '{where}': Cannot find field.")


def _one_of(value: object, known: Collection[str], name: str) -> None:
    if value is not None and value not in known:
        raise ValueError(f"Invalid value at 'generation_config.image_config.{name}'")


def _content(asked: Asked, behavior: Behavior, number: int) -> dict[str, Any]:
    said: dict[str, Any] = {"modelVersion": asked.options["model"], "responseId": f"resp_fake_{number}"}
    ratings = [{"category": _SAFETY, "probability": "HIGH", "blocked": True}]
    seen = 1_120 * len(asked.options.get("images", ()))
    details = [{"modality": "TEXT", "tokenCount": 12}] + ([{"modality": "IMAGE", "tokenCount": seen}] if seen else [])
    usage: dict[str, Any] = {"promptTokenCount": 12 + seen, "promptTokensDetails": details}
    if behavior.moderation == "input":
        feedback = {"blockReason": behavior.reason or "SAFETY", "safetyRatings": ratings}
        return said | {"promptFeedback": feedback, "usageMetadata": usage}
    candidate: dict[str, Any]
    if behavior.moderation == "output":
        candidate = {"finishReason": behavior.reason or "IMAGE_SAFETY", "safetyRatings": ratings}
        return said | {"candidates": [candidate], "usageMetadata": usage}
    if behavior.empty or behavior.reason:
        words = {"role": "model", "parts": [{"text": "Here is your image of a secret sauce!"}]}
        candidate = {"content": words, "finishReason": behavior.reason or "NO_IMAGE"}
        return said | {"candidates": [candidate], "usageMetadata": usage}
    usage |= {
        "candidatesTokenCount": 1120,
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1120}],
        "thoughtsTokenCount": 40,
    }
    mime_type = asked.options.get("imageOutputOptions", {}).get("mimeType", "image/png")
    parts = [
        {"text": "A dragon should be green.", "thought": True},
        {"inlineData": {"mimeType": "image/png", "data": encoded(spoilt("a sketch", "png", ""), "")}, "thought": True},
        {"text": "Here is your image."},
        _inline(mime_type, encoded(spoilt(asked.prompt, mime_type[6:], behavior.image), behavior.base64), behavior),
    ]
    candidate = {"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}
    return said | {"candidates": [candidate], "usageMetadata": usage}


def _inline(mime_type: str, data: str, behavior: Behavior) -> dict[str, Any]:
    """The image; in the other form with the names of Python's SDK."""
    if behavior.other:
        return {"inline_data": {"mime_type": mime_type, "data": data}}
    return {"inlineData": {"mimeType": mime_type, "data": data}}


def _scripted_error(behavior: Behavior, headers: dict[str, str]) -> Answer:
    details = []
    said = behavior.retry_after
    if behavior.status == 429:
        details.append(_quota("GenerateRequestsPerMinutePerProjectPerModel"))
    if said.replace(".", "", 1).isdigit():
        details += _wait(f"{said}s")
    elif said:
        headers["retry-after"] = said  # Google's own errors say it in seconds, but there are servers in front of it
    if behavior.code:
        details.append({"@type": f"{_TYPES}ErrorInfo", "reason": behavior.code, "domain": "googleapis.com"})
    says = behavior.says
    if behavior.status == 404 and not says:
        says = f"models/gemini is not found for API version v1beta. {UNSPEAKABLE}"
    return _error(behavior.status, headers, *details, message=says or UNSPEAKABLE)


def _quota(name: str) -> dict[str, Any]:
    metric = "generativelanguage.googleapis.com/generate_content_paid_tier_requests"
    return {"@type": f"{_TYPES}QuotaFailure", "violations": [{"quotaMetric": metric, "quotaId": name}]}


def _wait(duration: str) -> list[dict[str, Any]]:
    return [{"@type": f"{_TYPES}RetryInfo", "retryDelay": duration}]


def _error(
    status: int,
    headers: dict[str, str],
    *details: Mapping[str, Any],
    message: str = UNSPEAKABLE,
) -> Answer:
    error = {"code": status, "message": message, "status": _NAMES.get(status, "UNKNOWN"), "details": list(details)}
    return as_json({"error": error}, status=status, headers=headers)
