"""How a fake answers: by what a test scripted for all calls, for the next ones, or in the prompt itself.

The grammar is the same everywhere: ``name`` or ``name=value``, separated by ``;``. In a prompt it stands in double
brackets: ``A friendly dragon [[status=429;retry-after=7]]``. The names are the fields of :class:`Behavior`, and
``times=2`` (``once=…`` for ``times=1;…``) limits what a prompt asks for to the first calls with that prompt.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

_MARKER: Final = re.compile(r"\[\[(.+?)\]\]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Behavior:
    """What happens to one call. As it stands: an image, at once."""

    #: Seconds before the answer.
    delay: float = 0.0
    #: Wait for ``POST /_release`` before the answer.
    hold: bool = False
    #: Never answer.
    hang: bool = False
    #: Reset the connection: ``unread`` before the body is read (not in a prompt), ``before`` the answer, or ``after``
    #: half of it.
    reset: str = ""
    #: Send the answer byte by byte, with so many seconds between them.
    drip: float = 0.0
    #: Send an answer of so many MB without saying so before.
    huge: int = 0
    #: Say the length of a huge answer.
    declared: bool = False

    #: An error of the vendor, and the code in its body.
    status: int = 200
    code: str = ""
    retry_after: str = ""
    retry_after_ms: str = ""
    should_retry: str = ""
    #: Refused because of the ``input`` or the ``output``; with an image that is ``classified`` over gRPC.
    moderation: str = ""
    #: The reason that is given, where a vendor has several for a refusal or an answer without an image.
    reason: str = ""
    #: The account has no credit left.
    quota: bool = False
    #: An answer without an image.
    empty: bool = False
    #: Another image than was asked for: one that is ``truncated``, an ``svg``, a small file that is a ``bomb``, or
    #: ``jpeg`` or ``webp`` whatever was asked for, or ``noise3840x2160``.
    image: str = ""
    #: End before the length that was said.
    short: bool = False
    #: The image's address instead of the image: ``own`` is one of this server's.
    url: str = ""
    #: Another address that an answer with status 3xx leads to.
    location: str = ""
    #: A page for people, as a proxy sends it.
    html: bool = False
    #: An answer that cannot be read: JSON that breaks off, a message that is none.
    malformed: bool = False
    #: Said of the answer instead of what it is; ``none`` leaves the header out.
    content_type: str = ""
    #: The sentence of an error.
    says: str = ""
    #: The error of ``status`` (or a refusal) in an answer whose own status is 200.
    inside: bool = False
    #: Another body, in URL-safe base64, since JSON has characters of this grammar.
    body: str = ""
    #: How the image's base64 is written; :func:`tests.fakes.images.encoded` has the spellings.
    base64: str = ""
    #: The other form of a success: the bytes of the image instead of JSON, or JSON instead of the bytes.
    other: bool = False
    #: A call for partial images: ``json`` ignores that, ``steps`` waits for a release before each event but the first,
    #: ``cut`` ends after the partial images without the image, ``reset`` breaks the connection there, ``error`` and
    #: ``refusal`` end with such an event, ``early`` has the image before the partial ones, ``garbage`` has lines that
    #: are no events between them, ``spoilt`` has partial images that are none, ``endless`` repeats partial
    #: images of 1 MB without end.
    stream: str = ""
    #: A byte order mark before the body.
    bom: bool = False
    #: Compressed, although that was not asked for: ``gzip``, ``deflate``, ``raw-deflate``, ``twice``, ``broken`` in the
    #: middle, a ``bomb`` of 100 MB, an ``unknown`` algorithm, or ``lie`` with the header alone.
    encoding: str = ""


def _seconds(default: float) -> Callable[[str], float]:
    return lambda text: float(text or default)


_READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "bool": lambda text: text.lower() not in {"0", "false", "no"},
    "float": _seconds(0.2),
    "int": int,
    "str": str,
}
_FIELDS: Final = {field.name: _READERS[str(field.type)] for field in fields(Behavior)}


def parse(text: str) -> dict[str, Any]:
    """The fields of :class:`Behavior` that the text sets, and ``times``. Raises ``ValueError``, since a slip in a
    script would otherwise pass as a success."""
    if text.startswith("once="):
        text = f"times=1;{text.removeprefix('once=')}"
    found: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, _, value = part.partition("=")
        name = name.strip().replace("-", "_")
        read = int if name == "times" else _FIELDS.get(name)
        if read is None:
            raise ValueError(f"no such behavior: {name}")
        found[name] = read(value.strip())
    return found


class Script:
    """Decides for each call. The prompt wins over what was scripted for the next call, and that over the default."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._default: dict[str, Any] = {}
        self._next: deque[dict[str, Any]] = deque()
        self._seen: Counter[str] = Counter()

    def set(self, *, default: str, following: Sequence[str]) -> None:
        """How all calls are answered, and how the next ones are instead, one by one. Raises ``ValueError``."""
        self._default = parse(default)
        self._next = deque(map(parse, following))

    @property
    def resets_unread(self) -> bool:
        """Whether the call that comes now is not even read."""
        coming = self._next[0] if self._next else self._default
        if coming.get("reset") != "unread":
            return False
        if self._next:
            self._next.popleft()
        return True

    def behavior(self, prompt: str) -> Behavior:
        """For a call with this prompt. Raises ``ValueError`` for a marker that is none."""
        chosen = dict(self._default)
        if self._next:
            chosen |= self._next.popleft()
        if "[[" in prompt:
            self._seen[prompt] += 1
            for marker in _MARKER.findall(prompt):
                wanted = parse(marker)
                if self._seen[prompt] <= wanted.pop("times", self._seen[prompt]):
                    chosen |= wanted
        return Behavior(**chosen)
