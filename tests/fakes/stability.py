"""Stability's wire: ``POST /v2beta/stable-image/generate/{ultra|core|sd3}`` and ``…/control/…``."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from tests.fakes.forms import File, described, read_form
from tests.fakes.images import encoded, spoilt
from tests.fakes.script import Behavior
from tests.fakes.wire import UNSPEAKABLE, Answer, Asked, Request, as_json, page

_PATH: Final = "/v2beta/stable-image/generate/"
_CONTROL: Final = "/v2beta/stable-image/control/"
#: The files that an endpoint needs.
_FILES: Final = {
    "control/style": ("image",),
    "control/structure": ("image",),
    "control/style-transfer": ("init_image", "style_image"),
}
_ENDPOINTS: Final = ("ultra", "core", "sd3", *_FILES)
_PIXELS: Final = (4_096, 9_437_184)
_WIDEST: Final = 2.5
_RATIOS: Final = ("21:9", "16:9", "3:2", "5:4", "1:1", "4:5", "2:3", "9:16", "9:21")
_CHOICES: Final = {
    "aspect_ratio": _RATIOS,
    "output_format": ("png", "jpeg", "webp"),
    "model": ("sd3.5-large", "sd3.5-large-turbo", "sd3.5-medium"),
}
_LONGEST_PROMPT: Final = 10_000
LARGEST_SEED: Final = 4_294_967_294
_MOST_BYTES: Final = 10 * 1024 * 1024

#: Status → the name in the body.
_NAMES: Final = {
    400: "bad_request",
    401: "unauthorized",
    402: "payment_required",
    403: "content_moderation",
    404: "not_found",
    413: "content_too_large",
    422: "unprocessable_entity",
    429: "rate_limit_exceeded",
    500: "internal_error",
}


class StabilityWire:
    """Answers as the REST API does."""

    vendor: ClassVar[str] = "stability"

    def serves(self, request: Request) -> bool:
        return request.method == "POST" and request.path.startswith((_PATH, _CONTROL))

    def read(self, request: Request) -> Asked:
        fields, files = read_form(request)
        endpoint = request.path.removeprefix(_PATH).removeprefix(_CONTROL.removesuffix("control/"))
        accept = request.headers.get("accept", "")
        if accept not in {"image/*", "application/json"}:
            raise ValueError("accept: must be either 'image/*' or 'application/json'")
        _check(fields, endpoint)
        images = _images(files, endpoint)
        options: dict[str, Any] = {name: value for name, value in fields.items() if name != "prompt"}
        options |= {
            "endpoint": endpoint,
            "accept": accept,
            # The key itself is kept nowhere.
            "authorized": request.headers.get("authorization", "").startswith("Bearer "),
            "too_large": len(request.body) > _MOST_BYTES,
        }
        if images:
            options["images"] = images
        return Asked(prompt=fields["prompt"], options=options)

    def answer(self, asked: Asked, behavior: Behavior, *, number: int) -> Answer:
        options = asked.options
        headers = {"x-request-id": f"req_fake_{number}"}
        if behavior.retry_after:
            headers["retry-after"] = behavior.retry_after
        if behavior.html:
            return page(behavior.status)
        if status := _status(options, behavior):
            answer = _error(status, headers, name=behavior.code, why=behavior.says or UNSPEAKABLE)
            return Answer(status=status, headers=headers, body=answer.body[:-20]) if behavior.malformed else answer
        filtered = behavior.moderation == "output"
        seed = options.get("seed", "0")
        seed = str(1_000_000 + number) if seed == "0" else seed
        output_format = options.get("output_format", "png")
        data = spoilt("blurred" if filtered else f"{asked.prompt} {seed}", output_format, behavior.image)
        if behavior.malformed:
            data = b"\0" + data
        if behavior.empty:
            data = b""
        reason = "CONTENT_FILTERED" if filtered else "SUCCESS"
        if options["accept"] == "application/json" or behavior.other or behavior.base64:
            said = {"image": encoded(data, behavior.base64), "finish_reason": reason, "seed": int(seed)}
            return as_json(said, headers=headers)
        headers |= {"finish-reason": reason, "seed": seed}
        return Answer(headers=headers, body=data, content_type=f"image/{output_format}")

    def unreadable(self, why: str) -> Answer:
        return _error(400, {"x-request-id": "req_fake_unread"}, why=why)


def _images(files: list[File], endpoint: str) -> list[dict[str, Any]]:
    """The journal's entries of the images, each of which the endpoint has to need."""
    needed = _FILES.get(endpoint, ())
    if missing := set(needed) - {file.name for file in files}:
        raise ValueError(f"{min(missing)}: is required")
    if len(files) > len(needed):
        raise ValueError(f"{files[-1].name}: is not allowed")
    found = [described(file.name, file.data) for file in files]
    for image in found:
        width, height = image["width"], image["height"]
        if not _PIXELS[0] <= width * height <= _PIXELS[1]:
            raise ValueError(f"{image['field']}: must have between {_PIXELS[0]} and {_PIXELS[1]} pixels")
        if max(width, height) > _WIDEST * min(width, height):
            raise ValueError(f"{image['field']}: must have an aspect ratio between 1:2.5 and 2.5:1")
    return found


def _check(fields: dict[str, str], endpoint: str) -> None:
    if not fields.get("prompt"):
        raise ValueError("prompt: is required")
    for name in ("prompt", "negative_prompt"):
        if len(fields.get(name, "")) > _LONGEST_PROMPT:
            raise ValueError(f"{name}: must be at most {_LONGEST_PROMPT} characters")
    for name, choices in _CHOICES.items():
        if name in fields and fields[name] not in choices:
            raise ValueError(f"{name}: must be one of {', '.join(choices)}")
    if "aspect_ratio" in fields and endpoint in {"control/structure", "control/style-transfer"}:
        raise ValueError("aspect_ratio: is not allowed")
    if "model" in fields and endpoint != "sd3":
        raise ValueError("model: is not allowed")
    seed = fields.get("seed", "0")
    if not (seed.isdecimal() and int(seed) <= LARGEST_SEED):
        raise ValueError(f"seed: must be a number between 0 and {LARGEST_SEED}")
    if unknown := fields.keys() - {*_CHOICES, "prompt", "negative_prompt", "seed"}:
        raise ValueError(f"{min(unknown)}: is not allowed")


def _status(options: Any, behavior: Behavior) -> int:
    """Of the error that is to be answered; 0 for none."""
    if not options["authorized"]:
        return 401
    if options["endpoint"] not in _ENDPOINTS:
        return 404
    if options["too_large"]:
        return 413
    if behavior.moderation == "input":
        return 403
    if behavior.quota:
        return 402
    return 0 if behavior.status == 200 else behavior.status


def _error(
    status: int,
    headers: dict[str, str],
    *,
    name: str = "",
    why: str = UNSPEAKABLE,
) -> Answer:
    usual = _NAMES.get(status, "internal_error" if status >= 500 else "bad_request")
    body = {"errors": [why], "id": "0123456789abcdef0123456789abcdef", "name": name or usual}
    return as_json(body, status=status, headers=headers)
