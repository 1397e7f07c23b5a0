"""OpenAI's answer as a stream of events: partial images, then the image or an error.

It is read here and not by the SDK, whose reader copies all of an event with each piece that arrives, and an event may
have many megabytes. An event may have as many bytes as another answer, and the stream as many as four.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from typing import Final

from workers.providers import bodies, http, refusals
from workers.providers.base import show_preview
from workers.providers.openai_errors import VENDOR, error_in, refusal_in
from workers.providers.openai_images import entry_of, has_image
from workers.providers.support import EVENT_STREAM, MAX_ANSWER_BYTES, too_long, unknown_outcome

_BOM: Final = b"\xef\xbb\xbf"
#: Beginnings of a line of a stream.
_FIELDS: Final = (b":", b"data:", b"event:", b"id:", b"retry:")
#: Bytes after the white space at the beginning of an answer that tell what it is.
_TELLING: Final = 12
#: An answer that has only white space in so many bytes is not a stream.
_MAX_SPACE: Final = 4096


async def read(chunks: AsyncIterator[bytes], headers: Mapping[str, str], *, model: str) -> object:
    """Return the image's answer as :func:`bodies.read_answer` does, and show the previews before it.

    A server that ignores ``stream`` answers as usual. Raises :class:`ProviderError`: that of an event, or
    ``unknown_outcome`` for a stream without an image, since it may have been billed. Raises errors of the connection.
    """
    call_id = http.request_id(headers)
    reader = _Reader(headers, model)
    body = bytearray()
    is_stream: bool | None = None
    async for chunk in chunks:
        if not is_stream:
            body += chunk
            if is_stream is None:
                is_stream = _is_stream(body, headers)
            if len(body) > MAX_ANSWER_BYTES:
                raise too_long()
            if not is_stream:
                continue
            chunk = bytes(body)
        if (answer := reader.feed(chunk)) is not None:
            return answer
    if is_stream is None and _is_stream(body, headers, is_whole=True):
        is_stream = True
        if (answer := reader.feed(bytes(body))) is not None:
            return answer
    if not is_stream:
        return bodies.read_answer(bytes(body), headers, VENDOR, call_id)
    if (answer := reader.feed(b"\n\n")) is not None:  # the last event may lack its end
        return answer
    raise unknown_outcome(VENDOR, call_id)


def _is_stream(body: bytearray, headers: Mapping[str, str], *, is_whole: bool = False) -> bool | None:
    """Return whether the answer is a stream, by its content rather than by its type alone; None if that is not clear
    yet."""
    begin = bytes(body[:_MAX_SPACE]).removeprefix(_BOM).lstrip()
    if len(begin) < _TELLING and len(body) < _MAX_SPACE and not is_whole:
        return None
    if begin[:1] in {b"{", b"[", b""} or bodies.image_type(begin):
        return False
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == EVENT_STREAM or begin.startswith(_FIELDS)


class EventParser:
    """Splits a stream into events. Each byte is copied a few times, however small the pieces are."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._data = bytearray()
        self._name = ""
        self._after_return = False
        self._is_first = True

    def feed(self, chunk: bytes) -> Iterator[tuple[str, bytes]]:
        """Yield name and data of each event that the chunk completes. Raises :class:`ProviderError` for one that is too
        long."""
        if self._after_return and chunk.startswith(b"\n"):  # the second half of a line's end
            chunk = chunk[1:]
            self._after_return = False
        if not chunk:
            return
        self._after_return = chunk.endswith(b"\r")
        if len(self._line) + len(self._data) > MAX_ANSWER_BYTES:
            raise too_long()
        *ends, rest = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for end in ends:
            self._line += end
            line, self._line = self._line, bytearray()
            if self._is_first:
                self._is_first, line = False, line.removeprefix(_BOM)
            if line:
                self._take(line)
                continue
            if self._data:
                yield self._name, bytes(self._data)
            self._name, self._data = "", bytearray()
        self._line += rest

    def _take(self, line: bytearray) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data += b"\n" + value if self._data else value
        elif name == b"event":
            self._name = value[:100].decode(errors="replace")


class _Reader:
    """Reads the events of one answer."""

    def __init__(self, headers: Mapping[str, str], model: str) -> None:
        self._headers = headers
        self._model = model
        self._parser = EventParser()
        self._has_previews = False

    def feed(self, chunk: bytes) -> Mapping[str, object] | None:
        """Return the answer if its event is complete. Raises :class:`ProviderError` for an event with an error."""
        for name, data in self._parser.feed(chunk):
            if (answer := self._read(name, data)) is not None:
                return answer
        return None

    def _read(self, name: str, data: bytes) -> Mapping[str, object] | None:
        try:
            event = http.mapping(bodies.read_json(data))
        except ValueError:  # such as the ``[DONE]`` of some servers
            return None
        kind = event.get("type")
        kind = kind if isinstance(kind, str) else name
        if kind.endswith(".partial_image"):
            self._has_previews = True
            if preview := bodies.decode_base64(event.get("b64_json")):
                show_preview(preview)
            return None
        if kind.endswith(".completed"):
            return {"data": [event], "usage": event.get("usage")}
        if kind == "error" or kind.endswith(".failed") or event.get("error"):
            self._raise_error(event)
        elif has_image(entry_of(event)):  # a plain answer as an event
            return event
        return None

    def _raise_error(self, event: Mapping[str, object]) -> None:
        if refusal := refusal_in(event):
            if self._has_previews:  # the prompt was accepted
                refusal = replace(refusal, stage="output")
            raise refusals.error(VENDOR, refusal, call_id=http.request_id(self._headers))
        if error := error_in(event, self._headers, model=self._model):
            raise error
