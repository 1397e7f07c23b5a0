"""Settings of drf-spectacular, which describes the API."""

from __future__ import annotations

from typing import Any, Final

from config.version import VERSION

_ABOUT: Final = (
    "Submit a prompt, and workers generate the image: coloring pages, covers, illustrations, character references and"
    " backgrounds. Sign in with `POST /api/token` and send the access token as `Authorization: Bearer …`. Users"
    " see their own requests, and staff see all; a request of another user is answered like an unknown one.\n\n"
    "Every error is JSON with `error` for people and `code` for programs, and with `errors` where values are not"
    " valid. Times are RFC 3339 in UTC. Every address works with a slash at its end, too. In a body, null at an"
    " optional field means that the field is left out. White space around an id or a name does not count.\n\n"
    "For live updates instead of polling, open the WebSocket `/ws/visual-generation`, or read the same as "
    "Server-Sent Events from `/api/visual-generation/events`: docs/live-updates.md has both."
)


def description(base_url: str) -> dict[str, Any]:
    """Return ``SPECTACULAR_SETTINGS`` for an API with this address."""
    return {
        "OAS_VERSION": "3.1.0",
        "TITLE": "Visual Generation Agent",
        "VERSION": VERSION,
        "DESCRIPTION": _ABOUT,
        "SERVERS": [{"url": base_url}],
        "TAGS": [
            {"name": "Requests", "description": "Submit a request, read its status, cancel it, retry it."},
            {"name": "Pictures", "description": "The generated images."},
            {"name": "Batches", "description": "Up to 100 requests in one call."},
            {"name": "Uploads", "description": "Images of one's own. Only their owner sees them."},
            {"name": "Webhooks", "description": "Events sent to addresses of one's own: docs/webhooks.md says how."},
            {"name": "OpenAI", "description": "For tools that know OpenAI's API: docs/openai.md says how."},
            {"name": "Queue", "description": "How the whole is doing."},
            {"name": "Tokens", "description": "Who calls."},
            {"name": "API keys", "description": "Secrets for programs, with rights and limits of their own."},
            {"name": "Health", "description": "For monitoring."},
            {"name": "Description", "description": "This description, for programs."},
        ],
        "CAMELIZE_NAMES": True,
        "COMPONENT_SPLIT_PATCH": False,
        "SORT_OPERATIONS": False,
        "SORT_OPERATION_PARAMETERS": False,
        "PREPROCESSING_HOOKS": ["generation.api.openapi.extensions.tidy_addresses"],
        "POSTPROCESSING_HOOKS": [
            "drf_spectacular.hooks.postprocess_schema_enums",
            "generation.api.openapi.extensions.add_components",
            "generation.api.openapi.extensions.add_links",
        ],
        "ENUM_SUFFIX": "",
        "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
        "ENUM_ADD_EXPLICIT_BLANK_NULL_CHOICE": False,
        "ENUM_NAME_OVERRIDES": {
            "Status": "generation.states.Status",
            "Priority": "generation.states.Priority",
            "GenerationType": "generation.states.GenerationType",
            "ErrorCode": "generation.states.ErrorCode",
            "Quality": "generation.models.model_rows.QUALITIES",
            "OpenAIQuality": "generation.api.openai.serializers.QUALITIES",
            "SystemStatus": "generation.api.openapi.schemas.HEALTH",
            "Scope": "generation.states.PauseScope",
            "KeyScope": "generation.states.Scope",
            "Check": "generation.api.openapi.schemas.CHECK",
        },
    }
