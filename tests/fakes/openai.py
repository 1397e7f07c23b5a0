"""OpenAI's wire: ``POST /v1/images/generations`` and ``/v1/images/edits``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from tests.fakes.forms import described, read_form
from tests.fakes.images import encoded, spoilt
from tests.fakes.script import Behavior
from tests.fakes.wire import UNSPEAKABLE, Answer, Asked, Request, as_json, page

#: Status → type and code in the body, where OpenAI has some of its own.
_ERRORS: Final = {
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}
_CHOICES: Final = {"quality": ("low", "medium", "high", "auto"), "output_format": ("png", "jpeg", "webp")}
#: What every model makes; some make any size.
_SIZES: Final = ("auto", "1024x1024", "1536x1024", "1024x1536")
_PICTURES: Final = "/files/"
_EDITS: Final = "/v1/images/edits"
_MOST_IMAGES: Final = 16
_MOST_BYTES: Final = 50 * 1024 * 1024
_MOST_MASK_BYTES: Final = 4 * 1024 * 1024


class OpenAIWire:
    """Answers as the Images API does, and serves the images that other servers give the address of."""

    vendor: ClassVar[str] = "openai"

    def serves(self, request: Request) -> bool:
        if request.path.startswith(_PICTURES):
            return request.method == "GET"
        return request.method == "POST" and request.path in {"/v1/images/generations", _EDITS}

    def read(self, request: Request) -> Asked:
        authorized = request.headers.get("authorization", "").startswith("Bearer ")
        if request.path.startswith(_PICTURES):
            name = request.path.removeprefix(_PICTURES)
            return Asked(prompt="", request_id=name, options={"file": name, "authorized": authorized})
        images: list[dict[str, Any]] = []
        body: Any
        if request.path == _EDITS:
            body, images = _edit(request)
        else:
            body = json.loads(request.body)
        if not isinstance(body, dict) or not isinstance(body.get("prompt"), str):
            raise ValueError("Missing required parameter: 'prompt'.")
        options = {name: value for name, value in body.items() if name != "prompt"}
        _check(options)
        # The key itself is kept nowhere.
        options["authorized"] = authorized
        if images:
            options["images"] = images
        return Asked(prompt=body["prompt"], request_id=request.headers.get("x-client-request-id", ""), options=options)

    def answer(self, asked: Asked, behavior: Behavior, *, number: int) -> Answer:
        headers = {"x-request-id": f"req_fake_{number}", "openai-processing-ms": "1"}
        for name in ("retry_after", "retry_after_ms", "should_retry"):
            if value := getattr(behavior, name):
                headers["x-should-retry" if name == "should_retry" else name.replace("_", "-")] = value
        output_format = asked.options.get("output_format") or "png"
        image = spoilt(asked.request_id or asked.prompt, output_format, behavior.image)
        if "file" in asked.options:
            return Answer(status=behavior.status, headers=headers, body=image, content_type="image/png")
        if not asked.options["authorized"]:
            return _error(401, headers)
        if behavior.moderation:
            details = {"moderation_stage": behavior.moderation, "categories": ["violence"]}
            return _error(
                400,
                headers,
                kind="image_generation_user_error",
                code="moderation_blocked",
                message="Your request was rejected by the safety system.",
                moderation_details=details,
            )
        if behavior.quota:
            return _error(429, headers, kind="insufficient_quota", code="insufficient_quota")
        if behavior.html:
            return page(behavior.status)
        if behavior.status != 200:
            return _error(behavior.status, headers, code=behavior.code, message=behavior.says or UNSPEAKABLE)
        if behavior.other:
            return Answer(headers=headers, body=image, content_type=f"image/{output_format}")
        entry = {"b64_json": encoded(image, behavior.base64)}
        if behavior.url:
            entry = {"url": f"{_PICTURES}{number}.png" if behavior.url == "own" else behavior.url}
        data = [] if behavior.empty else [entry]
        seen = 1_000 * len(asked.options.get("images", ()))
        usage = {
            "input_tokens": 20 + seen,
            "input_tokens_details": {"text_tokens": 20, "image_tokens": seen},
            "output_tokens": 200,
            "total_tokens": 220 + seen,
        }
        answer = as_json({"created": 1_790_000_000, "data": data, "usage": usage}, headers=headers)
        if behavior.malformed:
            return Answer(headers=headers, body=answer.body[:-20])
        if asked.options.get("stream") and behavior.stream != "json":
            return _stream(asked, behavior, entry, usage, headers)
        return answer

    def unreadable(self, why: str) -> Answer:
        return _error(400, {}, message=why)


def _edit(request: Request) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The fields of a form, and what is known of its images; a mask is the last one."""
    fields, files = read_form(request)
    images = [file for file in files if file.name in {"image", "image[]"}]
    masks = [file for file in files if file.name == "mask"]
    if len(images) + len(masks) != len(files):
        raise ValueError("Unknown parameter.")
    if not 1 <= len(images) <= _MOST_IMAGES or (len(images) > 1 and any(file.name == "image" for file in images)):
        raise ValueError("Invalid value for 'image'.")
    found = []
    for file in (*images, *masks):
        seen = described("mask" if file in masks else "image", file.data)
        extension = {"jpg": "jpeg"}.get(file.file_name.rpartition(".")[2], file.file_name.rpartition(".")[2])
        most = _MOST_MASK_BYTES if file in masks else _MOST_BYTES
        if not f"image/{extension}" == file.content_type == seen["content_type"] or len(file.data) > most:
            raise ValueError(f"Invalid image file or mode for '{seen['field']}'.")
        found.append(seen)
    if masks:
        *_, mask = found
        if mask["content_type"] != "image/png" or not mask["alpha"]:
            raise ValueError("Invalid value for 'mask'.")
        if (mask["width"], mask["height"]) != (found[0]["width"], found[0]["height"]):
            raise ValueError("Invalid mask: it must have the size of the first image.")
    values: dict[str, Any] = dict(fields)
    if "stream" in values:
        values |= {"stream": values["stream"] == "true", "partial_images": int(values.get("partial_images", 0))}
    return values, found


def _stream(
    asked: Asked, behavior: Behavior, entry: Mapping[str, str], usage: Mapping[str, Any], headers: dict[str, str]
) -> Answer:
    """The events of a call with ``stream``. A partial image is another image than the final one."""
    kind = behavior.stream
    output_format = asked.options.get("output_format") or "png"
    facts = {"size": "64x64", "quality": "low", "background": "opaque", "output_format": output_format}
    facts |= {"created_at": 1_790_000_000}
    count = asked.options.get("partial_images", 0)
    about = "image_edit" if "images" in asked.options else "image_generation"
    partials = []
    for index in range(count):
        image = spoilt(f"{asked.request_id} {index}", output_format, "svg" if kind == "spoilt" else "")
        image += bytes(1024 * 1024 if kind == "endless" else 0)
        partials.append(
            _event(f"{about}.partial_image", b64_json=encoded(image, ""), partial_image_index=index, **facts)
        )
    final = [_event(f"{about}.completed", **entry, usage=usage, **facts)]
    if kind in {"cut", "reset", "endless"}:
        final = []
    elif kind == "early":
        partials, final = final, partials
    elif kind in {"error", "refusal"}:
        error = {"message": UNSPEAKABLE, "type": "server_error", "code": "server_error", "param": None}
        if kind == "refusal":
            error |= {"message": "Your request was rejected by the safety system."}
            error |= {"type": "image_generation_user_error", "code": "moderation_blocked"}
        final = [f"event: error\ndata: {json.dumps({'type': 'error', 'error': error})}\n\n".encode()]
    elif kind == "garbage":
        final = [b": comment\nnonsense\ndata: {\ndata:\n\ndata: 7\r\n\r\nid: 3\r\r", *final, b"data: [DONE]\n\n"]
    then = kind if kind in {"reset", "endless"} else ""
    parts = [*partials, *final]
    return Answer(headers=headers, content_type="text/event-stream", parts=parts, then=then)


def _event(name: str, **members: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **members})}\n\n".encode()


def _check(options: Mapping[str, Any]) -> None:
    if unknown := options.keys() - {"model", "n", "size", "stream", "partial_images", *_CHOICES}:
        raise ValueError(f"Unknown parameter: '{min(unknown)}'.")
    if options.get("partial_images", 0) not in range(4):
        raise ValueError("Invalid value for 'partial_images'.")
    for name, choices in _CHOICES.items():
        if name in options and options[name] not in choices:
            raise ValueError(f"Invalid value for '{name}'.")
    size = options.get("size", "auto")
    if size in _SIZES:
        return
    width, height = map(int, size.split("x"))
    takes_any = re.fullmatch(r"gpt-image-2(\.5-.*)?", str(options.get("model")))
    too_large = max(width, height) > min(3 * min(width, height), 3840) or width * height > 8_294_400
    if not takes_any or width % 16 or height % 16 or too_large:
        raise ValueError("Invalid value for 'size'.")


def _error(
    status: int,
    headers: dict[str, str],
    *,
    kind: str = "",
    code: str = "",
    message: str = UNSPEAKABLE,
    **more: Any,
) -> Answer:
    usual = _ERRORS.get(status, ("server_error" if status >= 500 else "invalid_request_error", ""))
    error = {"message": message, "type": kind or usual[0], "param": None, "code": code or usual[1] or None, **more}
    return as_json({"error": error}, status=status, headers=headers)
