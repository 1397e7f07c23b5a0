"""What was called, when, and what came of it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(kw_only=True, slots=True)
class Call:
    """One call. Times are seconds since 1970; ``ended`` is ``None`` while it goes on."""

    number: int
    vendor: str
    prompt: str
    #: What the caller calls it, where the wire has a place for that.
    request_id: str
    #: Of the fake's connections, by the order in which they were opened.
    connection: int
    #: What else was asked for.
    options: dict[str, Any] = field(default_factory=dict)
    started: float = 0.0
    ended: float | None = None
    #: The status that was answered, or ``reset``, or ``gone`` where the client left first.
    outcome: str = ""
    disconnected: bool = False


class Journal:
    """Keeps the calls, and appends each to a file when it ends."""

    def __init__(self, path: Path | None = None) -> None:
        self._file = path.open("a", buffering=1) if path else None
        self.reset()

    def reset(self) -> None:
        """Forget the calls. Those that go on are still counted when they end."""
        self.calls: list[Call] = []
        self._open: set[int] = set()
        self.max_concurrent = 0

    @property
    def active(self) -> int:
        """How many go on."""
        return len(self._open)

    def begin(self, call: Call) -> None:
        """The whole request is there."""
        call.started = time.time()
        self.calls.append(call)
        self._open.add(id(call))
        self.max_concurrent = max(self.max_concurrent, len(self._open))

    def end(self, call: Call, outcome: str, *, disconnected: bool = False) -> None:
        """The answer is out, or there will be none."""
        call.ended = time.time()
        call.outcome = outcome
        call.disconnected = disconnected
        self._open.discard(id(call))
        if self._file:
            self._file.write(json.dumps(asdict(call)) + "\n")

    def summary(self) -> dict[str, int]:
        """The numbers alone."""
        return {"count": len(self.calls), "active": self.active, "max_concurrent": self.max_concurrent}
