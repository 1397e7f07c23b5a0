"""Bodies as servers send them: base64 in its spellings, JSON under any type, compression, and vendors' sentences."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from base64 import b64encode, urlsafe_b64encode
from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.fakes.images import encoded, image, png
from workers.providers.base import ProviderError
from workers.providers.bodies import bound_answer, decode_base64, image_type, read_answer, read_error, read_json
from workers.providers.http import sentence
from workers.providers.support import MAX_ANSWER_BYTES

IMAGE = png("x" * 57)
PLAIN = b64encode(IMAGE).decode()


@pytest.mark.parametrize(
    "text",
    [
        *(encoded(IMAGE, kind) for kind in ("data-url", "lines", "urlsafe", "unpadded", "escaped", "quoted")),
        PLAIN,
        f"  {PLAIN}\n",
        f"\ufeff{PLAIN}",
        f"DATA:image/PNG;charset=x;Base64,{PLAIN}",
        f"data:;base64,{PLAIN}",
        f"data:image/png; base64,{PLAIN}",
        f"b'{PLAIN}'",
        f'"{PLAIN}"',
        PLAIN.replace("A", "A\\n"),
        " ".join(PLAIN),
        urlsafe_b64encode(IMAGE).decode(),
        b64encode(IMAGE[:10]).decode() + b64encode(IMAGE[10:]).decode(),
    ],
)
def test_base64_is_read_in_every_spelling(text: str) -> None:
    assert decode_base64(text) == IMAGE


@pytest.mark.parametrize(
    "value", ["%%%", "ÄÖÜ", "A", "AAAAA", 7, None, ["AAAA"], {"b64": "AAAA"}, "data:image/png;base64,*"]
)
def test_invalid_base64_is_none(value: object) -> None:
    assert decode_base64(value) is None


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_an_image_is_known_by_its_first_bytes(kind: str) -> None:
    assert image_type(image("x", kind)) == f"image/{kind}"
    assert image_type(b'{"data": []}') == image_type(b"") == ""


@pytest.mark.parametrize(
    "content",
    [
        b'{"a": "\xc3\xa9"}',
        b'\xef\xbb\xbf{"a": "\xc3\xa9"}',
        '{"a": "é"}'.encode("utf-16"),
        b'{"a": "\xe9"}',
        '\ufeff{"a": "é"}',
        '\n {"a": "é"}\n',
    ],
)
def test_json_is_read_in_every_encoding(content: bytes | str) -> None:
    assert read_json(content, "latin-1") == {"a": "é"}
    assert read_error(content, {"content-type": 'application/json; charset="latin-1"'}) == {"a": "é"}


@pytest.mark.parametrize("content", [b"", b"<html>", b"\xff\xfe", b"[" * 100_000, b'{"a": ', b"1" * 5000])
def test_an_error_that_is_not_json_is_text_at_most(content: bytes) -> None:
    for headers in ({}, {"content-type": "x; charset=nonsense"}):
        found = read_error(content, headers)
        assert found is None or (isinstance(found, str) and content.startswith(found.encode()))
    assert read_error(content, {"content-type": "text/html"}) is None


@pytest.mark.parametrize(
    ("content", "kind", "found"),
    [
        *(
            (b'{"data": []}', kind, {"data": []})
            for kind in ("application/json", "text/plain", "text/html", "image/png", "")
        ),
        *((IMAGE, kind, IMAGE) for kind in ("image/png", "application/json", "text/html", "")),
        *((PLAIN.encode(), kind, IMAGE) for kind in ("text/plain", "")),
        (f'"{PLAIN}"'.encode(), "application/json", IMAGE),
        (b"", "application/json", {}),
        (b" \n", "text/html", {}),
        (b"garbage", "application/octet-stream", b"garbage"),
        (b"<svg>", "image/svg+xml", b"<svg>"),
    ],
)
def test_the_content_counts_for_more_than_its_type(content: bytes, kind: str, found: object) -> None:
    assert read_answer(content, {"content-type": kind}, "OpenAI", "") == found


@pytest.mark.parametrize(
    ("content", "kind", "code"),
    [
        *((b"<html>", kind, "unavailable") for kind in ("text/html", "text/plain", "application/json", "")),
        (b"Back soon", "text/plain", "unavailable"),
        (b"Back soon", "text/html; charset=utf-8", "unavailable"),
        *((b'{"data": [', kind, "invalid_image") for kind in ("application/json", "text/plain", "")),
        (b"garbage", "application/json", "invalid_image"),
        (b"data: x", "text/event-stream", "invalid_image"),
    ],
)
def test_the_type_counts_where_the_content_cannot_be_read(content: bytes, kind: str, code: str) -> None:
    with pytest.raises(ProviderError) as caught:
        read_answer(content, {"content-type": kind}, "OpenAI", "n")
    assert (caught.value.code, caught.value.scope) == (code, "request")


# --- Compression ------------------------------------------------------------------------------------------------------


class Body(httpx2.AsyncByteStream):
    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


def received(status: int, encoding: str, *chunks: bytes) -> bytes:
    headers = {"content-encoding": encoding} if encoding else {}

    async def read() -> bytes:
        request = httpx2.Request("POST", "http://vendor.test/")
        response = httpx2.Response(status, headers=headers, stream=Body(list(chunks)), request=request)
        await bound_answer(response)
        return await response.aread()

    return asyncio.run(read())


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


TEXT = b'{"error": {"code": 503}}' * 20


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("", TEXT),
        ("identity", TEXT),
        ("gzip", gzip.compress(TEXT, mtime=0)),
        ("GZIP", gzip.compress(TEXT, mtime=0)),
        ("x-gzip", gzip.compress(TEXT, mtime=0)),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", raw_deflate(TEXT)),
        ("deflate", gzip.compress(TEXT, mtime=0)),
        ("gzip", zlib.compress(TEXT)),
        ("gzip, deflate", zlib.compress(gzip.compress(TEXT, mtime=0))),
        ("gzip", gzip.compress(TEXT[:9], mtime=0) + gzip.compress(TEXT[9:], mtime=0)),
        ("gzip", TEXT),
        ("deflate", TEXT),
        ("gzip", gzip.compress(TEXT, mtime=0) + b"\0\0\0"),
        ("utf-8", TEXT),
        ("br", TEXT),
    ],
)
@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize("in_bytes", [True, False])
def test_a_compressed_body_is_inflated(encoding: str, body: bytes, status: int, in_bytes: bool) -> None:
    chunks = [body[place : place + 1] for place in range(len(body))] if in_bytes else [body]
    assert received(status, encoding, *chunks) == TEXT


@pytest.mark.parametrize(
    "body", [gzip.compress(TEXT, mtime=0)[:40], gzip.compress(TEXT, mtime=0)[:20] + b"\0" * 40, b"\x1f\x8b", b"\x1f"]
)
def test_a_broken_body_is_an_error_only_where_an_image_was_due(body: bytes) -> None:
    assert TEXT.startswith(received(503, "gzip", body)) or body == b"\x1f"
    if body != b"\x1f":
        with pytest.raises(ProviderError) as caught:
            received(200, "gzip", body)
        assert caught.value.code == "invalid_image"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", ""])
def test_the_bound_holds_for_what_is_inflated(encoding: str) -> None:
    zeros = bytes(MAX_ANSWER_BYTES + 1024 * 1024)
    packed = {"gzip": gzip.compress(zeros, 1, mtime=0), "deflate": zlib.compress(zeros, 1), "": zeros}[encoding]
    with pytest.raises(ProviderError) as caught:
        received(200, encoding, packed)
    assert caught.value.code == "invalid_image"
    assert len(received(503, encoding, packed)) <= 1024 * 1024


def test_layers_beyond_the_third_are_not_decompressed() -> None:
    packed = TEXT
    for _ in range(4):
        packed = gzip.compress(packed, mtime=0)
    assert received(503, ", ".join(["gzip"] * 4), packed) == packed


# --- Sentences --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("A family 👨‍👩‍👧 at the sea ❤️", "A family 👨‍👩‍👧 at the sea ❤️"),
        ("می‌خواهم", "می‌خواهم"),
        ("🏴󠁧󠁢󠁳󠁣󠁴󠁿 and \U0001fae8", "🏴󠁧󠁢󠁳󠁣󠁴󠁿 and \U0001fae8"),
        ("soft\u00adhyphen", "soft\u00adhyphen"),
        ("one\ntwo\r\nthree\tfour\u2028five\u2029six\x85seven", "one two three four five six seven"),
        ("a\x00b\x1bc\x7fd\x9fe", "abcde"),
        ("a\u202eb\u2066c\u200fd\u061ce\u200ef", "abcdef"),
        ("a\ud800b\udfffc", "abc"),
        ("a\ufffeb\uffffc\ufdd0d\U0001fffee", "abcde"),
        (7, ""),
        (None, ""),
        (["x"], ""),
        ("x" * 10_000, "x" * 4000),
    ],
)
def test_of_a_sentence_only_control_characters_go(said: object, shown: str) -> None:
    assert sentence(said) == shown
    assert sentence(said).encode().decode() == shown
