"""Shared helpers of the API tests: URLs, bodies, tokens, and assertions about responses."""

from __future__ import annotations

import hashlib
import io
import json
import re
import time
import uuid
import warnings
from typing import Any

import jwt
from django.conf import settings
from django.contrib.auth.models import User
from jwt.warnings import InsecureKeyLengthWarning
from PIL import Image
from rest_framework.test import APIClient
from rest_framework_simplejwt.utils import get_md5_hash_password

from generation.models import GenerationQueue, GenerationRequest, StatusChange
from generation.requests import lifecycle
from generation.storage import images
from tests.conftest import client_of
from tests.support.requests import PROMPT, RESULT, claimed

PREFIX = "/api/visual-generation"
SUBMIT = f"{PREFIX}/submit"
BATCH = f"{PREFIX}/batch"
REQUESTS = f"{PREFIX}/requests"
#: Well-formed ids that do not exist.
UNKNOWN_ID = "vga_1700000000000000_000000000000000000"
UNKNOWN_BATCH_ID = "vgb_1700000000000000_000000000000000000"
UNKNOWN_UPLOAD_ID = "vgu_1700000000000000_000000000000000000"
#: The endpoints of one request, and their methods.
OF_ONE_REQUEST = {"status": "GET", "cancel": "DELETE", "image": "GET", "thumbnail": "GET"}


def client_for(user: User | None) -> APIClient:
    """Return a client that returns a crash as a 500, where Django's would raise it."""
    client = client_of(user)
    client.raise_request_exception = False
    return client


def address(endpoint: str, request_id: str) -> str:
    return f"{PREFIX}/{endpoint}/{request_id}"


def body(**more: Any) -> dict[str, Any]:
    """Return a valid body with these additional fields."""
    return {"type": "coloring-page", "prompt": PROMPT} | more


def batch_body(count: int, **options: Any) -> dict[str, Any]:
    """Return a valid body of ``count`` requests with these ``batchOptions``."""
    return {"requests": [body(pageId=f"page_{index}") for index in range(count)], "batchOptions": options}


def answer(response: Any) -> dict[str, Any]:
    """Return the JSON of a successful response."""
    assert response.status_code == 200, (response.status_code, response.content[:500])
    data: dict[str, Any] = response.json()
    return data


def shown(response: Any) -> tuple[int, bytes, dict[str, str]]:
    """Return all parts of a response that a client can see."""
    headers = dict(response.items())
    # Random for each call, so it does not depend on the data.
    assert re.fullmatch(r"[0-9a-f]{32}", headers.pop("X-Request-ID"))
    return response.status_code, response.content, headers


def post_json(client: APIClient, data: Any, at: str = SUBMIT) -> Any:
    """Send the value as JSON, encoded by Python's json module."""
    return post_bytes(client, json.dumps(data).encode(), at=at)


def post_bytes(client: APIClient, data: bytes, content_type: str = "application/json", at: str = SUBMIT) -> Any:
    """Send these bytes unchanged."""
    anything: Any = data  # the stubs accept only strings
    return client.generic("POST", at, anything, content_type=content_type)


def stored_rows() -> tuple[int, int, int]:
    """Return the numbers of requests, queue rows and status changes."""
    return (GenerationRequest.objects.count(), GenerationQueue.objects.count(), StatusChange.objects.count())


NOTHING = (0, 0, 0)


def assert_error(response: Any, status: int, code: str | None = None) -> dict[str, Any]:
    """Assert that the response is an error in the format of the API, and return it."""
    assert response.status_code == status, (response.status_code, response.content[:500])
    assert response["Content-Type"] == "application/json"
    error: dict[str, Any] = json.loads(response.content)
    assert error.keys() <= {"error", "code", "errors", "required"}
    assert isinstance(error["error"], str)
    assert 0 < len(error["error"]) < 500
    assert re.fullmatch(r"[a-z][a-z_]*", error["code"])
    assert code in {None, error["code"]}
    assert ("errors" in error) == (error["code"] in {"validation_error", "not_allowed"})
    for fault in error.get("errors", []):
        assert fault.keys() == {"path", "msg", "code"}
        assert all(isinstance(value, str) for value in fault.values())
        assert fault["msg"]
        assert re.fullmatch(r"[a-z][a-z_]*", fault["code"])
    return error


def assert_refused_field(response: Any, path: str, code: str | None = None) -> None:
    """Assert that the body was rejected for the field at this path, and that nothing was stored."""
    error = assert_error(response, 400, "validation_error")
    assert [fault["path"] for fault in error["errors"]] == [path], error
    assert code in {None, error["errors"][0]["code"]}, error
    assert stored_rows() == NOTHING


def token(user: User, *, key: str | None = None, algorithm: str = "HS256", **claims: Any) -> str:
    """Return an access token of the user with these claims replaced; ``None`` omits a claim."""
    now = int(time.time())
    payload: dict[str, Any] = {
        "token_type": "access",
        "exp": now + 300,
        "iat": now,
        "jti": uuid.uuid4().hex,
        "user_id": str(user.pk),
        "hash_password": get_md5_hash_password(user.password),
        "iss": "visual-generation",
        "aud": "visual-generation",
    }
    payload = {name: value for name, value in (payload | claims).items() if value is not None}
    signing_key = settings.JWT_SECRET if key is None else key
    # Not jwt.encode(), which rejects the odd claims that jwt.decode() may receive.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureKeyLengthWarning)
        return jwt.PyJWS().encode(json.dumps(payload).encode(), signing_key, algorithm=algorithm)


def image_bytes(image_format: str = "PNG", shade: str = "white") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 12), shade).save(out, image_format)
    return out.getvalue()


def completed(owner: User, *, content_type: str = "image/png", **more: Any) -> GenerationRequest:
    """Return a completed request with stored image and thumbnail."""
    data = image_bytes(content_type.removeprefix("image/").upper())
    thumbnail = image_bytes("WEBP", "silver")
    sha256 = hashlib.sha256(data).hexdigest()
    claim = claimed(owner, **more)
    result = RESULT | {
        "image_key": images.save("results", sha256, content_type, data),
        "thumbnail_key": images.save("thumbnails", hashlib.sha256(thumbnail).hexdigest(), "image/webp", thumbnail),
        "content_type": content_type,
        "width": 16,
        "height": 12,
        "bytes": len(data),
        "sha256": sha256,
    }
    assert lifecycle.complete(claim, result=result, model="openmoji-17")
    claim.request.refresh_from_db()
    return claim.request
