"""What live updates cost: from a commit to the client, memory for clients that only wait, and a storm."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from channels_redis.pubsub import RedisPubSubChannelLayer
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.floors import Floors
from benchmarks.plan import Plan
from benchmarks.report import Figure
from benchmarks.stacks import SETTINGS, FreshStack, resident
from tests.support.stack import Stack, own_redis, prepared_database, wait_until

_SOCKETS: Final = 1_000
_IDLE: Final = 5_000
_CHANGES: Final = 2_000
_STORM_RATE: Final = 2_000
_STORM_ROUNDS: Final = 20
#: A sequence past what the requests have come to.
_PAST: Final = 1_000
#: Handshakes under way at once.
_HANDSHAKES: Final = 50
_BODY: Final = {"type": "illustration", "prompt": "A friendly dragon in a garden full of flowers"}

#: Cancels and retries each in turn, and prints when each was committed. The note is taken before the update leaves.
_CHANGE: Final = """
import json, sys, time
from django.contrib.auth.models import User
from django.db import transaction
from generation.models import GenerationRequest
from generation.requests import lifecycle
ids = list(GenerationRequest.objects.order_by("pk").values_list("pk", flat=True))
actor = User.objects.get(username="alice")
committed = {{}}
for number in range({changes}):
    pk = ids[number % len(ids)]
    def note(key=f"{{pk}}:{{number // len(ids) + 2}}"):
        committed[key] = time.time()
    with transaction.atomic():
        transaction.on_commit(note)
        lifecycle.cancel([pk], actor=actor) if number // len(ids) % 2 == 0 else lifecycle.retry(pk, actor=actor)
    time.sleep(0.005)
time.sleep(1)  # so that the last update has left
print(json.dumps(committed))
"""

#: Sends each request's state, round by round, from four connections as four processes would; prints when each was sent.
_STORM: Final = """
import asyncio, json, time
from channels.layers import channel_layers
from generation.models import GenerationRequest
from generation.requests import events
requests = list(GenerationRequest.objects.order_by("pk"))
sent = {{}}
async def storm(part, began):
    layer = channel_layers.make_backend("default")
    for number in range(part, len(requests) * {rounds}, 4):
        request = requests[number % len(requests)]
        request.sequence = {first} + number // len(requests)
        ahead = number / {rate} - (time.monotonic() - began)
        if ahead > 0:
            await asyncio.sleep(ahead)
        update = events.update_of(request)
        sent[f"{{request.pk}}:{{request.sequence}}"] = time.time()
        await layer.group_send(events.UPDATES, events.message_of([update]))
    await layer.flush()
async def storms():
    began = time.monotonic()
    await asyncio.gather(*(storm(part, began) for part in range(4)))
asyncio.run(storms())
print(json.dumps(sent))
"""


def run(plan: Plan, floors: Floors) -> Iterator[Figure]:
    """Measure everything, one case after the other."""
    idle, sockets = plan.size(_IDLE, quick=500), plan.size(_SOCKETS, quick=200)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * idle)), hard))
    (plan.folder / "realtime").mkdir()
    caps = {"REALTIME_MAX_PER_USER": "1000000", "REALTIME_MAX_PER_ADDRESS": "1000000"}
    with contextlib.ExitStack() as opened:
        addresses = {
            "DATABASE_URL": opened.enter_context(prepared_database()),
            "REDIS_URL": opened.enter_context(own_redis()),
        }
        stack = FreshStack(plan.folder / "realtime", PROVIDERS="clipart", **(SETTINGS | caps | addresses))
        opened.callback(stack.stop_all)
        stack.start("web", "realtime")
        wait_until(stack.answers, seconds=30, what="the API")
        with stack.client() as client:
            token = client.headers["Authorization"]
            ids: list[str] = []
            for _ in range(sockets // 100):
                answer = client.post("/batch", json={"requests": [_BODY | {"projectId": "all"}] * 100}).json()
                ids += [one["requestId"] for one in answer["requests"]]
        changes = plan.size(_CHANGES, quick=400)
        plan.say(f"live updates: {changes:,} changes with {sockets:,} sockets")
        figure = asyncio.run(_changes(stack, token, ids, changes))
        yield figure.beside(floors.publish, "publish").hoping(p50=10, p99=30)
        plan.say(f"live updates: a storm of {_STORM_RATE:,} a second")
        yield asyncio.run(_storm(stack, token, ids)).beside(floors.publish, "publish")
        plan.say("live updates: one change for all")
        yield asyncio.run(_fan_out(stack, token, ids)).beside(floors.publish, "publish")
        plan.say(f"live updates: {idle:,} sockets that wait")
        yield asyncio.run(_idle(stack, token, idle))


class _Client:
    """One socket, and when each state came to it: by ``requestId:sequence``."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.heard: dict[str, float] = {}
        self._listening: asyncio.Task[None] | None = None

    async def subscribe(self, **target: str) -> None:
        """Watch, and from now on note what comes."""
        await self._connection.recv()  # that it is authenticated
        await self._connection.send(json.dumps({"type": "subscribe", **target}))
        await self._connection.recv()
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for text in self._connection:
            now = time.time()
            message = json.loads(text)
            self.heard[f"{message['requestId']}:{message['data']['sequence']}"] = now

    async def close(self) -> None:
        """Leave without waiting for an answer."""
        if self._listening is not None:
            self._listening.cancel()
        self._connection.transport.abort()


@contextlib.asynccontextmanager
async def _clients(stack: Stack, token: str, count: int) -> AsyncIterator[list[_Client]]:
    address = f"ws://127.0.0.1:{stack.realtime_port}/ws/visual-generation"
    room = asyncio.Semaphore(_HANDSHAKES)

    async def come() -> _Client:
        async with room:
            headers = {"Authorization": token}
            return _Client(
                await connect(
                    address, additional_headers=headers, compression=None, open_timeout=60, ping_interval=None
                )
            )

    clients = await asyncio.gather(*(come() for _ in range(count)))
    try:
        yield clients
    finally:
        for client in clients:
            await client.close()


async def _watching(clients: Sequence[_Client], targets: Sequence[dict[str, str]]) -> None:
    await asyncio.gather(*(one.subscribe(**target) for one, target in zip(clients, targets, strict=True)))


async def _until(holds: Callable[[], bool], seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not holds():  # noqa: ASYNC110  it is about what a thousand clients have heard
                await asyncio.sleep(0.05)


async def _changes(stack: Stack, token: str, ids: Sequence[str], changes: int) -> Figure:
    async with _clients(stack, token, len(ids)) as clients:
        await _watching(clients, [{"requestId": request_id} for request_id in ids])
        script = _CHANGE.format(changes=changes)
        printed = await asyncio.to_thread(stack.manage, "shell", "-v0", "-c", script)
        committed: dict[str, float] = json.loads(printed.strip().splitlines()[-1])
        heard = {key: at for client in clients for key, at in client.heard.items()}
    missing = committed.keys() - heard.keys()
    assert not missing, f"{len(missing)} of {len(committed)} updates did not come"
    taken = [(heard[key] - at) * 1000 for key, at in committed.items()]
    return Figure.of_times(f"commit to client, {len(ids):,} sockets", taken)


async def _storm(stack: Stack, token: str, ids: Sequence[str]) -> Figure:
    """Updates as the product sends them, but without a change behind them: no database makes so many. So what is lost
    here is not found again by looking into it."""
    last = _PAST + _STORM_ROUNDS - 1
    async with _clients(stack, token, len(ids)) as clients:
        await _watching(clients, [{"requestId": request_id} for request_id in ids])
        script = _STORM.format(first=_PAST, rounds=_STORM_ROUNDS, rate=_STORM_RATE)
        printed = await asyncio.to_thread(stack.manage, "shell", "-v0", "-c", script)
        sent: dict[str, float] = json.loads(printed.strip().splitlines()[-1])
        pairs = list(zip(clients, ids, strict=True))
        await _until(lambda: all(f"{one}:{last}" in client.heard for client, one in pairs), seconds=30)
        lost = sum(f"{one}:{last}" not in client.heard for client, one in pairs)
        heard = {key: at for client in clients for key, at in client.heard.items()}
    rate = len(sent) / (max(sent.values()) - min(sent.values()))
    taken = [(heard[key] - at) * 1000 for key, at in sent.items() if key in heard]
    goal = f"≥ 1,900/s, no last state lost ({lost} were; {len(taken):,} of {len(sent):,} came)"
    figure = Figure.of_times(f"storm of {_STORM_RATE:,} updates/s to {len(ids):,} sockets", taken)
    return replace(figure, rate=rate).also(goal, met=lost == 0 and rate >= 0.95 * _STORM_RATE)


def _message(request_id: str, sequence: int) -> dict[str, Any]:
    data = {"requestId": request_id, **_BODY, "status": "in-progress", "progress": 50, "sequence": sequence}
    text = json.dumps({"type": "update", "requestId": request_id, "data": data | {"metadata": {"title": "x" * 300}}})
    update = {
        "request_id": request_id,
        "batch_id": None,
        "owner_id": 0,
        "project_id": "",
        "sequence": sequence,
        "text": text,
    }
    return {"type": "request.updates", "updates": [update]}


async def _fan_out(stack: Stack, token: str, ids: Sequence[str]) -> Figure:
    """Until the last of all has the same change."""
    taken = []
    request_id = ids[0]
    keys = [f"live-updates:{stack.env['SECRET_KEY']}"]
    layer = RedisPubSubChannelLayer(hosts=[stack.env["REDIS_URL"]], prefix="vga", symmetric_encryption_keys=keys)
    async with _clients(stack, token, len(ids)) as clients:
        await _watching(clients, [{"requestId": request_id}] * len(ids))
        for sequence in range(2_000, 2_020):
            key, began = f"{request_id}:{sequence}", time.time()
            await layer.group_send("updates", _message(request_id, sequence))
            await _until(lambda key=key: all(key in client.heard for client in clients), seconds=20)  # type: ignore[misc]
            taken.append((max(client.heard[key] for client in clients) - began) * 1000)
    await layer.flush()
    return Figure.of_times(f"one change to {len(ids):,} sockets that watch it, the last", taken)


async def _idle(stack: Stack, token: str, sockets: int) -> Figure:
    before = resident(stack.pid("realtime"))
    async with _clients(stack, token, sockets):
        await asyncio.sleep(2)
        memory = resident(stack.pid("realtime"))
    goal = f"< 500 MB (is {(memory - before) / sockets * 1000:.0f} kB for each)"
    floor = Figure("the same without a socket", memory=before)
    figure = Figure(f"{sockets:,} idle sockets on one process", memory=memory).beside(floor, "no socket")
    return figure.also(goal, met=memory < 500)
