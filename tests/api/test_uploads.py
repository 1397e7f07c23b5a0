"""Uploaded images: what is accepted, what is stored, and who sees it."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from PIL import Image, ImageCms, PngImagePlugin
from rest_framework.test import APIClient

from generation.models import Upload
from generation.storage import images, uploads_image
from tests.api.helpers import PREFIX, UNKNOWN_UPLOAD_ID, assert_error, client_for, shown
from tests.fakes.images import bomb
from tests.support.keys import key_client
from tests.support.uploads import drawing, encoded

UPLOADS = f"{PREFIX}/uploads"
#: EXIF tags.
ORIENTATION, GPS, DESCRIPTION = 0x0112, 0x8825, 0x010E


def send(client: Client, data: bytes, *, file_name: str = "pip.png", **fields: Any) -> Any:
    form = {"file": SimpleUploadedFile(file_name, data, content_type="application/octet-stream")} | fields
    return (
        client.post(UPLOADS, form, format="multipart") if isinstance(client, APIClient) else client.post(UPLOADS, form)
    )


def uploaded(client: Client, data: bytes, **more: Any) -> dict[str, Any]:
    response = send(client, data, **more)
    assert response.status_code == 201, response.content
    upload: dict[str, Any] = response.json()
    return upload


def stored(client: Client, upload: dict[str, Any]) -> Image.Image:
    """The stored image, fetched by its signed address without a token."""
    response = client_for(None).get(upload["imageUrl"])
    assert response.status_code == 200
    assert response["Content-Type"] == upload["contentType"]
    assert hashlib.sha256(response.content).hexdigest() == upload["sha256"]
    assert len(response.content) == upload["bytes"]
    image = Image.open(io.BytesIO(response.content))
    image.load()
    return image


def files() -> list[str]:
    return [key for key, _ in images.files("uploads")]


def test_an_upload_is_stored_listed_shown_and_deleted(api: APIClient) -> None:
    response = send(api, encoded(drawing()), name="Pip")
    assert response.status_code == 201, response.content
    upload = response.json()
    assert response["Location"].endswith(f"{UPLOADS}/{upload['uploadId']}")
    assert upload | {"name": "Pip", "contentType": "image/png", "width": 80, "height": 64} == upload
    assert upload.keys() == {
        "uploadId", "name", "contentType", "width", "height", "bytes", "sha256", "imageUrl", "createdAt", "expiresAt",
    }  # fmt: skip
    assert stored(api, upload).size == (80, 64)
    at = f"{UPLOADS}/{upload['uploadId']}"
    assert api.get(at).json() == upload
    assert api.get(UPLOADS).json() == {"results": [upload], "next": None, "previous": None}
    assert api.get(f"{PREFIX}/upload-image/{upload['uploadId']}.png").status_code == 200
    assert api.delete(at).status_code == 204
    for method in ("get", "delete"):
        assert_error(getattr(api, method)(at), 404, "not_found")
    assert_error(client_for(None).get(upload["imageUrl"]), 404, "not_found")
    assert files() == []


def test_the_list_has_pages(api: APIClient) -> None:
    ids = [uploaded(api, encoded(drawing(color=color)))["uploadId"] for color in ("red", "green", "blue")]
    first = api.get(f"{UPLOADS}?limit=2").json()
    assert [row["uploadId"] for row in first["results"]] == ids[:0:-1]
    assert [row["uploadId"] for row in api.get(first["next"]).json()["results"]] == ids[:1]
    assert_error(api.get(f"{UPLOADS}?limit=0"), 400, "validation_error")
    assert_error(api.get(f"{UPLOADS}?status=queued"), 400, "validation_error")


def test_without_a_name_an_upload_has_that_of_its_file(api: APIClient) -> None:
    assert uploaded(api, encoded(drawing()), file_name="../a/pip the cat.png")["name"] == "pip the cat.png"


@pytest.mark.parametrize(("kind", "content_type"), [("JPEG", "image/jpeg"), ("WEBP", "image/png")])
def test_a_jpeg_stays_one_and_webp_becomes_png(api: APIClient, kind: str, content_type: str) -> None:
    upload = uploaded(api, encoded(drawing(), kind))
    assert upload["contentType"] == content_type
    assert stored(api, upload).format == content_type.removeprefix("image/").upper()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_no_metadata_is_stored(api: APIClient, kind: str) -> None:
    exif = Image.Exif()
    exif[DESCRIPTION] = "SECRET-description"
    exif.get_ifd(GPS)[2] = (51.0, 28.0, 38.0)
    more: dict[str, Any] = {"exif": exif, "xmp": b"<x:xmpmeta>SECRET-xmp</x:xmpmeta>"}
    if kind == "JPEG":
        more |= {"comment": b"SECRET-comment", "dpi": (72, 72)}
    if kind == "PNG":
        more["pnginfo"] = text = PngImagePlugin.PngInfo()
        text.add_text("Author", "SECRET-author")
        text.add_itxt("XML:com.adobe.xmp", "SECRET-xmp")
    data = encoded(drawing(), kind, **more) + b"SECRET-trailer"
    assert b"SECRET" in data
    upload = uploaded(api, data)
    assert b"SECRET" not in images.read(Upload.objects.get().key)
    image = stored(api, upload)
    assert not image.getexif()
    assert image.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


@pytest.mark.parametrize(("orientation", "corner"), [(1, (5, 5)), (3, (75, 59)), (6, (59, 5)), (8, (5, 75))])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_orientation_is_applied(api: APIClient, kind: str, orientation: int, corner: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    upload = uploaded(api, encoded(drawing(), kind, exif=exif))
    image = stored(api, upload)
    assert image.size == (upload["width"], upload["height"]) == ((80, 64) if orientation < 5 else (64, 80))
    pixel: Any = image.convert("RGB").getpixel(corner)
    assert pixel[0] > 240 > 40 > pixel[1]


def test_colors_of_a_profile_become_srgb(api: APIClient) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Exchange red and green: the names of the tags say which primary is which.
    swapped = lab.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")
    pixel: Any = stored(api, uploaded(api, encoded(drawing(), icc_profile=swapped))).getpixel((5, 5))
    assert pixel[1] > pixel[0]


def test_transparency_is_kept(api: APIClient) -> None:
    image = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    image.putpixel((3, 3), (0, 255, 0, 128))
    shown = stored(api, uploaded(api, encoded(image)))
    assert shown.mode == "RGBA"
    assert (shown.getpixel((3, 3)), shown.getchannel("A").getpixel((0, 0))) == ((0, 255, 0, 128), 0)


def animation(kind: str) -> bytes:
    return encoded(drawing(), kind, save_all=True, append_images=[drawing(color="blue")])


BAD: dict[str, tuple[bytes, int, str]] = {
    "text": (b"hello", 415, "unsupported_media"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "unsupported_media"),
    "gif": (encoded(drawing(), "GIF"), 415, "unsupported_media"),
    "animated PNG": (animation("PNG"), 415, "unsupported_media"),
    "animated WebP": (animation("WEBP"), 415, "unsupported_media"),
    "bomb": (bomb(), 400, "invalid_image"),
    "narrow": (encoded(drawing((63, 500))), 400, "invalid_image"),
    "cut off PNG": (encoded(drawing())[:-30], 400, "invalid_image"),
    "cut off JPEG": (encoded(drawing(), "JPEG")[:-30], 400, "invalid_image"),
    "cut off WebP": (encoded(drawing(), "WEBP")[:-30], 400, "invalid_image"),
    "damaged JPEG": (encoded(drawing(), "JPEG")[:160] + b"\xff\xd9", 400, "invalid_image"),
    "empty": (b"", 400, "validation_error"),
}


@pytest.mark.parametrize(("data", "status", "code"), BAD.values(), ids=BAD.keys())
def test_a_bad_file_is_rejected(api: APIClient, data: bytes, status: int, code: str) -> None:
    assert_error(send(api, data), status, code)
    assert (Upload.objects.count(), files()) == (0, [])


@pytest.mark.parametrize("size", [uploads_image.MAX_BYTES + 1, 30 * 1024 * 1024])
def test_a_file_that_is_too_large_is_rejected(api: APIClient, size: int) -> None:
    assert_error(send(api, b"\x89PNG\r\n\x1a\n" + bytes(size - 8)), 413, "too_large")
    assert Upload.objects.count() == 0


def test_a_session_has_the_same_bounds_and_needs_the_csrf_token(alice: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    headers = {"X-CSRFToken": client.get("/").cookies["csrftoken"].value}
    for data, status in ((bytes(uploads_image.MAX_BYTES + 1), 413), (encoded(drawing()), 201)):
        forms = [{"file": SimpleUploadedFile("a.png", data)} for _ in range(2)]
        assert client.post(UPLOADS, forms[0]).status_code in {403, 413}
        assert Upload.objects.count() == 0
        assert client.post(UPLOADS, forms[1], headers=headers).status_code == status


FORMS: dict[str, dict[str, Any]] = {
    "no file": {"name": "Pip"},
    "text instead of a file": {"file": "text"},
    "two files": {"file": [SimpleUploadedFile("a.png", b"a"), SimpleUploadedFile("b.png", b"b")]},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_a_form_without_one_file_is_rejected(api: APIClient, form: dict[str, Any]) -> None:
    error = assert_error(api.post(UPLOADS, form, format="multipart"), 400, "validation_error")
    assert [fault["path"] for fault in error["errors"]] == ["file"]


@pytest.mark.parametrize("name", ["n" * 256, "a\0b"])
def test_a_bad_name_is_rejected(api: APIClient, name: str) -> None:
    error = assert_error(send(api, encoded(drawing()), name=name), 400, "validation_error")
    assert [fault["path"] for fault in error["errors"]] == ["name"]


@pytest.mark.parametrize(
    ("data", "content_type", "status"),
    [
        (b"{}", "application/json", 415),
        (b"x", "multipart/form-data", 400),
        (b"x", "multipart/form-data; boundary=", 400),
        (b"x", "multipart/form-data; boundary=abc", 400),
        (b"--abc\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n" * 1100 + b"--abc--",
         "multipart/form-data; boundary=abc", 400),
        (b"", "application/json", 400),
    ],
)  # fmt: skip
def test_what_is_no_form_is_rejected(api: APIClient, data: bytes, content_type: str, status: int) -> None:
    anything: Any = data
    assert_error(api.generic("POST", UPLOADS, anything, content_type=content_type), status)


def test_the_same_image_again_is_the_first_upload(api: APIClient, stranger: APIClient) -> None:
    first = uploaded(api, encoded(drawing()), name="Pip")
    Upload.objects.update(last_used_at="2026-01-01T00:00:00Z")
    response = send(api, encoded(drawing()), name="Pop")
    assert response.status_code == 200
    again = response.json()
    assert again == first | {"expiresAt": again["expiresAt"]}
    assert again["expiresAt"] > first["expiresAt"]
    # Another owner's is another upload with a file of its own.
    theirs = uploaded(stranger, encoded(drawing()))
    assert theirs["sha256"] == first["sha256"]
    assert stranger.delete(f"{UPLOADS}/{theirs['uploadId']}").status_code == 204
    assert stored(api, first).size == (80, 64)


@pytest.mark.django_db(transaction=True)
def test_the_same_image_at_once_is_one_upload(alice: User) -> None:
    data = encoded(drawing())

    def once(_: int) -> Any:
        try:
            return send(client_for(alice), data)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        responses = list(threads.map(once, range(4)))
    assert sorted(response.status_code for response in responses) == [200, 200, 200, 201]
    assert len({response.json()["uploadId"] for response in responses}) == 1
    assert len(files()) == Upload.objects.count() == 1


def test_the_quota_is_a_limit_for_each_owner(api: APIClient, stranger: APIClient, settings: Any) -> None:
    noise = [Image.frombytes("RGB", (500, 500), os.urandom(750_000)) for _ in range(2)]
    settings.UPLOAD_QUOTA_MB = 1
    first = uploaded(api, encoded(noise[0]))
    assert_error(send(api, encoded(noise[1])), 409, "upload_quota")
    assert send(api, encoded(noise[0])).status_code == 200
    assert len(files()) == 1
    uploaded(stranger, encoded(noise[1]))
    api.delete(f"{UPLOADS}/{first['uploadId']}")
    uploaded(api, encoded(noise[1]))


def test_an_upload_counts_as_a_submit(api: APIClient, settings: Any) -> None:
    settings.SUBMIT_RATE = "1/m"
    uploaded(api, encoded(drawing()))
    assert_error(send(api, encoded(drawing(color="blue"))), 429, "rate_limited")


def test_another_users_upload_is_unknown(api: APIClient, stranger: APIClient, staff: APIClient) -> None:
    upload = uploaded(api, encoded(drawing()))
    for client in (stranger, staff):
        for path in ("uploads/{}", "upload-image/{}", "upload-image/{}.png"):
            for method in ("GET", "DELETE"):
                theirs, never = (
                    shown(client.generic(method, f"{PREFIX}/{path.format(one)}"))
                    for one in (upload["uploadId"], UNKNOWN_UPLOAD_ID)
                )
                assert theirs == never
                assert theirs[0] in {404, 405}
        assert client.get(UPLOADS).json()["results"] == []
    assert api.get(f"{UPLOADS}/{upload['uploadId']}").status_code == 200


def test_a_signature_opens_one_upload(api: APIClient) -> None:
    first, second = (uploaded(api, encoded(drawing(color=color))) for color in ("red", "blue"))
    crossed = first["imageUrl"].replace(first["uploadId"], second["uploadId"])
    for url in (crossed, first["imageUrl"][:-1], first["imageUrl"].replace("upload-image", "image")):
        assert client_for(None).get(url).status_code == 401


def test_a_key_needs_the_scope_of_uploads(alice: User) -> None:
    having, without = key_client(alice, scopes=["uploads"]), key_client(alice, scopes=["requests:read"])
    upload = uploaded(having, encoded(drawing()))
    at = f"{UPLOADS}/{upload['uploadId']}"
    calls = [
        ("GET", UPLOADS),
        ("POST", UPLOADS),
        ("GET", at),
        ("DELETE", at),
        ("GET", at.replace("uploads", "upload-image")),
    ]
    for method, path in calls:
        refused = assert_error(without.generic(method, path), 403, "scope_missing")
        assert refused["required"] == "uploads"
    assert [having.get(path).status_code for method, path in calls if method == "GET"] == [200] * 3


def test_a_decoder_that_crashes_or_hangs_rejects_the_image(api: APIClient, monkeypatch: Any, tmp_path: Path) -> None:
    package = tmp_path / "generation" / "storage"
    package.mkdir(parents=True)
    monkeypatch.setattr(uploads_image, "_ROOT", tmp_path)
    monkeypatch.setattr(uploads_image, "_SECONDS", 1.0)
    for program in ("import os; os.abort()", "while True: pass", "bytearray(1 << 62)"):
        (package / "uploads_cleaner.py").write_text(program)
        assert_error(send(api, encoded(drawing())), 400, "invalid_image")


def test_a_killed_decoder_and_a_full_disk_are_told_as_such(api: APIClient, monkeypatch: Any, tmp_path: Path) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(images, "save_as", full)
        response = send(api, encoded(drawing()))
        assert_error(response, 503, "unavailable")
        assert response["Retry-After"] == "10"
    package = tmp_path / "generation" / "storage"
    package.mkdir(parents=True)
    (package / "uploads_cleaner.py").write_text("import os; os.kill(os.getpid(), 9)")
    monkeypatch.setattr(uploads_image, "_ROOT", tmp_path)
    assert_error(send(api, encoded(drawing())), 503, "unavailable")
    assert (Upload.objects.count(), files()) == (0, [])


def test_an_upload_waits_for_its_turn_only_so_long(api: APIClient, monkeypatch: Any) -> None:
    monkeypatch.setattr(uploads_image, "_slots", threading.BoundedSemaphore(1))
    monkeypatch.setattr(uploads_image, "_MAX_WAIT", 0.05)
    with uploads_image._slots:
        assert_error(send(api, encoded(drawing())), 503, "unavailable")
    uploaded(api, encoded(drawing()))


def test_the_decoder_gets_no_secret(monkeypatch: Any, tmp_path: Path, api: APIClient) -> None:
    package = tmp_path / "generation" / "storage"
    package.mkdir(parents=True)
    seen = tmp_path / "seen"
    (package / "uploads_cleaner.py").write_text(f"import os; open({str(seen)!r}, 'w').write(str(dict(os.environ)))")
    monkeypatch.setattr(uploads_image, "_ROOT", tmp_path)
    monkeypatch.setenv("SECRET_KEY", "a secret")
    send(api, encoded(drawing()))
    assert "SECRET" not in seen.read_text()


def test_no_temporary_file_stays(api: APIClient, monkeypatch: Any, tmp_path: Path) -> None:
    (folder := tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    uploaded(api, encoded(drawing()))
    send(api, b"text")
    send(api, bytes(uploads_image.MAX_BYTES + 1))
    assert list(folder.iterdir()) == []
