"""Examples of the OpenAPI document: a coloring page of a friendly dragon, from the submit to the image."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings

_PREFIX: Final = f"{settings.PUBLIC_BASE_URL}/api/visual-generation"
REQUEST_ID: Final = "vga_1769158200000000_k3v9x2m7q4w8z1c5t0"
BATCH_ID: Final = "vgb_1769158200000000_p8d2f6h1j5l9n3r7s4"
UPLOAD_ID: Final = "vgu_1769158200000000_t5c1z8w4q7m2x9v3k0"
KEY_ID: Final = "k3V9x2M7"
_SECOND_ID: Final = "vga_1769158200000001_b6g0u4y8e2a7o1i5x9"
_SIGNED: Final = "expires=1769248800&signature=0rG3mZ5nJ8tYqv1cX7bKp4sLw9eHd2uAf6iVoQjRkTM"

SUBMIT: Final[dict[str, Any]] = {
    "type": "coloring-page",
    "prompt": "A friendly dragon playing in a garden",
    "priority": "normal",
    "projectId": "proj_123",
    "pageId": "page_456",
    "metadata": {"imageStyle": "cartoon", "aspectRatio": "square", "maxAttempts": 3},
}
ACCEPTED: Final = {"success": True, "requestId": REQUEST_ID, "status": "queued", "estimatedWaitTime": 12}
VARIATIONS_ACCEPTED: Final = ACCEPTED | {"requestIds": [REQUEST_ID, _SECOND_ID], "batchId": BATCH_ID}
RESULT: Final = {
    "imageUrl": f"{_PREFIX}/image/{REQUEST_ID}.png?{_SIGNED}",
    "thumbnailUrl": f"{_PREFIX}/thumbnail/{REQUEST_ID}?{_SIGNED}",
    "contentType": "image/png",
    "width": 1024,
    "height": 1024,
    "bytes": 53243,
    "sha256": "2f637e2361abb036d9c525683272e36a1ba8ef85dac74a052a3acaea5bbd67e7",
    "provider": "clipart",
    "model": "openmoji-17",
    "seed": 719019718,
    "revisedPrompt": "",
    "generationTime": 476,
    "cost": 0.0,
    "cached": False,
    "notice": None,
    "attribution": "Drawings by OpenMoji, the open-source emoji and icon project (openmoji.org), licensed CC BY-SA 4.0",
}


def _request(status: str, progress: int, sequence: int, **more: Any) -> dict[str, Any]:
    started = None if status == "queued" else "2026-01-23T08:50:00.353Z"
    ended = None if status in {"queued", "in-progress"} else "2026-01-23T08:50:00.829Z"
    return {
        "requestId": REQUEST_ID,
        "type": SUBMIT["type"],
        "prompt": SUBMIT["prompt"],
        "status": status,
        "priority": SUBMIT["priority"],
        "progress": progress,
        "sequence": sequence,
        "projectId": SUBMIT["projectId"],
        "pageId": SUBMIT["pageId"],
        "batchId": None,
        "variation": 0,
        "notBefore": None,
        "metadata": {
            **SUBMIT["metadata"],
            "requestedAt": "2026-01-23T08:50:00.000Z",
            "startedAt": started,
            "completedAt": ended,
            "attempts": 1 if started else 0,
            "maxAttempts": 3,
            "generationTime": 476 if ended else None,
        },
        "result": None,
        "error": None,
        "previewUrl": None,
        "approval": None,
        "approvalNote": None,
        "cancelReason": None,
        "references": [],
        "editOf": None,
        **more,
    }


WAITING: Final = {
    "queuePosition": 3,
    "estimatedWaitTime": 12,
    "estimate": {"startP50": 4, "startP90": 9, "doneP50": 12, "doneP90": 20, "basis": "measured"},
    "waitingFor": {"reason": "queue", "ahead": 2, "aheadMorePressing": 0, "aheadOthers": 2, "slots": 5},
    "possible": True,
}
QUEUED: Final = _request("queued", 0, 1, **WAITING)
IN_PROGRESS: Final = _request("in-progress", 50, 2)
COMPLETED: Final = _request(
    "completed", 100, 3, result={"imageData": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA"} | RESULT
)
FAILED: Final = _request(
    "failed",
    0,
    3,
    error={
        "message": "The provider's safety system refused the prompt",
        "code": "refused_input",
        "retryable": False,
        "provider": "openai",
        "stage": "input",
        "category": "violence",
    },
)
ENDED: Final = _request("completed", 100, 3, result=RESULT)
PAGE: Final = {
    "results": [ENDED],
    "next": f"{_PREFIX}/requests?cursor=cD12Z2FfMTc2OTE1ODIwMDAwMDAwMF9rM3Y5eDJtN3E0dzh6MWM1dDA%3D&limit=1",
    "previous": None,
}
DRY_RUN: Final = {
    "success": True,
    "dryRun": True,
    "cost": {"p50": 0.053, "max": 0.159},
    "model": "gpt-image-2",
    "estimate": {"startP50": 4, "startP90": 9, "doneP50": 12, "doneP90": 20, "basis": "measured"},
}
BATCH_DRY_RUN: Final = {key: value for key, value in DRY_RUN.items() if key != "model"} | {
    "cost": {"p50": 1.06, "max": 3.18},
    "models": {"gpt-image-2": 20},
}
DECISION: Final = {"approval": "approved", "note": "The wings are right"}
APPROVED: Final = ENDED | {"approval": "approved", "approvalNote": "The wings are right"}
PROVENANCE: Final = {
    "requestId": REQUEST_ID,
    "type": SUBMIT["type"],
    "prompt": SUBMIT["prompt"],
    "promptSent": f"{SUBMIT['prompt']}, coloring book style, black and white line art, clear outlines",
    "provider": RESULT["provider"],
    "model": RESULT["model"],
    "seed": RESULT["seed"],
    "references": [],
    "editOf": None,
    "sha256": RESULT["sha256"],
    "bytes": RESULT["bytes"],
    "contentType": RESULT["contentType"],
    "width": 1024,
    "height": 1024,
    "createdAt": "2026-01-23T08:50:00.000Z",
    "completedAt": "2026-01-23T08:50:00.829Z",
    "cost": 0.0,
    "digitalSourceType": "digitalCreation",
}
CANCELLED: Final = {"success": True, "message": "Request cancelled successfully"}

BATCH_SUBMIT: Final = {
    "requests": [
        {"type": "coloring-page", "prompt": "A cat playing", "projectId": "proj_123", "pageId": "page_1"},
        {"type": "coloring-page", "prompt": "A dog running", "projectId": "proj_123", "pageId": "page_2"},
    ],
    "batchOptions": {"priority": "normal", "maxConcurrent": 3},
}
BATCH_ACCEPTED: Final = {
    "success": True,
    "batchId": BATCH_ID,
    "requests": [
        {"index": 0, "requestId": REQUEST_ID, "status": "queued"},
        {"index": 1, "requestId": _SECOND_ID, "status": "queued"},
    ],
    "count": 2,
    "estimatedWaitTime": 14,
}
BATCH: Final = {
    "batchId": BATCH_ID,
    "status": "in-progress",
    "maxConcurrent": 3,
    "counts": {"queued": 0, "in-progress": 1, "completed": 1, "failed": 0, "cancelled": 0},
    "progress": 50,
    "requests": [
        _request("completed", 100, 3, batchId=BATCH_ID, result=RESULT, index=0),
        _request("in-progress", 50, 2, batchId=BATCH_ID, index=1) | {"requestId": _SECOND_ID},
    ],
    "createdAt": "2026-01-23T08:50:00.000Z",
    "completedAt": None,
}
BATCH_CANCELLED: Final = {"success": True, "message": "Batch cancelled successfully", "cancelled": 1}

NEW_KEY: Final = {
    "name": "the printer",
    "scopes": ["requests:read", "requests:write"],
    "dailyBudgetUsd": 5.0,
    "maxPriority": "normal",
}
KEY: Final = {
    "keyId": KEY_ID,
    "prefix": f"vgsk_{KEY_ID}",
    **NEW_KEY,
    "expiresAt": None,
    "rate": None,
    "maxActive": None,
    "projectIds": None,
    "models": None,
    "createdAt": "2026-01-23T08:50:00.000Z",
    "lastUsedAt": "2026-01-23T09:12:00.000Z",
    "lastUsedFrom": "192.0.2.7",
    "previousUntil": None,
}
#: No valid key: its checksum is wrong, so that no scanner of secrets finds it.
KEY_WITH_SECRET: Final = KEY | {"key": f"vgsk_{KEY_ID}_{'example' * 6}0000"}
KEYS: Final = {"results": [KEY], "next": None, "previous": None}

UPLOAD: Final = {
    "uploadId": UPLOAD_ID,
    "name": "pip.png",
    "contentType": "image/png",
    "width": 1024,
    "height": 1536,
    "bytes": 53243,
    "sha256": "2f637e2361abb036d9c525683272e36a1ba8ef85dac74a052a3acaea5bbd67e7",
    "imageUrl": f"{_PREFIX}/upload-image/{UPLOAD_ID}.png?{_SIGNED}",
    "createdAt": "2026-01-23T08:50:00.000Z",
    "expiresAt": "2026-02-22T08:50:00.000Z",
}
UPLOADS: Final = {"results": [UPLOAD], "next": None, "previous": None}
NO_FILE: Final = {
    "error": "file: No file was submitted.",
    "code": "validation_error",
    "errors": [{"path": "file", "msg": "No file was submitted.", "code": "required"}],
}

QUEUE_STATUS: Final = {
    "queueLength": 15,
    "activeRequests": 3,
    "averageWaitTime": 4.512,
    "owners": 3,
    "queuedByPriority": {"urgent": 2, "high": 5, "normal": 7, "low": 1},
    "systemStatus": "healthy",
    "oldestQueuedAt": "2026-01-23T08:49:51.204Z",
    "workers": 1,
    "capacity": 5,
    "paused": [{"scope": "type", "value": "cover", "since": "2026-01-23T08:41:07.000Z"}],
    "waitP50": {"urgent": 2, "high": 12, "normal": 25, "low": 27},
    "waitP90": {"urgent": 8, "high": 24, "normal": 45, "low": 50},
}
METRICS: Final = {
    "requestsTotal": 480,
    "requestsCompleted": 455,
    "requestsFailed": 7,
    "averageGenerationTime": 0.481,
    "queueLength": 15,
    "activeRequests": 3,
    "failureRate": 0.0146,
    "healthStatus": "healthy",
    "byDay": [
        {"date": "2026-01-23", "totalRequests": 480, "averageProcessingTime": 8.481, "failedCount": 7, "cost": 14.19}
    ],
    "backlog": {
        "urgent": {"count": 2, "oldest": "2026-01-23T08:49:59.871Z"},
        "high": {"count": 5, "oldest": "2026-01-23T08:49:58.020Z"},
        "normal": {"count": 7, "oldest": "2026-01-23T08:49:54.655Z"},
        "low": {"count": 1, "oldest": "2026-01-23T08:49:51.204Z"},
    },
}

CREDENTIALS: Final = {"username": "demo", "password": "correct horse battery staple"}
_ACCESS: Final = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ0b2tlbl90eXBlIjoiYWNjZXNzIn0.c2lnbmF0dXJl"
_REFRESH: Final = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ0b2tlbl90eXBlIjoicmVmcmVzaCJ9.c2lnbmF0dXJl"
TOKEN: Final = {"access": _ACCESS, "refresh": _REFRESH}
REFRESH: Final = {"refresh": _REFRESH}
VERIFY: Final = {"token": _ACCESS}

INVALID: Final = {
    "error": "prompt: Ensure this field has at least 10 characters.",
    "code": "validation_error",
    "errors": [
        {"path": "prompt", "msg": "Ensure this field has at least 10 characters.", "code": "min_length"},
    ],
}
NOT_JSON: Final = {
    "error": "The body is not JSON: Expecting value: line 1 column 1 (char 0)",
    "code": "parse_error",
}
READY: Final = {"status": "ok", "checks": {"database": "ok", "broker": "ok", "worker": "ok"}}
NOT_READY: Final = {"status": "unavailable", "checks": {"database": "ok", "broker": "unreachable", "worker": "ok"}}
