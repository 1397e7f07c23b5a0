"""Answers that wait until requests have ended: a view asks for one, and the process of live updates waits.

A view must not wait itself: it would occupy a thread and its connection to the database. So it describes the wait and
returns the answer for a server that cannot wait. ``generation.realtime.waiting`` sends the other one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from django.http import HttpRequest

from generation.requests.events import Preview

#: The key in an ASGI scope under which a view finds the :class:`Waiting`. It is there only where the server can wait.
SCOPE_KEY: Final = "visual-generation.wait"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A response after a wait. Its headers replace those of the view's own response. ``body`` is sent part by part as
    the client reads it, so that a large one need not be in memory."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Iterable[bytes] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """A wait for the end of all these requests, at most so many ``seconds``.

    The functions are called in a thread with a connection to the database. ``finish`` returns the answer, and is told
    whether all of them have ended. ``refuse`` returns it if the user has too many waits already; without it the view's
    own response is sent. ``leave`` is called if the client disconnects before the end. With ``events`` the answer is a
    stream of events, which begins at once: its status is 200, and comments keep the connection open until ``finish``
    returns the events. ``preview`` then makes an event from a preview, which is sent part by part; it raises
    ``OSError`` if the file cannot be read.
    """

    request_ids: Sequence[str]
    user_id: int
    seconds: float
    finish: Callable[[bool], Answer]
    refuse: Callable[[], Answer] | None = None
    leave: Callable[[], None] | None = None
    events: bool = False
    preview: Callable[[Preview], Iterable[bytes]] | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """State that a view and the server in front of it share during a call: the wait that the view asks for, and a
    function that takes a place for a wait of the user and returns False if there are too many."""

    take_place: Callable[[int], bool]
    asked: list[Wait] = field(default_factory=list)


def can_wait(request: HttpRequest) -> bool:
    """Return whether the server can wait, which the web process cannot."""
    return SCOPE_KEY in getattr(request, "scope", {})


def take_place(request: HttpRequest, user_id: int) -> bool:
    """Take a place for the wait that the call will ask for, before it does what it would wait for. Return False if the
    user has too many."""
    by_asgi: Any = request
    return not can_wait(request) or by_asgi.scope[SCOPE_KEY].take_place(user_id)


def ask(request: HttpRequest, wait: Wait) -> bool:
    """Ask the server to wait. Return False if it cannot."""
    if not can_wait(request):
        return False
    by_asgi: Any = request
    by_asgi.scope[SCOPE_KEY].asked.append(wait)
    return True
