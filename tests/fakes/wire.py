"""What a vendor's file gives the server: how to read its requests and how to write its answers."""

from __future__ import annotations

import functools
import gzip
import json
import zlib
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, Protocol

from tests.fakes.script import Behavior

#: Stands in what a vendor says for the key that it was called with.
A_KEY: Final = "sk-secret"
#: What a vendor says of an error.
UNSPEAKABLE: Final = f"The request could not be served: {A_KEY} is not for your eyes."


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One HTTP request, read to its end. Names of headers are in small letters."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One HTTP answer."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    content_type: str = "application/json"
    #: The parts of the body that are sent one by one, instead of ``body``.
    parts: Sequence[bytes] = ()
    #: What follows the last part: nothing, ``reset``, or ``endless`` repeats of it.
    then: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What a vendor's request asks for."""

    prompt: str
    request_id: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


class Wire(Protocol):
    """One vendor's way to talk."""

    vendor: ClassVar[str]

    def serves(self, request: Request) -> bool:
        """Whether the request is for this vendor."""
        ...

    def read(self, request: Request) -> Asked:
        """What is asked for. Raises ``ValueError`` for what the vendor would not understand."""
        ...

    def answer(self, asked: Asked, behavior: Behavior, *, number: int) -> Answer:
        """To the call of this number."""
        ...

    def unreadable(self, why: str) -> Answer:
        """To a request that cannot be read."""
        ...


def as_json(content: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer in JSON."""
    return Answer(status=status, headers=headers or {}, body=json.dumps(content).encode())


def spelt(answer: Answer, behavior: Behavior) -> Answer:
    """The same answer with another body, status, type or encoding, as scripted."""
    body = urlsafe_b64decode(behavior.body) if behavior.body else answer.body
    body = b"\xef\xbb\xbf" + body if behavior.bom else body
    headers = dict(answer.headers)
    if behavior.encoding:
        headers["content-encoding"], body = _compressed(body, behavior.encoding)
    kind = {"": answer.content_type, "none": ""}.get(behavior.content_type, behavior.content_type)
    status = 200 if behavior.inside else answer.status
    return replace(answer, status=status, headers=headers, body=body, content_type=kind)


def _compressed(body: bytes, encoding: str) -> tuple[str, bytes]:
    """The header and the body."""
    if encoding == "bomb":
        return "gzip", _bomb()
    if encoding == "broken":
        packed = gzip.compress(body)
        return "gzip", packed[: len(packed) // 2] + b"\0" * 64
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    spellings = {
        "gzip": ("gzip", gzip.compress(body)),
        "deflate": ("deflate", zlib.compress(body)),
        "raw-deflate": ("deflate", packer.compress(body) + packer.flush()),
        "twice": ("gzip, gzip", gzip.compress(gzip.compress(body))),
        "unknown": ("br", b"\x8b\x02\x80" + body[::-1]),
        "lie": ("gzip", body),
    }
    return spellings[encoding]


@functools.cache
def _bomb() -> bytes:
    """100 MB of zeros, compressed."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([*(packer.compress(bytes(1024 * 1024)) for _ in range(100)), packer.flush()])


def page(status: int) -> Answer:
    """What a proxy in front of a vendor says."""
    body = f"<html><head><title>{status}</title></head><body><h1>{status}</h1><hr>nginx</body></html>"
    return Answer(status=status, content_type="text/html", body=body.encode())
