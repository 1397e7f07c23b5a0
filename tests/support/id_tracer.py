"""Which of our modules handle the id of a request, measured while they run.

A module handles an id if one of its functions

- is called with the id as an argument,
- is called with a container or dataclass that holds the id as a string, and names ``request_id`` in its code, or
- reads ``pk`` of the request, itself or through Django.
"""

from __future__ import annotations

import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from types import CodeType, FrameType
from typing import Any, Final

from django.db.models import Model

from generation import event_loop
from generation.identifiers import REQUEST_ID
from generation.models import GenerationRequest

_OURS: Final = ("generation.", "workers.", "config.")
#: A batch of updates is a list of named tuples in a dict.
_DEPTH: Final = 4
_READ_PK: Final[Any] = Model._get_pk_val


class IdTracer:
    """Records function calls of all threads that start while it is active, and of the calling one."""

    def __init__(self) -> None:
        self._modules: defaultdict[str, set[str]] = defaultdict(set)
        self._is_active = False

    def modules(self, request_id: str) -> set[str]:
        """Return the names of the modules that handled the id."""
        return self._modules[request_id]

    @contextmanager
    def active(self) -> Iterator[None]:
        """Record during the block. The background loop starts again, so that its threads are recorded too."""
        event_loop.loop.stop()
        self._is_active = True
        threading.setprofile(self._on_event)
        sys.setprofile(self._on_event)
        try:
            yield
        finally:
            self._is_active = False
            sys.setprofile(None)
            threading.setprofile(None)
            event_loop.loop.stop()

    def _on_event(self, frame: FrameType, event: str, _: object) -> None:
        if not self._is_active or event != "call":
            return
        if frame.f_code is _READ_PK.__code__:
            self._record_pk(frame)
        # The code of a dataclass's __init__ is generated, so it has no file.
        elif _is_ours(frame) and frame.f_code.co_filename != "<string>":
            self._record_arguments(frame)

    def _record_pk(self, frame: FrameType) -> None:
        row = frame.f_locals["self"]
        reader = frame.f_back
        while reader is not None and not _is_ours(reader):
            reader = reader.f_back
        if reader is not None and isinstance(row, GenerationRequest):
            self._modules[str(row.__dict__.get("id"))].add(reader.f_globals["__name__"])

    def _record_arguments(self, frame: FrameType) -> None:
        code = frame.f_code
        count = code.co_argcount + code.co_kwonlyargcount
        for name in code.co_varnames[:count]:
            value = frame.f_locals.get(name)  # an argument of a generator may be deleted when it resumes
            if isinstance(value, str) or "request_id" in _names(code):
                for request_id in _ids(value):
                    self._modules[request_id].add(frame.f_globals["__name__"])


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(_OURS)


def _ids(value: object, depth: int = _DEPTH) -> Iterator[str]:
    """Yield the ids of requests that are strings in the value."""
    if isinstance(value, str):
        if REQUEST_ID.fullmatch(value):
            yield value
    elif depth > 0:
        inner: list[object] = []
        if isinstance(value, dict):
            inner = list(value.values())  # another thread may change it
        elif isinstance(value, list | tuple | set | frozenset):
            inner = list(value)
        elif is_dataclass(value):
            inner = [getattr(value, "request_id", None)]
        for one in inner:
            yield from _ids(one, depth - 1)


def _names(code: CodeType) -> set[str]:
    """Return the attributes and local variables in the code, including nested functions."""
    nested = [_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return {*code.co_names, *code.co_varnames}.union(*nested)
