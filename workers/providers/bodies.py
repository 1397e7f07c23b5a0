"""Bodies of HTTP answers: bound and inflate them, and parse them by content rather than by declared type."""

from __future__ import annotations

import json
import re
import zlib
from base64 import b64decode
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import unquote, unquote_to_bytes

import httpx2
import msgspec
import pybase64

from generation.providers.error_policy import ErrorScope
from generation.states import ErrorCode
from workers.providers.base import ProviderError
from workers.providers.support import EVENT_STREAM, MAX_ANSWER_BYTES, MAX_STREAM_BYTES, too_long

#: The body of an error is truncated here. Its status and the beginning of its body suffice.
MAX_ERROR_BYTES: Final = 1024 * 1024
#: Maximum bytes that one call of zlib may return.
_PIECE: Final = 256 * 1024
#: A body with more layers of compression is not inflated.
_MAX_LAYERS: Final = 3
_COMPRESSED: Final = frozenset({"gzip", "x-gzip", "deflate"})
#: Maximum characters that are read of an error in plain text.
_MAX_LENGTH: Final = 8000
_PAGES: Final = frozenset({"text/html", "application/xhtml+xml", "text/xml", "application/xml"})

_SIGNATURES: Final = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"II*\0": "image/tiff",
    b"MM\0*": "image/tiff",
}
_LITERAL: Final = re.compile(r"b?(['\"])(.*)\1", re.DOTALL)
#: Removes characters that are inserted into base64 in transit, and translates the URL-safe alphabet.
_NORMALIZE: Final = str.maketrans("-_", "+/", " \t\r\n\f\v\\\ufeff\u200b")


# --- Bounds -----------------------------------------------------------------------------------------------------------


async def bound_answer(response: httpx2.Response) -> None:
    """Bound and inflate the body while it is read: for ``event_hooks={"response": [bound_answer]}``.

    httpx2 would inflate the body after this hook's stream has bounded it. So the body is inflated here, and the header
    that makes httpx2 inflate it is removed. A success that is too long raises :class:`ProviderError`; an error is
    truncated, so that its status decides.
    """
    limit = MAX_STREAM_BYTES if EVENT_STREAM in response.request.headers.get("accept", "") else MAX_ANSWER_BYTES
    if response.is_success and _length(response.headers) > limit:
        raise too_long(limit)
    assert isinstance(response.stream, httpx2.AsyncByteStream)  # noqa: S101  an async client's always is
    layers = _layers(response.headers)
    for header in ("content-encoding", "content-length") if "content-encoding" in response.headers else ():
        response.headers.pop(header, None)
    limit = limit if response.is_success else MAX_ERROR_BYTES
    response.stream = _Bounded(response.stream, layers, limit, is_success=response.is_success)


def _length(headers: Mapping[str, str]) -> int:
    value = headers.get("content-length", "")
    return int(value) if value.isdecimal() else 0


def _layers(headers: httpx2.Headers) -> list[_Inflater]:
    """Return one inflater for each layer of compression, the outermost first; none if one of them is unknown."""
    encodings = [value.strip().lower() for value in headers.get_list("content-encoding", split_commas=True)]
    names = [name for name in encodings if name not in {"", "identity"}]
    if len(names) > _MAX_LAYERS or not _COMPRESSED.issuperset(names):
        return []
    return [_Inflater(name) for name in reversed(names)]


class _Bounded(httpx2.AsyncByteStream):
    def __init__(
        self, stream: httpx2.AsyncByteStream, layers: list[_Inflater], limit: int, *, is_success: bool
    ) -> None:
        self._stream = stream
        self._limit = limit
        self._layers = layers
        self._is_success = is_success

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        limit = self._limit
        received = inflated = 0
        try:
            async for chunk in self._stream:
                received += len(chunk)
                for piece in self._inflate(chunk):
                    inflated += len(piece)
                    if inflated > limit:
                        break
                    yield piece
                if max(received, inflated) > limit:
                    if self._is_success:
                        raise too_long(limit)
                    return
            is_whole = all(layer.is_whole for layer in self._layers)
        except zlib.error:
            is_whole = False
        if self._is_success and not is_whole:
            raise unreadable("The compressed answer of the provider")

    def _inflate(self, chunk: bytes) -> Iterator[bytes]:
        pieces: Iterable[bytes] = (chunk,)
        for layer in self._layers:
            pieces = layer.inflate(pieces)
        yield from pieces

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Inflater:
    """Inflates in small pieces. Data that does not begin like compressed data passes unchanged, since some proxies
    inflate a body and keep the header."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._begin = b""
        self._is_plain = False
        self._zlib: zlib._Decompress | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the end of the compressed data was reached."""
        return self._zlib is None or self._zlib.eof

    def inflate(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the inflated data. Raises ``zlib.error``."""
        for chunk in chunks:
            data = self._begin + chunk
            if not self._is_plain and self._zlib is None:
                if len(data) < 2:
                    self._begin = data
                    continue
                self._begin = b""
                self._zlib = _decompressor(self._name, data)
                self._is_plain = self._zlib is None
            if self._is_plain:
                yield data
            else:
                yield from self._pieces(data)

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        while self._zlib is not None:
            while piece := self._zlib.decompress(data, _PIECE):
                yield piece
                data = self._zlib.unconsumed_tail
            rest = self._zlib.unused_data
            if not self._zlib.eof or not rest.startswith(b"\x1f\x8b"):
                return
            self._zlib, data = zlib.decompressobj(31), rest  # gzip may have several members


def _decompressor(name: str, begin: bytes) -> zlib._Decompress | None:
    if begin.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(31)
    if begin[0] & 0x0F == 8 and int.from_bytes(begin[:2], "big") % 31 == 0:
        return zlib.decompressobj()
    # Some servers send raw deflate data without the zlib header. Such data never begins with one of these.
    if name == "deflate" and not begin.startswith((b"{", b"[", b"<")) and not image_type(begin):
        return zlib.decompressobj(-zlib.MAX_WBITS)
    return None


# --- Contents ---------------------------------------------------------------------------------------------------------


def image_type(content: bytes) -> str:
    """Return the content type by the first bytes, or an empty string if they are not an image's."""
    for signature, kind in _SIGNATURES.items():
        if content.startswith(signature):
            return kind
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return "image/avif" if content[4:8] == b"ftyp" else ""


def read_json(content: bytes | str, charset: str = "") -> object:
    """Parse JSON, with or without a byte order mark. Raises ``ValueError`` if it is invalid."""
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.json.decode(content)  # strict UTF-8 JSON, without a copy; what it refuses is read below
    try:
        return json.loads((content if isinstance(content, str) else _text(content, charset)).lstrip("\ufeff"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_error(content: bytes | str, headers: Mapping[str, str]) -> object:
    """Parse the body of an error: return the JSON value, else the plain text, or None for a page or binary data."""
    try:
        parsed = read_json(content, _charset(headers))
    except ValueError:
        is_page = content[:1000].lstrip()[:1] in {b"<", "<"} or _kind(headers) in _PAGES
        text = content if isinstance(content, str) else content[:_MAX_LENGTH].decode(errors="replace")
        return None if is_page or "\ufffd" in text else text[:_MAX_LENGTH]
    # Google wraps some errors in a list, and so do servers that translate Google's API to another one.
    return next(iter(parsed), None) if isinstance(parsed, list) else parsed


def read_answer(content: bytes | str, headers: Mapping[str, str], vendor: str, call_id: str) -> object:
    """Parse an answer with a status of success: return the bytes of an image, or the JSON value.

    The declared type decides only if the content is neither. Raises :class:`ProviderError`.
    """
    data = content.encode(errors="replace") if isinstance(content, str) else content
    kind = _kind(headers)
    if image_type(data):
        return data
    try:
        parsed = read_json(content, _charset(headers))
    except ValueError:
        parsed = data.decode("ascii", "replace") if kind in {"", "text/plain"} else None
    else:
        if not isinstance(parsed, str):
            return parsed
    if parsed is not None and (image := decode_base64(parsed)) and image_type(image):
        return image
    begin = data.lstrip()[:1]
    if not begin:
        return {}
    if kind.startswith("image/") or kind == "application/octet-stream":
        return data
    if begin == b"<" or kind in _PAGES or (kind in {"", "text/plain"} and begin not in {b"{", b"["}):
        # A gateway's page says nothing about the vendor: it has not answered, and the next attempt may reach it.
        raise ProviderError(
            f"Something other than {vendor} answered",
            code=ErrorCode.UNAVAILABLE,
            provider_request_id=call_id,
            scope=ErrorScope.REQUEST,
        )
    # The answer may have been billed, and another call may be billed again, so the error is final.
    raise unreadable(f"{vendor}'s answer", call_id)


def read_image(encoded: object, vendor: str, call_id: str) -> bytes:
    """Decode the base64 of an answer. Raises :class:`ProviderError`."""
    if (data := decode_base64(encoded)) is None:
        raise unreadable(f"{vendor}'s image", call_id)
    return data


def unreadable(content: str, call_id: str = "") -> ProviderError:
    """Return the error for content that was received, was probably billed, and cannot be read."""
    return ProviderError(f"{content} cannot be read", code=ErrorCode.INVALID_IMAGE, provider_request_id=call_id)


def decode_base64(value: object) -> bytes | None:
    """Decode base64 in the variants that servers send, or return ``None``.

    Accepts a ``data:`` URL, white space, either alphabet, padding that is missing or in the middle, percent encoding,
    and the quotes and backslashes of an encoding around it.
    """
    if not isinstance(value, str):
        return None
    with suppress(ValueError):
        return pybase64.b64decode(value, validate=True)  # the usual case, without a copy
    text = value.strip()
    if text[:2] in {"b'", 'b"'} or text[:1] in {"'", '"'}:
        text = match[2] if (match := _LITERAL.fullmatch(text)) else text
    if text[:5].lower() == "data:":
        head, _, text = text.partition(",")
        if not head.lower().replace(" ", "").endswith(";base64"):
            return unquote_to_bytes(text)
    if "%" in text:
        text = unquote(text)
    if "\\" in text:
        text = text.replace("\\n", "").replace("\\r", "")
    text = text.translate(_NORMALIZE)
    try:
        parts = [part for part in text.split("=") if part]
        return b"".join(b64decode(part + "=" * (-len(part) % 4), validate=True) for part in parts)
    except ValueError:
        return None


def _kind(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _charset(headers: Mapping[str, str]) -> str:
    match = re.search(r"charset\s*=\s*\"?([\w.:-]{1,40})", headers.get("content-type", ""), re.IGNORECASE)
    return match[1] if match else ""


def _text(content: bytes, charset: str) -> str:
    try:
        return content.decode(json.detect_encoding(content))
    except UnicodeDecodeError:
        try:
            return content.decode(charset or "latin-1")
        except LookupError:
            raise ValueError("no such charset") from None
