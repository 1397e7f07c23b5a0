"""Calls that wait for the end of requests, in front of Django; :mod:`generation.requests.waits` explains the two parts.

Django's answer is held back, which occupies neither a thread nor a connection to the database. The hub tells of the
end, and a look at the database every few seconds covers updates that were lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Final, NamedTuple, ParamSpec, TypeVar

from channels.db import DatabaseSyncToAsync
from django.conf import settings

from generation.db.outages import is_outage
from generation.models import GenerationRequest
from generation.realtime.authentication import in_database
from generation.realtime.handshake import Application
from generation.realtime.hub import hub
from generation.realtime.send_queue import SEND_TIMEOUT
from generation.realtime.stopping import stopping
from generation.requests.events import Preview, Update
from generation.requests.waits import SCOPE_KEY, Answer, Wait, Waiting
from generation.states import TERMINAL

logger = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

#: Seconds between looks at the database for ends of which no update came.
_LOOK_EVERY: Final = 5.0
#: Seconds between tries to tell that a client has left.
_LEAVE_PAUSES: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
#: Headers of Django's answer that describe its body.
_OF_BODY: Final = frozenset({b"content-length", b"content-type", b"etag", b"transfer-encoding"})
#: Threads that make answers: each has a connection to the database, and may read an image from the storage.
_threads: Final = ThreadPoolExecutor(4, "waiting-answers")
#: Calls that Django answers at once, each in a thread of its own. With the other threads of this process they are as
#: many as it has connections to the database, so that none has to wait for one until it gives up.
_turns: Final = asyncio.Semaphore(6)
#: Those of them that may be calls with images, which are decoded for up to minutes: other calls must not wait for that.
_image_turns: Final = asyncio.Semaphore(3)


def waiting(application: Application, *, with_images: bool = False) -> Application:
    """Wait where a view of the application asks for it. ``with_images`` says that it has images of the client decoded
    before."""

    async def answered(scope: Any, receive: Any, send: Any) -> None:
        stopping()  # a signal before the first look would not be seen
        with _Place() as place:
            shared = Waiting(place.take)
            held = _HeldResponse(send, shared.asked)
            async with contextlib.AsyncExitStack() as turn:
                if with_images:
                    await turn.enter_async_context(_image_turns)
                await turn.enter_async_context(_turns)
                held.when_started = turn.aclose
                await application({**scope, SCOPE_KEY: shared}, held.receiving(receive), held.send)
            if shared.asked:
                await _wait(shared.asked[0], held, receive, place)

    return answered


class _HeldResponse:
    """Passes a response on, or keeps it if the view has asked for a wait."""

    def __init__(self, send: Any, waits: Sequence[Wait]) -> None:
        self._send, self._waits = send, waits
        self._messages: list[Any] = []
        self._passed_on = asyncio.Event()
        #: Called at the start of the response: the view has returned then, and a client may read slowly.
        self.when_started: Callable[[], Awaitable[None]] | None = None

    async def send(self, message: Any) -> None:
        """Take a message of the application."""
        if self.when_started is not None and message["type"] == "http.response.start":
            await self.when_started()
        if self._waits:
            self._messages.append(message)
        else:
            self._passed_on.set()
            await self._send(message)

    def receiving(self, receive: Any) -> Any:
        """Return ``receive`` for the application, which learns that the client has left only during a response.

        Django would give up the call before that, although its view goes on in a thread, and may ask for a wait.
        """
        is_whole = False

        async def received() -> Any:
            nonlocal is_whole
            if is_whole:
                await self._passed_on.wait()
            message = await receive()
            is_whole = not message.get("more_body")
            return message

        return received

    async def release(self) -> None:
        """Send what was kept."""
        for message in self._messages:
            await self._send(message)

    async def start(self, answer: Answer) -> None:
        """Begin another response with the headers of the kept one."""
        given = {name.lower().encode(): value.encode("latin-1") for name, value in answer.headers.items()}
        replaced = _OF_BODY | given.keys()
        kept = [(name, value) for name, value in self._messages[0]["headers"] if name.lower() not in replaced]
        headers = [*kept, *given.items()]
        await self._send({"type": "http.response.start", "status": answer.status, "headers": headers})

    async def send_part(self, part: bytes, *, more: bool = True) -> None:
        """Send a part of the body. Raises ``TimeoutError`` if the client does not read."""
        async with asyncio.timeout(SEND_TIMEOUT):
            await self._send({"type": "http.response.body", "body": part, "more_body": more})

    async def send_body(self, answer: Answer) -> None:
        """Send the body, one part after the other is read."""
        parts, loop = iter(answer.body), asyncio.get_running_loop()
        while (part := await loop.run_in_executor(_threads, next, parts, None)) is not None:
            await self.send_part(part)
        await self.send_part(b"", more=False)


async def _wait(wait: Wait, held: _HeldResponse, receive: Any, place: _Place) -> None:
    if not place.take(wait.user_id):
        if wait.refuse is None:
            await held.release()
        else:
            await _send(held, await _in_thread(wait.refuse)())
        return
    if wait.events:
        await held.start(_STREAM)
    leaving = asyncio.create_task(_disconnected(receive))
    ending = asyncio.create_task(_ended(wait, held))
    try:
        await asyncio.wait({leaving, ending}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        ending.cancel()  # without effect if it has ended
        await asyncio.gather(leaving, ending, return_exceptions=True)
    if ending.cancelled():
        place.release()  # telling may take long
        if wait.leave is not None:
            await _leave(wait.leave)
        return
    answer = await _in_thread(wait.finish)(ending.result())
    with contextlib.suppress(TimeoutError):  # a client that does not read
        if wait.events:
            await held.send_body(answer)
        else:
            await _send(held, answer)


async def _leave(leave: Callable[[], None]) -> None:
    """Tell that the client has left. It is repeated while the database is unavailable, since work that is not cancelled
    is paid for."""
    for pause in (*_LEAVE_PAUSES, None):
        try:
            await _in_thread(leave)()
        except Exception as error:
            if pause is None or not is_outage(error):
                raise
            await asyncio.sleep(pause)
        else:
            return


#: The beginning of a stream of events.
_STREAM: Final = Answer(
    headers={
        "Content-Type": "text/event-stream; charset=utf-8",
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",
    }
)


async def _send(held: _HeldResponse, answer: Answer) -> None:
    await held.start(answer)
    await held.send_body(answer)


class _Place:
    """A call's place among the waits of its user, which may be taken in any thread."""

    _lock: ClassVar = threading.Lock()
    _taken: ClassVar[Counter[int]] = Counter()

    def __init__(self) -> None:
        self._user_id: int | None = None

    def take(self, user_id: int) -> bool:
        """Take the place, unless it is taken. Return False if the user has too many waits."""
        with self._lock:
            if self._user_id is None:
                if self._taken[user_id] >= settings.WAITS_PER_USER:
                    return False
                self._taken[user_id] += 1
                self._user_id = user_id
            return True

    def release(self) -> None:
        """Release the place, if it is taken."""
        with self._lock:
            if self._user_id is not None:
                self._taken[self._user_id] -= 1
                if not self._taken[self._user_id]:
                    del self._taken[self._user_id]
                self._user_id = None

    def __enter__(self) -> _Place:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


async def _disconnected(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _ended(wait: Wait, held: _HeldResponse) -> bool:
    """Return whether all requests of the wait have ended, after at most its seconds or when the process stops."""
    waiter = _Waiter(wait.request_ids)
    over = asyncio.Event()
    with _registry.watching(waiter):
        look = asyncio.create_task(_registry.look_for({waiter: wait.request_ids}))
        tasks = [asyncio.create_task(stopping().wait()), asyncio.create_task(_known_end(waiter, look))]
        streaming = [asyncio.create_task(_stream(wait, held, waiter, over))] if wait.events else []
        try:
            await asyncio.wait([*tasks, *streaming], timeout=wait.seconds, return_when=asyncio.FIRST_COMPLETED)
            over.set()
            waiter.news.set()
            if streaming:
                await asyncio.wait(streaming)  # an event that has begun is sent to its end
        finally:
            for task in (look, *tasks, *streaming):
                task.cancel()
            await asyncio.gather(look, *tasks, *streaming, return_exceptions=True)
    return waiter.done.is_set()


async def _known_end(waiter: _Waiter, look: asyncio.Task[None]) -> None:
    """Wait for the first look, and then for the end. An update that arrives before the look may be older than the wait:
    of a request that was cancelled, and then retried by this very call."""
    await asyncio.wait({look})
    await waiter.done.wait()


async def _stream(wait: Wait, held: _HeldResponse, waiter: _Waiter, over: asyncio.Event) -> None:
    """Send the previews, and comments between them, so that proxies keep the connection open. Ends when the wait is
    ``over``, or if the client does not read."""
    with contextlib.suppress(TimeoutError):
        while not over.is_set():
            preview = await waiter.next_preview(settings.REALTIME_HEARTBEAT.total_seconds())
            if over.is_set():
                return
            if preview is None:
                await held.send_part(b": keep-alive\n\n")
            elif wait.preview is not None:
                await _send_preview(held, wait.preview, preview)


async def _send_preview(held: _HeldResponse, event_of: Callable[[Preview], Iterable[bytes]], preview: Preview) -> None:
    """Send the event of a preview. A preview that cannot be read is skipped if no part of it is sent yet."""
    loop = asyncio.get_running_loop()
    parts = iter(event_of(preview))
    try:
        part = await loop.run_in_executor(_threads, next, parts, None)
    except Exception as error:  # usually its attempt has ended, which deletes the file; the wait must go on
        logger.info("a preview was not sent: %s", error)
        return
    while part is not None:
        await held.send_part(part)
        part = await loop.run_in_executor(_threads, next, parts, None)


class _State(NamedTuple):
    """A request's sequence, and whether it has ended."""

    sequence: int
    has_ended: bool


#: Newer than every state.
_DELETED: Final = _State(sys.maxsize, has_ended=True)


class _Waiter:
    """The requests that a call still waits for. A subscriber of the hub."""

    def __init__(self, request_ids: Sequence[str]) -> None:
        self._sequences = dict.fromkeys(request_ids, 0)
        self.left = set(request_ids)
        self.done = asyncio.Event()
        self.news = asyncio.Event()
        self._preview: Preview | None = None
        self.note({})

    def show(self, preview: Preview) -> None:
        """Keep the preview, instead of an earlier one that is not sent yet."""
        self._preview = preview
        self.news.set()

    async def next_preview(self, seconds: float) -> Preview | None:
        """Wait for a preview, at most so many seconds, and return it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.news.wait()
        self.news.clear()
        preview, self._preview = self._preview, None
        return preview

    def deliver(self, update: Update) -> None:
        """Note a new state."""
        has_ended = json.loads(update.text)["data"]["status"] in TERMINAL
        self.note({update.request_id: _State(update.sequence, has_ended)})

    def note(self, states: Mapping[str, _State]) -> None:
        """Note the states that are not older than the known ones: an end may be followed by a retry."""
        for request_id, (sequence, has_ended) in states.items():
            if sequence >= self._sequences[request_id]:
                self._sequences[request_id] = sequence
                (self.left.discard if has_ended else self.left.add)(request_id)
        if self.left:
            self.done.clear()
        else:
            self.done.set()


class _Registry:
    """All waiters of this process. While there are any, one task looks for ends of which no update came."""

    def __init__(self) -> None:
        self._waiters: set[_Waiter] = set()
        self._looking: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def watching(self, waiter: _Waiter) -> Iterator[None]:
        """Tell the waiter of ends within the block."""
        request_ids = list(waiter.left)
        self._waiters.add(waiter)
        hub.follow(waiter, request_ids)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            yield
        finally:
            hub.unfollow(waiter, request_ids)
            self._waiters.discard(waiter)

    async def _look(self) -> None:
        while self._waiters:
            await asyncio.sleep(_LOOK_EVERY)
            await self.look_for({waiter: list(waiter.left) for waiter in self._waiters})

    async def look_for(self, asked: Mapping[_Waiter, Sequence[str]]) -> None:
        """Note the states of these requests, in one query for all of the waiters."""
        try:
            states = await _states_of({request_id for request_ids in asked.values() for request_id in request_ids})
        except Exception as error:  # the next look may succeed
            logger.warning("waiting calls rely on updates alone at the moment: %s", error)
            return
        for waiter, request_ids in asked.items():
            waiter.note({request_id: states[request_id] for request_id in request_ids})


_registry: Final = _Registry()


@in_database
def _states_of(request_ids: Collection[str]) -> dict[str, _State]:
    """Return the states of these requests. A deleted one has ended."""
    rows = GenerationRequest.objects.filter(pk__in=request_ids).values_list("pk", "sequence", "status")
    found = {pk: _State(sequence, status in TERMINAL) for pk, sequence, status in rows}
    return dict.fromkeys(request_ids, _DELETED) | found


def _in_thread(function: Callable[P, T]) -> Callable[P, Any]:
    return DatabaseSyncToAsync(function, thread_sensitive=False, executor=_threads)
