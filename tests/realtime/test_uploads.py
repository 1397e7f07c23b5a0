"""Uploads at the web process and at the process of live updates: with a length and in chunks, within bounds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.realtime.live import Live
from tests.support.uploads import drawing, encoded

UPLOADS = "/api/visual-generation/uploads"
BOUNDARY = "the-boundary-of-the-parts"
HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
MIB = 1024 * 1024


@pytest.fixture(params=["web", "realtime"])
def client(live: Live, request: Any) -> Iterator[httpx2.Client]:
    address = live.address if request.param == "realtime" else f"127.0.0.1:{live.stack.port}"
    headers = {"Authorization": f"Bearer {live.token()}"}
    with httpx2.Client(base_url=f"http://{address}", headers=headers, timeout=60) as client:
        yield client


def form(data: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="pip.png"\r\n\r\n'
    return head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


def in_chunks(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), 65536):
        yield data[start : start + 65536]


@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload_arrives_with_a_length_and_in_chunks(client: httpx2.Client, chunked: bool) -> None:
    data = form(encoded(drawing()) + b"\0" * 3 * MIB)
    response = client.post(f"{UPLOADS}/", content=in_chunks(data) if chunked else data, headers=HEADERS)
    assert response.status_code in {200, 201}, response.text
    assert (response.json()["width"], response.json()["name"]) == (80, "pip.png")


@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload_that_is_too_large_gets_an_answer(client: httpx2.Client, chunked: bool) -> None:
    data = form(bytes(30 * MIB))
    response = client.post(UPLOADS, content=in_chunks(data) if chunked else data, headers=HEADERS)
    assert (response.status_code, response.json()["code"]) == (413, "too_large")


def test_an_upload_through_the_realtime_process_is_bounded(live: Live) -> None:
    headers = HEADERS | {"Authorization": f"Bearer {live.token()}"}

    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(MIB)

    try:
        response = httpx2.post(f"http://{live.address}{UPLOADS}", content=endless(), headers=headers, timeout=60)
    except httpx2.TransportError:
        return  # the server closed the connection while the client was sending
    assert response.status_code == 413


def test_an_upload_without_a_token_is_rejected(live: Live) -> None:
    for address in (live.address, f"127.0.0.1:{live.stack.port}"):
        response = httpx2.post(f"http://{address}{UPLOADS}", content=form(bytes(15 * MIB)), headers=HEADERS)
        assert response.status_code == 401
