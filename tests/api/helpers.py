"""What the tests of the API share: addresses, bodies, tokens, and what an answer must look like."""

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
#: Of the right form, and nobody's.
UNKNOWN_ID = "vga_1700000000000000_000000000000000000"
UNKNOWN_BATCH_ID = "vgb_1700000000000000_000000000000000000"
#: The endpoints of one request, and the method that each takes.
OF_ONE_REQUEST = {"status": "GET", "cancel": "DELETE", "image": "GET", "thumbnail": "GET"}


def client_for(user: User | None) -> APIClient:
    """A client that shows a crash as the 500 that it is, where Django's would raise it."""
    client = client_of(user)
    client.raise_request_exception = False
    return client


def address(endpoint: str, request_id: str) -> str:
    return f"{PREFIX}/{endpoint}/{request_id}"


def body(**more: Any) -> dict[str, Any]:
    """A body that is accepted, with these fields besides."""
    return {"type": "coloring-page", "prompt": PROMPT} | more


def batch_body(count: int, **options: Any) -> dict[str, Any]:
    """A body of so many requests that is accepted, with these ``batchOptions``."""
    return {"requests": [body(pageId=f"page_{index}") for index in range(count)], "batchOptions": options}


def answer(response: Any) -> dict[str, Any]:
    """What a call that went well was answered."""
    assert response.status_code == 200, (response.status_code, response.content[:500])
    told: dict[str, Any] = response.json()
    return told


def shown(response: Any) -> tuple[int, bytes, dict[str, str]]:
    """All that a client can see of an answer."""
    headers = dict(response.items())
    # Made up for each call; it says nothing of what was asked for.
    assert re.fullmatch(r"[0-9a-f]{32}", headers.pop("X-Request-ID"))
    return response.status_code, response.content, headers


def post_json(client: APIClient, data: Any, at: str = SUBMIT) -> Any:
    """Send the value as JSON, as Python's own encoder writes it."""
    return post_bytes(client, json.dumps(data).encode(), at=at)


def post_bytes(client: APIClient, data: bytes, content_type: str = "application/json", at: str = SUBMIT) -> Any:
    """Send these very bytes."""
    anything: Any = data  # the stubs know of strings alone
    return client.generic("POST", at, anything, content_type=content_type)


def stored_rows() -> tuple[int, int, int]:
    """How many requests, ledger rows and status changes there are."""
    return (GenerationRequest.objects.count(), GenerationQueue.objects.count(), StatusChange.objects.count())


NOTHING = (0, 0, 0)


def assert_error(response: Any, status: int, code: str | None = None) -> dict[str, Any]:
    """The answer is an error in the one shape that there is."""
    assert response.status_code == status, (response.status_code, response.content[:500])
    assert response["Content-Type"] == "application/json"
    error: dict[str, Any] = json.loads(response.content)
    assert error.keys() <= {"error", "code", "errors"}
    assert isinstance(error["error"], str)
    assert 0 < len(error["error"]) < 500
    assert re.fullmatch(r"[a-z][a-z_]*", error["code"])
    assert code in {None, error["code"]}
    assert ("errors" in error) == (error["code"] == "validation_error")
    for fault in error.get("errors", []):
        assert fault.keys() == {"path", "msg", "code"}
        assert all(isinstance(value, str) for value in fault.values())
        assert fault["msg"]
        assert re.fullmatch(r"[a-z][a-z_]*", fault["code"])
    return error


def assert_refused_field(response: Any, path: str, code: str | None = None) -> None:
    """The body was refused for the field at this path, and nothing was stored."""
    error = assert_error(response, 400, "validation_error")
    assert [fault["path"] for fault in error["errors"]] == [path], error
    assert code in {None, error["errors"][0]["code"]}, error
    assert stored_rows() == NOTHING


def token(user: User, *, key: str | None = None, algorithm: str = "HS256", **claims: Any) -> str:
    """An access token of the user with these claims put in; ``None`` leaves one out."""
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
    # Not by jwt.encode, which refuses to write the odd claims that jwt.decode might have to read.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureKeyLengthWarning)
        return jwt.PyJWS().encode(json.dumps(payload).encode(), signing_key, algorithm=algorithm)


def picture(image_format: str = "PNG", shade: str = "white") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 12), shade).save(out, image_format)
    return out.getvalue()


def completed(owner: User, *, content_type: str = "image/png", **more: Any) -> GenerationRequest:
    """A completed request whose picture and thumbnail are stored."""
    data = picture(content_type.removeprefix("image/").upper())
    thumbnail = picture("WEBP", "silver")
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
