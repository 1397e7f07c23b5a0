"""What a vendor's file gives the server: how to read its requests and how to write its answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Protocol

from tests.fakes.script import Behaviour

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

    def answer(self, asked: Asked, behaviour: Behaviour, *, number: int) -> Answer:
        """To the call of this number."""
        ...

    def unreadable(self, why: str) -> Answer:
        """To a request that cannot be read."""
        ...


def as_json(content: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer in JSON."""
    return Answer(status=status, headers=headers or {}, body=json.dumps(content).encode())


def page(status: int) -> Answer:
    """What a proxy in front of a vendor says."""
    body = f"<html><head><title>{status}</title></head><body><h1>{status}</h1><hr>nginx</body></html>"
    return Answer(status=status, content_type="text/html", body=body.encode())
