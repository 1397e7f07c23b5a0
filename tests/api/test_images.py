"""GET /image and /thumbnail: permissions, URLs and headers."""

from __future__ import annotations

import hashlib
import stat
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import default_storage
from rest_framework.test import APIClient

from generation.models import GenerationRequest
from generation.states import Status
from generation.storage import images, receipts, signed_urls
from tests.api.helpers import address, assert_error, completed, image_bytes
from tests.support.requests import in_status

KINDS = ("image", "thumbnail")
BYTES = {"image": image_bytes(), "thumbnail": image_bytes("WEBP", "silver")}
CONTENT_TYPES = {"image": "image/png", "thumbnail": "image/webp"}


def _signed(request: GenerationRequest, kind: str = "image") -> tuple[str, dict[str, str]]:
    """Return path and query of the signed URL in a status."""
    extension = images.EXTENSIONS[request.result["content_type"]] if kind == "image" else ""
    parts = urlsplit(signed_urls.signed_url(kind, request.pk, extension))
    return parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()}


# --- Permissions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_owner_gets_the_stored_bytes(api: APIClient, alice: User, kind: str) -> None:
    response = api.get(address(kind, completed(alice).pk))
    assert (response.status_code, response.content) == (200, BYTES[kind])
    assert response["Content-Type"] == CONTENT_TYPES[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_the_session_of_the_owner_is_enough(anonymous: APIClient, alice: User, charlie: User, kind: str) -> None:
    at = address(kind, completed(alice).pk)
    anonymous.force_login(charlie)
    assert anonymous.get(at).status_code == 404
    anonymous.force_login(alice)
    assert anonymous.get(at).content == BYTES[kind]
    anonymous.logout()
    assert anonymous.get(at).status_code == 401


@pytest.mark.parametrize("kind", KINDS)
def test_staff_get_the_images_of_all_users(staff: APIClient, alice: User, kind: str) -> None:
    assert staff.get(address(kind, completed(alice).pk)).content == BYTES[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [status for status in Status if status != Status.COMPLETED])
def test_a_request_without_an_image_is_not_found(api: APIClient, alice: User, kind: str, status: Status) -> None:
    assert_error(api.get(address(kind, in_status(alice, status).pk)), 404, "not_found")


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_image_is_gone_without_a_logged_traceback(api: APIClient, alice: User, kind: str) -> None:
    request = completed(alice)
    default_storage.delete(request.result[f"{kind}_key"])
    assert_error(api.get(address(kind, request.pk)), 410, "picture_gone")


# --- The signed URL ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), [("imageUrl", "image"), ("thumbnailUrl", "thumbnail")])
def test_the_url_in_a_result_works_without_a_token(
    api: APIClient, anonymous: APIClient, alice: User, name: str, kind: str
) -> None:
    shown = api.get(address("status", completed(alice).pk)).json()["result"][name]
    response = anonymous.get(shown.removeprefix("http://127.0.0.1:8000"))
    assert (response.status_code, response.content) == (200, BYTES[kind])


def test_the_signed_url_works_for_another_signed_in_user(stranger: APIClient, alice: User) -> None:
    path, query = _signed(completed(alice))
    assert stranger.get(path, query).status_code == 200


def test_the_signed_url_is_valid_for_at_least_a_day(alice: User) -> None:
    _, query = _signed(completed(alice))
    assert 24 * 3600 <= int(query["expires"]) - time.time() <= 25 * 3600 + 1


def test_an_expired_signed_url_is_rejected(anonymous: APIClient, alice: User, settings: Any) -> None:
    settings.IMAGE_URL_LIFETIME *= -1
    path, query = _signed(completed(alice))
    assert_error(anonymous.get(path, query), 401, "not_authenticated")


TAMPERED: dict[str, dict[str, str]] = {
    "later": {"expires": "99999999999"},
    "later, in other digits": {"expires": "٩٩٩٩٩٩٩٩٩٩"},
    "later, in digits that are no number": {"expires": "²"},
    "earlier": {"expires": "1"},
    "expires empty": {"expires": ""},
    "expires negative": {"expires": "-1"},
    "expires a word": {"expires": "never"},
    "expires a fraction": {"expires": "99999999999.5"},
    "expires without end": {"expires": "9" * 5_000},
    "expires NUL": {"expires": "\0"},
    "signature empty": {"signature": ""},
    "signature short": {"signature": "x"},
    "signature not ASCII": {"signature": "é🐉"},
    "signature NUL": {"signature": "\0"},
    "signature without end": {"signature": "x" * 5_000},
}


@pytest.mark.parametrize("change", TAMPERED.values(), ids=TAMPERED.keys())
@pytest.mark.parametrize("kind", KINDS)
def test_a_tampered_signed_url_is_rejected(
    anonymous: APIClient, alice: User, kind: str, change: dict[str, str]
) -> None:
    path, query = _signed(completed(alice), kind)
    assert_error(anonymous.get(path, query | change), 401, "not_authenticated")


@pytest.mark.parametrize("name", ["expires", "signature"])
def test_a_signature_without_its_expiry_or_vice_versa_is_rejected(anonymous: APIClient, alice: User, name: str) -> None:
    path, query = _signed(completed(alice))
    del query[name]
    assert_error(anonymous.get(path, query), 401, "not_authenticated")


def test_a_signature_with_one_character_changed_is_rejected(anonymous: APIClient, alice: User) -> None:
    path, query = _signed(completed(alice))
    signature = query["signature"]
    for index in (0, len(signature) // 2):
        changed = signature[:index] + ("a" if signature[index] != "a" else "b") + signature[index + 1 :]
        assert anonymous.get(path, query | {"signature": changed}).status_code == 401


def test_the_signature_of_another_request_is_rejected(anonymous: APIClient, alice: User) -> None:
    path, _ = _signed(completed(alice))
    _, query = _signed(completed(alice))
    assert_error(anonymous.get(path, query), 401, "not_authenticated")


def test_the_signature_of_a_thumbnail_does_not_open_the_image(anonymous: APIClient, alice: User) -> None:
    request = completed(alice)
    path, _ = _signed(request, "image")
    _, query = _signed(request, "thumbnail")
    assert_error(anonymous.get(path, query), 401, "not_authenticated")


def test_the_signature_does_not_open_the_status(anonymous: APIClient, alice: User) -> None:
    request = completed(alice)
    _, query = _signed(request)
    assert_error(anonymous.get(f"{address('status', request.pk)}?{urlencode(query)}"), 401, "not_authenticated")


# --- Extensions and headers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("content_type", "extension"), images.EXTENSIONS.items())
def test_an_image_has_its_content_type_and_extension(
    api: APIClient, alice: User, content_type: str, extension: str
) -> None:
    at = address("image", completed(alice, content_type=content_type).pk)
    for address_of_it in (at, f"{at}.{extension}", f"{at}.{extension}/"):
        response = api.get(address_of_it)
        assert (response.status_code, response["Content-Type"]) == (200, content_type)
    for wrong in {*images.CONTENT_TYPES, "gif", "jpg", "PNG", ""} - {extension}:
        assert_error(api.get(f"{at}.{wrong}"), 404, "not_found")


@pytest.mark.parametrize(("extension", "status"), [("", 200), (".webp", 200), (".png", 404), (".jpeg", 404)])
def test_a_thumbnail_is_a_webp(api: APIClient, alice: User, extension: str, status: int) -> None:
    assert api.get(address("thumbnail", completed(alice).pk) + extension).status_code == status


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_headers_allow_private_caching_and_deny_scripts(
    api: APIClient, alice: User, kind: str, method: str
) -> None:
    request = completed(alice)
    response = api.generic(method, address(kind, request.pk))
    assert response.status_code == 200
    assert response["Cache-Control"] == "private, max-age=31536000, immutable"
    assert response["ETag"] == f'"{hashlib.sha256(BYTES[kind]).hexdigest()}"'
    assert response["Content-Type"] == CONTENT_TYPES[kind]
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert response["X-Frame-Options"] == "DENY"
    extension = CONTENT_TYPES[kind].removeprefix("image/")
    assert response["Content-Disposition"] == f'inline; filename="{request.pk}.{extension}"'
    assert response.content == (b"" if method == "HEAD" else BYTES[kind])


# --- A proxy that sends the bytes itself ------------------------------------------------------------------------------


@pytest.fixture
def sending_proxy(settings: Any) -> None:
    settings.ACCEL_LOCATION = "/images/"


@pytest.mark.usefixtures("sending_proxy")
@pytest.mark.parametrize("kind", KINDS)
def test_the_proxy_is_told_which_file_to_send(api: APIClient, alice: User, kind: str) -> None:
    request = completed(alice)
    response = api.get(address(kind, request.pk))
    assert (response.status_code, response.content) == (200, b"")
    assert response["X-Accel-Redirect"] == f"/images/{request.result[f'{kind}_key']}"
    assert response["Content-Type"] == CONTENT_TYPES[kind]


@pytest.mark.usefixtures("sending_proxy")
def test_ranges_are_not_left_to_the_proxy(api: APIClient, alice: User) -> None:
    response = api.get(address("image", completed(alice).pk), HTTP_RANGE="bytes=2-5")
    assert (response.status_code, response.content) == (206, BYTES["image"][2:6])
    assert "X-Accel-Redirect" not in response


@pytest.mark.usefixtures("sending_proxy")
def test_a_file_that_the_proxy_may_not_read_is_sent_by_the_view(api: APIClient, alice: User) -> None:
    request = completed(alice)
    Path(default_storage.path(request.result["image_key"])).chmod(0o600)
    response = api.get(address("image", request.pk))
    assert (response.status_code, response.content) == (200, BYTES["image"])
    assert "X-Accel-Redirect" not in response


@pytest.mark.usefixtures("sending_proxy")
def test_a_missing_file_is_gone_behind_the_proxy_too(api: APIClient, alice: User) -> None:
    request = completed(alice)
    default_storage.delete(request.result["image_key"])
    assert_error(api.get(address("image", request.pk)), 410, "picture_gone")


@pytest.mark.parametrize(("location", "mode"), [("", 0o600), ("/images/", 0o644)])
def test_files_are_readable_by_the_proxy_and_receipts_are_not(settings: Any, location: str, mode: int) -> None:
    settings.ACCEL_LOCATION = location
    key = images.save("results", "ab" * 32, "image/png", BYTES["image"])
    receipts.save("vga_1", {})

    def mode_of(name: str) -> int:
        return stat.S_IMODE(Path(default_storage.path(name)).stat().st_mode)

    assert mode_of(key) == mode
    assert mode_of("receipts/vga_1.json") == 0o600


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_not_cached_like_an_image(stranger: APIClient, alice: User, kind: str) -> None:
    response = stranger.get(address(kind, completed(alice).pk))
    assert "Cache-Control" not in response
    assert "ETag" not in response
