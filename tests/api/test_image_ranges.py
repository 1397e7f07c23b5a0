"""Conditional and range requests for images."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import default_storage
from rest_framework.test import APIClient

from tests.api.helpers import address, assert_error, completed, image_bytes

KINDS = ("image", "thumbnail")
BYTES = {"image": image_bytes(), "thumbnail": image_bytes("WEBP", "silver")}
PNG = BYTES["image"]
SIZE = len(PNG)


@pytest.fixture
def at(alice: User) -> str:
    """The path of an image."""
    return address("image", completed(alice).pk)


# --- ETags ------------------------------------------------------------------------------------------------------------

MATCHING = ["{etag}", "W/{etag}", "*", '"other", {etag}', '"other",W/{etag} , "third"', ' {etag}  , "other"']
OTHERS = ['"other"', 'W/"other"', "{bare}", "", '""', '"{bare}', "'{bare}'", "é", "{etag}x"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("sent", MATCHING)
def test_an_image_with_a_matching_etag_is_not_sent(
    api: APIClient, alice: User, kind: str, method: str, sent: str
) -> None:
    path = address(kind, completed(alice).pk)
    whole = api.get(path)
    response = api.generic(method, path, HTTP_IF_NONE_MATCH=sent.format(etag=whole["ETag"]))
    assert (response.status_code, response.content) == (304, b"")
    for name in ("ETag", "Cache-Control", "Content-Security-Policy", "X-Content-Type-Options"):
        assert response[name] == whole[name]


@pytest.mark.parametrize("sent", OTHERS)
def test_an_image_with_another_etag_is_sent(api: APIClient, at: str, sent: str) -> None:
    etag = api.get(at)["ETag"]
    response = api.get(at, HTTP_IF_NONE_MATCH=sent.format(etag=etag, bare=etag.strip('"')))
    assert (response.status_code, response.content) == (200, PNG)


def test_a_matching_etag_reveals_nothing_to_other_users(
    api: APIClient, stranger: APIClient, anonymous: APIClient, at: str
) -> None:
    etag = api.get(at)["ETag"]
    for sent in (etag, "*"):
        assert_error(stranger.get(at, HTTP_IF_NONE_MATCH=sent), 404)
        assert_error(anonymous.get(at, HTTP_IF_NONE_MATCH=sent), 401)


# --- Ranges -----------------------------------------------------------------------------------------------------------

PARTS = {
    "bytes=0-0": (0, 0),
    "bytes=0-9": (0, 9),
    "bytes=5-20": (5, 20),
    "bytes=10-": (10, SIZE - 1),
    "bytes=0-": (0, SIZE - 1),
    f"bytes=0-{SIZE - 1}": (0, SIZE - 1),
    f"bytes=0-{SIZE}": (0, SIZE - 1),
    "bytes=3-999999999999": (3, SIZE - 1),
    f"bytes={SIZE - 1}-": (SIZE - 1, SIZE - 1),
    "bytes=-1": (SIZE - 1, SIZE - 1),
    "bytes=-10": (SIZE - 10, SIZE - 1),
    f"bytes=-{SIZE}": (0, SIZE - 1),
    "bytes=-999999999999": (0, SIZE - 1),
    " bytes=0-9 ": (0, 9),
}
BEYOND = [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE}", f"bytes={SIZE + 5}-{SIZE + 9}", "bytes=999999999999-", "bytes=-0"]
#: Malformed or several ranges, for which a server may send all bytes.
WHOLE = [
    *("bytes=0-1,5-6", "bytes=0-1, -1", "bytes=", "bytes=-", "bytes=x-y", "bytes=9-5", "bytes=--5", "bytes=1.5-2"),
    *("0-5", "lines=0-5", "bytes 0-5", "bytes=٠-٥", "bytes=0-5;", "", "bytes=" + "9" * 5_000 + "-", "bytes=+1-5"),
]


@pytest.mark.parametrize("wanted", PARTS)
def test_a_range_is_sent_as_partial_content(api: APIClient, at: str, wanted: str) -> None:
    first, last = PARTS[wanted]
    response = api.get(at, HTTP_RANGE=wanted)
    assert (response.status_code, response.content) == (206, PNG[first : last + 1])
    assert response["Content-Range"] == f"bytes {first}-{last}/{SIZE}"
    assert response["Content-Length"] == str(last + 1 - first)
    assert (response["Content-Type"], response["Accept-Ranges"]) == ("image/png", "bytes")
    assert response["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert response["ETag"] == api.get(at)["ETag"]


@pytest.mark.parametrize("wanted", BEYOND)
def test_a_range_beyond_the_end_is_rejected_with_the_size(api: APIClient, at: str, wanted: str) -> None:
    response = api.get(at, HTTP_RANGE=wanted)
    assert_error(response, 416, "range_not_satisfiable")
    assert response["Content-Range"] == f"bytes */{SIZE}"
    assert "Cache-Control" not in response
    assert "ETag" not in response


@pytest.mark.parametrize("wanted", WHOLE)
def test_anything_but_a_single_range_gets_all_bytes(api: APIClient, at: str, wanted: str) -> None:
    response = api.get(at, HTTP_RANGE=wanted)
    assert (response.status_code, response.content) == (200, PNG)
    assert "Content-Range" not in response


def test_the_ranges_of_a_thumbnail_make_up_all_bytes(api: APIClient, alice: User) -> None:
    path = address("thumbnail", completed(alice).pk)
    assert (
        api.get(path, HTTP_RANGE="bytes=0-19").content + api.get(path, HTTP_RANGE="bytes=20-").content
        == (BYTES["thumbnail"])
    )


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ("{etag}", 206),
        ('"other"', 200),
        ("W/{etag}", 200),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 200),
        ("", 200),
        ("*", 200),
    ],
)
def test_if_range_with_another_etag_gets_all_bytes(api: APIClient, at: str, condition: str, status: int) -> None:
    etag = api.get(at)["ETag"]
    response = api.get(at, HTTP_RANGE="bytes=0-4", HTTP_IF_RANGE=condition.format(etag=etag))
    assert (response.status_code, len(response.content)) == (status, 5 if status == 206 else SIZE)


def test_if_range_with_another_etag_ignores_an_invalid_range(api: APIClient, at: str) -> None:
    assert api.get(at, HTTP_RANGE=f"bytes={SIZE}-", HTTP_IF_RANGE='"other"').status_code == 200


def test_if_none_match_is_checked_before_the_range(api: APIClient, at: str) -> None:
    etag = api.get(at)["ETag"]
    assert api.get(at, HTTP_RANGE="bytes=0-4", HTTP_IF_NONE_MATCH=etag).status_code == 304
    assert api.get(at, HTTP_RANGE="bytes=0-4", HTTP_IF_NONE_MATCH='"other"').status_code == 206


@pytest.mark.parametrize("wanted", ["bytes=0-9", f"bytes={SIZE}-", "bytes=x"])
def test_head_describes_all_bytes(api: APIClient, at: str, wanted: str) -> None:
    response = api.head(at, HTTP_RANGE=wanted)
    assert (response.status_code, response.content) == (200, b"")
    assert (response["Content-Length"], response["Accept-Ranges"]) == (str(SIZE), "bytes")


def test_a_range_of_a_missing_image_is_gone_without_a_logged_traceback(api: APIClient, alice: User) -> None:
    request = completed(alice)
    default_storage.delete(request.result["image_key"])
    assert_error(api.get(address("image", request.pk), HTTP_RANGE="bytes=0-4"), 410, "picture_gone")
