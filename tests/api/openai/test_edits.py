"""Edits by the official Python SDK and without one."""

from __future__ import annotations

import base64
import io
import os
import socket
from typing import Any

import httpx2
import pytest
from PIL import Image

from tests.api.openai.conftest import PROMPT, OpenAIStack


def png(shade: Any, *, size: tuple[int, int] = (96, 64), mode: str = "RGB", kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, shade).save(out, kind)
    return out.getvalue()


def mask(size: tuple[int, int] = (96, 64)) -> bytes:
    return png((0, 0, 0, 0), size=size, mode="RGBA")


def data_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def sent(vendor: OpenAIStack) -> list[dict[str, Any]]:
    [call] = vendor.fake.journal()
    images: list[dict[str, Any]] = call.options["images"]
    return images


def uploads(vendor: OpenAIStack) -> list[dict[str, Any]]:
    return vendor.database.rows("SELECT * FROM generation_uploads ORDER BY id")


@pytest.fixture(autouse=True)
def _no_uploads(vendor: OpenAIStack) -> None:
    vendor.database.execute("UPDATE generation_references SET upload_id = NULL")
    vendor.database.execute("DELETE FROM generation_uploads")


def refused(answer: httpx2.Response) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


def edit(vendor: OpenAIStack, *files: tuple[str, Any], **fields: Any) -> httpx2.Response:
    return vendor.raw.post("/images/edits", data={"prompt": PROMPT} | fields, files=list(files))


# --- What works -------------------------------------------------------------------------------------------------------


def test_one_image_is_sent_with_the_prompt_as_it_is(vendor: OpenAIStack) -> None:
    answer = vendor.sdk().images.edit(
        image=png("red"), prompt=PROMPT, model="gpt-image-2", size="1536x1024", quality="low"
    )
    assert answer.data
    assert answer.data[0].b64_json
    [image] = sent(vendor)
    assert (image["width"], image["height"], image["content_type"]) == (96, 64, "image/png")
    [call] = vendor.fake.journal()
    assert call.prompt == PROMPT
    assert (call.options["quality"], call.options["size"]) == ("low", "1536x1024")
    [upload] = uploads(vendor)
    assert upload["is_temporary"]
    assert answer.usage
    assert answer.usage.input_tokens_details.image_tokens == 1000


def test_several_images_keep_their_order(vendor: OpenAIStack) -> None:
    given = [("a.png", png("red")), ("b.jpg", png("green", kind="JPEG")), ("c.webp", png("blue", kind="WEBP"))]
    vendor.sdk().images.edit(image=given, prompt=PROMPT)
    assert [image["content_type"] for image in sent(vendor)] == ["image/png", "image/jpeg", "image/png"]
    assert len(uploads(vendor)) == 3
    [row] = vendor.new_requests()
    assert [one["role"] for one in row["inputs"]["images"]] == ["character"] * 3


def test_a_mask_makes_the_first_image_the_one_that_is_changed(vendor: OpenAIStack) -> None:
    vendor.sdk().images.edit(image=[png("red"), png("blue")], mask=mask(), prompt=PROMPT)
    assert [image["field"] for image in sent(vendor)] == ["image", "image", "mask"]
    [row] = vendor.new_requests()
    assert [one["role"] for one in row["inputs"]["images"]] == ["source", "character", "mask"]
    assert row["inputs"]["maskMode"] == "hint"


def test_a_stream_tells_of_an_edit(vendor: OpenAIStack) -> None:
    stream = vendor.sdk().images.edit(image=png("red"), prompt=PROMPT, stream=True, partial_images=2)
    kinds = [event.type for event in stream]
    assert kinds[-1] == "image_edit.completed"
    assert set(kinds[:-1]) <= {"image_edit.partial_image"}


def test_the_extra_object_of_a_form_is_read_as_json_is(vendor: OpenAIStack) -> None:
    extra = {"vga": {"type": "cover", "priority": "high", "projectId": "007", "metadata": {"title": "12"}}}
    vendor.sdk().images.edit(image=png("red"), prompt=PROMPT, n=2, extra_body=extra)
    rows = vendor.new_requests()
    assert [(row["type"], row["priority"], row["project_id"]) for row in rows] == [("cover", "high", "007")] * 2
    assert {row["metadata"]["title"] for row in rows} == {"12"}
    assert all("Image 1 shows the character" in call.prompt for call in vendor.fake.journal())


def test_references_below_the_extra_object_follow_the_files(vendor: OpenAIStack) -> None:
    vendor.sdk().images.generate(prompt=PROMPT)
    [sheet] = vendor.new_requests()
    vendor.fake.reset()
    references = [{"requestId": sheet["id"], "name": "Pip", "role": "style"}]
    vendor.sdk().images.edit(image=png("red"), prompt=PROMPT, extra_body={"vga": {"references": references}})
    assert len(sent(vendor)) == 2
    assert sent(vendor)[1]["sha256"] == sheet["result"]["sha256"]
    vendor.fake.reset()
    vendor.sdk().images.generate(prompt=PROMPT, extra_body={"vga": {"references": references}})
    assert [image["sha256"] for image in sent(vendor)] == [sheet["result"]["sha256"]]


def test_json_names_images_by_data_url_or_upload(vendor: OpenAIStack) -> None:
    body: dict[str, Any] = {"prompt": PROMPT, "images": [{"image_url": data_url(png("red"))}]}
    vendor.raw.post("/images/edits", json=body).raise_for_status()
    [upload] = uploads(vendor)
    vendor.fake.reset()
    body = {"prompt": PROMPT, "images": [{"file_id": upload["id"]}], "mask": {"image_url": data_url(mask())}}
    vendor.raw.post("/images/edits", json=body).raise_for_status()
    assert [image["field"] for image in sent(vendor)] == ["image", "mask"]
    assert sent(vendor)[0]["sha256"] == upload["sha256"]


def test_a_large_image_is_taken(vendor: OpenAIStack) -> None:
    large = Image.frombytes("RGB", (1600, 1200), os.urandom(1600 * 1200 * 3))
    out = io.BytesIO()
    large.save(out, "PNG")
    assert edit(vendor, ("image", ("large.png", out.getvalue(), "image/png"))).status_code == 200
    [image] = sent(vendor)
    assert (image["width"], image["content_type"]) == (1600, "image/jpeg")  # scaled down in bytes


def test_an_upload_of_its_own_is_not_made_temporary(vendor: OpenAIStack) -> None:
    with vendor.stack.client() as alice:
        kept = alice.post("/uploads", files={"file": ("pip.png", png("red"), "image/png")}).raise_for_status().json()
    vendor.sdk().images.edit(image=png("red"), prompt=PROMPT)
    [upload] = uploads(vendor)
    assert (upload["id"], upload["is_temporary"]) == (kept["uploadId"], False)


# --- Sent again -------------------------------------------------------------------------------------------------------


def test_a_repeated_edit_joins_the_first(vendor: OpenAIStack) -> None:
    files = [("image", ("a.png", png("red"), "image/png")), ("mask", ("mask.png", mask(), "image/png"))]
    first = edit(vendor, *files)
    again = vendor.raw.post(
        "/images/edits", data={"prompt": PROMPT}, files=files, headers={"x-stainless-retry-count": "1"}
    )
    assert first.json()["data"] == again.json()["data"]
    assert first.request.headers["content-type"] != again.request.headers["content-type"]
    assert (vendor.calls, len(vendor.new_requests())) == (1, 1)


def test_another_image_is_another_call(vendor: OpenAIStack) -> None:
    for shade in ("red", "blue"):
        answer = vendor.raw.post(
            "/images/edits",
            data={"prompt": PROMPT},
            files=[("image", ("a.png", png(shade), "image/png"))],
            headers={"x-stainless-retry-count": "1"},
        )
        assert answer.status_code == 200
    assert vendor.calls == 2


# --- Refused ----------------------------------------------------------------------------------------------------------


def test_what_is_no_image_is_refused_before_it_is_sent(vendor: OpenAIStack) -> None:
    text = ("image", ("a.png", b"no image at all", "image/png"))
    assert refused(edit(vendor, text)) == (400, "unsupported_media", "image")
    broken = ("image[]", ("a.png", png("red")[:-30], "image/png"))
    assert refused(edit(vendor, broken)) == (400, "invalid_image", "image")
    assert (vendor.calls, uploads(vendor)) == (0, [])


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({}, (400, "invalid", "images")),
        ({"images": []}, (400, "required", "image")),
        ({"images": [{"image_url": "https://example.com/a.png"}]}, (400, "unsupported", "image")),
        ({"images": [{"image_url": "data:image/png;base64,%%%"}]}, (400, "invalid", "image")),
        ({"images": [{"file_id": "file-123"}]}, (400, "not_found", "image")),
        ({"images": [{"file_id": "vgu_1700000000000000_000000000000000000"}]}, (400, "not_found", "image")),
        (
            {"images": [{"file_id": "vgu_1700000000000000_000000000000000000"}] * 17},
            (400, "too_many_references", "images"),
        ),
        ({"images": [{}]}, (400, "exactly_one", "image")),
        ({"images": ["a"]}, (400, "exactly_one", "image")),
    ],
)
def test_bad_images_in_json_are_named(vendor: OpenAIStack, body: Any, error: Any) -> None:
    assert refused(vendor.raw.post("/images/edits", json={"prompt": PROMPT} | body)) == error
    assert vendor.calls == 0


def test_bad_forms_are_named(vendor: OpenAIStack) -> None:
    image = ("image", ("a.png", png("red"), "image/png"))
    assert refused(edit(vendor))[1:] == ("unsupported_media_type", None)
    assert refused(edit(vendor, ("drawing", image[1])))[1:] == ("unknown", "drawing")
    assert refused(edit(vendor, image, ("mask", image[1]), ("mask", image[1])))[1:] == ("invalid", "mask")
    assert refused(edit(vendor, *[image] * 17))[1:] == ("too_many_references", "image")
    assert refused(edit(vendor, image, n="many"))[1:] == ("invalid", "n")
    assert refused(edit(vendor, image, **{"vga[metadata][a][b][c][d][e]": "1"}))[1:] == ("max_depth", "vga")
    assert refused(edit(vendor, image, **{"vga[references][7][requestId]": "x"}))[1:] == ("invalid", "vga")
    mixed = {"vga[references][]": "x", "vga[references][0][a][b]": "y"}
    assert refused(edit(vendor, image, **mixed))[1:] == ("invalid", "vga")
    wrong = ("mask", ("mask.png", mask((64, 64)), "image/png"))
    assert refused(edit(vendor, image, wrong)) == (400, "mask_size", "mask")
    assert vendor.calls == 0


def test_a_file_or_a_body_that_is_too_large_is_refused(vendor: OpenAIStack) -> None:
    noise = os.urandom(21 * 1024 * 1024)
    assert refused(edit(vendor, ("image", ("a.png", noise, "image/png"))))[:2] == (413, "too_large")
    many = [("image[]", ("a.png", noise[: 17 * 1024 * 1024], "image/png"))] * 4
    assert refused(edit(vendor, *many))[:2] == (413, "body_too_large")
    assert (vendor.calls, uploads(vendor)) == (0, [])


def test_without_a_key_no_image_is_stored(vendor: OpenAIStack) -> None:
    answer = vendor.raw.post(
        "/images/edits",
        data={"prompt": PROMPT},
        files={"image": ("a.png", png("red"), "image/png")},
        headers={"authorization": "Bearer sk-vga-unknown"},
    )
    assert refused(answer)[:2] == (401, "invalid_api_key")
    assert uploads(vendor) == []


def test_the_web_process_answers_without_reading_the_images(vendor: OpenAIStack) -> None:
    with httpx2.Client(headers={"Authorization": f"Bearer {vendor.key}"}, timeout=30) as web:
        url = f"http://127.0.0.1:{vendor.stack.port}/v1/images/edits"
        answer = web.post(url, data={"prompt": PROMPT}, files={"image": ("a.png", png("red"), "image/png")})
    assert refused(answer)[:2] == (404, "not_served_here")


@pytest.mark.parametrize("authorization", ["", "Authorization: Bearer vgsk_unknown\r\n"])
@pytest.mark.parametrize("path", ["/v1/images/edits", "/api/visual-generation/uploads"])
def test_of_a_stranger_no_body_is_read(vendor: OpenAIStack, path: str, authorization: str) -> None:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{vendor.stack.realtime_port}\r\n{authorization}"
        "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 60000000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", vendor.stack.realtime_port), timeout=10) as connection:
        connection.sendall(head.encode())
        assert connection.recv(12) == b"HTTP/1.1 401"
