"""Python imports this at its start where the folder is on ``PYTHONPATH``: the clock of that process is then
``CLOCK_SHIFT`` seconds wrong. What counts seconds from anywhere (``time.monotonic``) is right, as it is in life."""

from __future__ import annotations

import datetime as module
import os
import time
from datetime import datetime, timedelta, tzinfo
from typing import Any

_seconds = float(os.environ["CLOCK_SHIFT"])
_time, _time_ns = time.time, time.time_ns


class _Type(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, datetime)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, datetime)


class _Shifted(datetime, metaclass=_Type):
    """Makes real ones, so that callers get the usual type."""

    __slots__ = ()

    def __new__(cls, *args: Any, **more: Any) -> Any:
        return datetime(*args, **more) if cls is _Shifted else super().__new__(cls, *args, **more)  # noqa: DTZ001

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        return datetime.now(tz) + timedelta(seconds=_seconds)

    @classmethod
    def utcnow(cls) -> Any:
        return datetime.now(module.UTC).replace(tzinfo=None) + timedelta(seconds=_seconds)


time.time = lambda: _time() + _seconds
time.time_ns = lambda: _time_ns() + int(_seconds * 1_000_000_000)
module.datetime = _Shifted  # type: ignore[misc]
