"""Webhooks: from a status change to the receiver when nothing else happens, and the rate with receivers that hang."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Final

from benchmarks.engines import BODY, Engine, engine
from benchmarks.floors import Floors
from benchmarks.plan import Plan
from benchmarks.report import Figure
from tests.support.stack import wait_until

#: Receivers at 127.0.0.1 and the following addresses, of which the first ones never answer.
_RECEIVERS: Final = 100
_HANGING: Final = 10
#: Goals: ms from the status change to the receiver, and deliveries in a second.
_LATENCY: Final = 50.0
_RATE: Final = 200.0
_ENDPOINTS: Final = """
from django.contrib.auth.models import User
from generation.identifiers import new_webhook_id
from generation.models import WebhookEndpoint
from generation.webhooks import signatures
# Ten for each owner, which is the most that one may have; the first ten, which hang, are of as many owners.
owners = [User.objects.get(username="alice")]
owners += [User.objects.get_or_create(username=f"owner-of-webhooks-{n}")[0] for n in range(1, 10)]
WebhookEndpoint.objects.bulk_create(
    WebhookEndpoint(
        id=new_webhook_id(), owner=owners[number % 10], events=<events>,
        url=f"http://127.0.0.{number}:<port>/",
        secret=signatures.encrypt(signatures.new()),
    )
    for number in range(<first>, <last> + 1)
)
"""
#: Events of the newest completed request, so many for each endpoint.
_DELIVERIES: Final = """
INSERT INTO generation_webhook_deliveries (
    id, owner_id, endpoint_id, target, host, url, event, request_id, batch_id, sequence, snapshot, state,
    next_attempt_at, expires_at
)
SELECT
    'vgd_' || lpad(n::text, 16, '0') || '_' || replace(gen_random_uuid()::text, '-', ''), endpoint.owner_id,
    endpoint.id, endpoint.id, split_part(split_part(endpoint.url, '/', 3), ':', 1), endpoint.url, 'request.completed',
    request.id, '', request.sequence, generation_webhook_snapshot(request), 'pending', now(), now() + interval '1 day'
FROM generation_webhook_endpoints AS endpoint
CROSS JOIN generate_series(1, {count}) AS n
CROSS JOIN (
    SELECT * FROM generation_requests WHERE status = 'completed' ORDER BY completed_at DESC LIMIT 1
) AS request
"""


class _Receivers:
    """A server at all addresses of loopback. It notes when each delivery came, with its body if asked to."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.bodies: list[bytes] = []
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        threading.Thread(target=self._run, args=[started], daemon=True).start()
        started.wait()

    def _run(self, started: threading.Event) -> None:
        async def start() -> None:
            server = await asyncio.start_server(self._answer, "0.0.0.0", 0, backlog=1024)  # noqa: S104  all of loopback
            self.port = int(server.sockets[0].getsockname()[1])
            started.set()

        self._loop.run_until_complete(start())
        self._loop.run_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            address = str(writer.get_extra_info("sockname")[0])
            if int(address.rpartition(".")[2]) <= _HANGING:
                await asyncio.sleep(3600)
            self.times.append(time.time())
            self.bodies.append(body)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()

    def has(self, count: int) -> bool:
        """Whether so many came."""
        return len(self.times) >= count

    def clear(self) -> None:
        """Forget what came."""
        self.times.clear()
        self.bodies.clear()


def run(plan: Plan, _: Floors) -> Iterator[Figure]:
    """Measure everything, one case after the other."""
    receivers = _Receivers()
    with engine(plan.folder, "webhooks", 14, WEBHOOK_ALLOWED_NETWORKS="127.0.0.0/8", WEBHOOK_ALLOW_HTTP="true") as up:
        up.start("web", "dispatcher", "worker", "deliverer")
        up.wait_ready()
        plan.say("webhooks: from the status change to the receiver")
        yield _latency(plan, up, receivers)
        plan.say(f"webhooks: {_RECEIVERS} receivers, {_HANGING} of which hang")
        yield _rate(plan, up, receivers)


def _make(up: Engine, receivers: _Receivers, first: int, last: int, events: list[str]) -> None:
    script = _ENDPOINTS.replace("<port>", str(receivers.port)).replace("<events>", repr(events))
    up.manage("shell", "-v0", "-c", script.replace("<first>", str(first)).replace("<last>", str(last)))


def _latency(plan: Plan, up: Engine, receivers: _Receivers) -> Figure:
    number = 2 * _HANGING  # the first of alice, who submits, that answers
    _make(up, receivers, number, number, ["request.completed"])
    count = plan.size(40, quick=10)
    with up.client() as client:
        for expected in range(1, count + 1):
            client.post("/submit", json=BODY).raise_for_status()
            wait_until(partial(receivers.has, expected), what="the delivery")
            time.sleep(0.1)
    taken = []
    for body, came in zip(receivers.bodies, receivers.times, strict=True):
        ended = datetime.fromisoformat(json.loads(body)["data"]["metadata"]["completedAt"])
        taken.append((came - ended.timestamp()) * 1000)
    return Figure.of_times("webhook: status change to receiver, idle", taken).hoping(p50=_LATENCY)


def _rate(plan: Plan, up: Engine, receivers: _Receivers) -> Figure:
    up.stop("web", "dispatcher", "worker", "deliverer")
    up.database.execute("DELETE FROM generation_webhook_deliveries")
    up.database.execute("DELETE FROM generation_webhook_endpoints")
    _make(up, receivers, 1, _RECEIVERS, ["request.approved"])
    each = plan.size(50, quick=10)
    up.database.execute(_DELIVERIES.format(count=each).encode())
    receivers.clear()
    up.start("deliverer")
    expected = each * (_RECEIVERS - _HANGING)
    wait_until(partial(receivers.has, expected), seconds=300, what=f"{expected} deliveries")
    rate = (expected - 1) / (receivers.times[-1] - receivers.times[0])
    figure = Figure(
        f"webhooks of {_RECEIVERS} receivers, {_HANGING} of which hang", rate=rate, memory=up.memory("deliverer")
    )
    return figure.also(f"≥ {_RATE:.0f}/s", met=rate >= _RATE)
