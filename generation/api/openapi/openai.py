"""Descriptions of the operations below ``/v1``."""

from __future__ import annotations

from typing import Any, Final

from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema_serializer
from rest_framework import serializers

from generation.api.openai.edit_forms import MAX_IMAGES
from generation.api.openai.images import EditsViewSet, ImagesViewSet
from generation.api.openai.models import ModelsViewSet
from generation.api.openai.serializers import ImagesSerializer, VgaSerializer
from generation.api.openapi.helpers import IDEMPOTENCY_KEY, TEXT, describe, header, operation, request_header, response
from generation.api.openapi.schemas import Count, Pattern, ResponseSerializer, Text
from generation.storage.images import EXTENSIONS

_TAG: Final = "OpenAI"

extend_schema_serializer(component_name="OpenAIImages")(ImagesSerializer)
extend_schema_serializer(component_name="OpenAIVga")(VgaSerializer)


class EditFormSerializer(ImagesSerializer):
    """The form of an edit, at most 64 MiB."""

    image = serializers.ListField(
        child=serializers.FileField(), min_length=1, max_length=MAX_IMAGES, help_text="Also as `image[]`."
    )
    mask = serializers.FileField(required=False, help_text="A PNG, transparent where the first image is to change.")


extend_schema_serializer(component_name="OpenAIEditForm")(EditFormSerializer)


class SizeFieldExtension(OpenApiSerializerFieldExtension):
    """Describe a size by a pattern."""

    target_class = "generation.api.openai.serializers.SizeField"
    priority = 1

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:
        return {"type": "string", "pattern": "^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$"}


# --- Responses --------------------------------------------------------------------------------------------------------


class OpenAIModeration(ResponseSerializer):
    """What was refused."""

    moderation_stage = Pattern("(?:input|output)")
    categories = serializers.ListField(child=serializers.CharField())


class OpenAIErrorDetails(ResponseSerializer):
    """An error."""

    message = serializers.CharField()
    type = Pattern("[a-z_]+")
    param = Text(allow_null=True, help_text="The wrong field.")
    code = Pattern("[a-z][a-z_]*")
    moderation_details = OpenAIModeration(required=False, help_text="Of a refusal, whose code is `moderation_blocked`.")


class OpenAIError(ResponseSerializer):
    """The format of errors below `/v1`."""

    error = OpenAIErrorDetails()


class OpenAIImage(ResponseSerializer):
    """An image, in base64 or as its address."""

    b64_json = serializers.CharField(required=False)
    url = serializers.URLField(required=False)
    revised_prompt = serializers.CharField(required=False, help_text="The prompt as the vendor changed it.")


class OpenAITokens(ResponseSerializer):
    """The tokens of the prompt."""

    text_tokens = Count()
    image_tokens = Count()


class OpenAIUsage(ResponseSerializer):
    """What the vendor counted."""

    input_tokens = Count()
    input_tokens_details = OpenAITokens()
    output_tokens = Count()
    total_tokens = Count()


class OpenAIImagesAnswer(ResponseSerializer):
    """The images that came. Size and format are those of the first."""

    created = Count(help_text="Seconds since 1970.")
    data = OpenAIImage(many=True)  # type: ignore[assignment]  # a field that hides the property of Serializer
    background = Pattern("opaque")
    output_format = Pattern(f"(?:{'|'.join(EXTENSIONS.values())})")
    quality = serializers.CharField()
    size = Pattern("[0-9]+x[0-9]+")
    usage = OpenAIUsage(required=False)


class OpenAIModel(ResponseSerializer):
    """A model of the catalogue."""

    id = serializers.CharField()
    object = Pattern("model")
    created = Count(help_text="Always 0: the time is not known.")
    owned_by = serializers.CharField(help_text="The provider.")
    shutdown_date = serializers.DateField(allow_null=True, help_text="When the vendor retires it.")


@extend_schema_serializer(many=False)
class OpenAIModels(ResponseSerializer):
    """The models that the caller may name."""

    object = Pattern("list")
    data = OpenAIModel(many=True)  # type: ignore[assignment]  # a field that hides the property of Serializer


# --- Examples ---------------------------------------------------------------------------------------------------------

_MODEL: Final = {"id": "gpt-image-2", "object": "model", "created": 0, "owned_by": "openai", "shutdown_date": None}
_IMAGES: Final = {
    "created": 1769158200,
    "data": [{"b64_json": "iVBORw0KGgoAAAANSUhEUg…"}],
    "background": "opaque",
    "output_format": "png",
    "quality": "auto",
    "size": "1536x1024",
    "usage": {
        "input_tokens": 20,
        "input_tokens_details": {"text_tokens": 20, "image_tokens": 0},
        "output_tokens": 200,
        "total_tokens": 220,
    },
}


def _error(description: str, message: str, code: str, param: str | None = None, **more: Any) -> OpenApiResponse:
    shown = {"message": message, "type": "invalid_request_error", "param": param, "code": code} | more
    return response(OpenAIError, description, **{code: {"error": shown}})


_COMMON: Final[dict[Any, Any]] = {
    401: _error("The key or token is missing or not valid.", "Invalid token", "invalid_api_key"),
    403: _error(
        "The API key may not do this.", "The API key lacks the scope requests:write", "insufficient_permissions"
    ),
    503: _error(
        "The database is not reachable, or the server restarts: send the call again.",
        "The database is not reachable at the moment",
        "database_unavailable",
    ),
}
_INVALID: Final = {
    400: _error("A value is not valid, or the vendor refused.", "n: Ensure this value is at most 8.", "max_value", "n"),
    413: _error("The body is larger than 1 MiB.", "The body is larger than 1 MiB", "body_too_large"),
    415: _error(
        "The Content-Type is not `application/json`.",
        'Unsupported media type "text/plain" in request.',
        "unsupported_media_type",
    ),
}
_NOT_FOUND: Final = {
    404: _error("There is no such model.", "The model imagen-9 does not exist", "model_not_found", "model")
}


_ANSWERS: Final = (
    _COMMON
    | _INVALID
    | {
        200: response(OpenAIImagesAnswer, "The images.", images=_IMAGES),
        404: _error(
            "There is no such model, or this process does not serve images.",
            "No model imagen-9 is configured for openai.",
            "model_not_found",
            "model",
        ),
        409: _error("The request was cancelled, or the key was used before.", "It was cancelled", "cancelled"),
        410: _error("The image is no longer stored.", "The image is no longer stored", "picture_gone"),
        429: _error(
            "A rate or the budget is used up, or too many calls wait.", "Too many requests", "rate_limit_exceeded"
        ),
        502: _error("The request failed.", "OpenAI is unavailable (HTTP 500)", "unavailable"),
        504: _error("The request goes on.", "The image is not ready yet, and the work goes on.", "still_running"),
    }
)


def _headers(*codes: int) -> list[OpenApiParameter]:
    return [
        header("x-vga-request-ids", TEXT, "The ids of the requests, separated by commas.", *codes),
        header("x-vga-cost-usd", TEXT, "What the images cost in US dollars, if that is known.", 200, required=False),
        header("x-vga-failed", TEXT, "How many of the images did not come.", 200, required=False),
        header("x-vga-ignored", TEXT, "The fields without an effect.", 200, required=False),
        header("openai-processing-ms", TEXT, "How long the call took.", *codes),
        header("x-ratelimit-limit-requests", TEXT, "Images allowed per period.", 200, 429, required=False),
        header("x-ratelimit-remaining-requests", TEXT, "Images left in this period.", 200, 429, required=False),
        header("x-ratelimit-reset-requests", TEXT, "When all are available again.", 200, 429, required=False),
        header("x-should-retry", {"const": "false"}, "The call need not be sent again.", 409, 410, 502, 504),
    ]


describe(
    ImagesViewSet,
    generate=operation(
        "openaiGenerateImages",
        "Generate images as OpenAI's API does",
        "Waits until the images are there, for `OPENAI_WAIT_SECONDS` at most, and a little less than an SDK's time-out."
        " Only the process of live updates answers it. With `stream` the answer is an event stream.",
        tag=_TAG,
        request=ImagesSerializer,
        example={"prompt": "A friendly dragon playing in a garden", "size": "1536x1024"},
        parameters=[
            IDEMPOTENCY_KEY[0],
            request_header(
                "x-stainless-retry-count", TEXT, "How often an SDK has sent this call before: it joins the first one."
            ),
            *_headers(200),
        ],
        rate=(),
        responses=_ANSWERS,
    ),
)
describe(
    EditsViewSet,
    edit=operation(
        "openaiEditImages",
        "Edit images as OpenAI's API does",
        "A form with up to 16 files `image` or `image[]`, or JSON with `images`, each with a data URL in `image_url` or"
        " an upload in `file_id`. With a `mask` the first image is changed where the mask is transparent; else all are"
        " references. The files become uploads of yours, which are kept for a day. Everything else is as for"
        " generations, also the fields.",
        tag=_TAG,
        request={"multipart/form-data": EditFormSerializer},
        example={"prompt": "The same fox in the snow", "image": ["(the bytes of the image)"]},
        parameters=[IDEMPOTENCY_KEY[0], *_headers(200)],
        rate=(),
        responses=_ANSWERS
        | {
            413: _error("The body or a file is too large.", "The body is larger than 64 MiB", "body_too_large"),
            415: _error(
                "Neither a form nor JSON.", 'Unsupported media type "text/plain" in request.', "unsupported_media_type"
            ),
        },
    ),
)
describe(
    ModelsViewSet,
    list=operation(
        "openaiListModels",
        "List the models as OpenAI's API does",
        "The models of the configured providers; for an API key that is limited to models, those.",
        tag=_TAG,
        responses=_COMMON | {200: response(OpenAIModels, "The models.", models={"object": "list", "data": [_MODEL]})},
    ),
    retrieve=operation(
        "openaiGetModel",
        "Get a model as OpenAI's API does",
        "One of the models in the list.",
        tag=_TAG,
        parameters=[OpenApiParameter("model_id", TEXT, OpenApiParameter.PATH, description="The `id` of a model.")],
        responses=_COMMON | _NOT_FOUND | {200: response(OpenAIModel, "The model.", model=_MODEL)},
    ),
)
