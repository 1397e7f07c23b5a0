"""Data for the screenshots: a day's work, images in the Studio, and some running requests."""

from __future__ import annotations

import itertools
import json
import signal
from pathlib import Path

import psycopg

from tests.faults.house import House
from tests.support.stack import wait_until

#: Requests that the worker can work on at once.
PLACES = 5
_DRAWN = [
    ("background", "A quiet beach with palm trees and a boat", "landscape"),
    ("coloring-page", "An elephant and a giraffe at a birthday party", "landscape"),
    ("coloring-page", "Three cats under an apple tree", "square"),
    ("illustration", "Two astronauts waving at a rocket on the moon", "square"),
    ("coloring-page", "An octopus juggling starfish under the sea", "portrait"),
    ("cover", "A brave knight and a dragon before a castle", "portrait"),
    ("illustration", "A fox and an owl having a picnic in the forest", "square"),
    ("coloring-page", "A friendly dragon playing in a garden", "square"),
]
#: The character of the newest image, and drawings that alice has uploaded.
_SHEET = "Dot is a friendly green dragon"
_UPLOADS = ("fox-forest", "octopus", "knight-cover", "garden-background")
_GALLERY = Path(__file__).parents[2] / "docs" / "gallery"
#: Requests of the staff that ended in each of the last hours, and seconds that they waited; as rows, as no test waits
#: for a day.
_DAY = """
INSERT INTO generation_requests (id, owner_id, type, prompt, priority, project_id, page_id, metadata, status, sequence,
    claims, attempts, max_attempts, waits, worker, result, error, created_at, started_at, completed_at)
SELECT 'vga_' || (extract(epoch FROM ended) * 1000000)::bigint || '_' || substr(md5(number::text), 1, 18),
    (SELECT id FROM auth_user WHERE username = 'bob'), 'illustration', 'A page of a book', 'normal', '', '', '{}',
    CASE WHEN failed THEN 'failed' ELSE 'completed' END, 3, 1, 1, 3, 0, '',
    CASE WHEN failed THEN NULL ELSE '{"cached": false}'::jsonb END,
    CASE WHEN failed THEN jsonb_build_object('message', 'It failed', 'code',
        (ARRAY['refused_input', 'timeout', 'refused_input', 'unavailable'])[number % 4 + 1]) END,
    ended - interval '9 seconds', ended - interval '6 seconds', ended
FROM (
    SELECT row_number() OVER () AS number, ended, number % 17 = 5 AS failed FROM (
        SELECT row_number() OVER () AS number, now() - make_interval(hours => hour, secs => 30 * place) AS ended
        FROM generate_series(1, 23) AS hour,
            generate_series(1, 12 + (14 * (1 + sin(hour / 3.2)))::int + (hour * 7) %% 5) AS place
    ) AS counted
) AS day
"""
_ATTEMPTS = """
INSERT INTO generation_attempts (request_id, claim, number, worker, provider, model, prompt, provider_request_id,
    billable, usage, outcome, error_code, error_message, started_at, finished_at)
SELECT id, 1, 1, 'worker', 'openai', 'gpt-image-2', '', '', true, '{}',
    CASE WHEN status = 'failed' THEN 'failed' ELSE 'succeeded' END, coalesce(error ->> 'code', ''), '',
    created_at + make_interval(secs => 1.2 + 2 * (1 + sin(extract(epoch FROM created_at) / 9000))), completed_at
FROM generation_requests
"""
#: The triggers on this table feed the counters, from which the charts are read.
_HISTORY = """
INSERT INTO generation_status_changes (request_id, sequence, from_status, to_status, reason, error_code, claim, at)
SELECT id, 1, '', 'queued', 'submitted', '', 0, created_at FROM generation_requests
UNION ALL SELECT request_id, 2, 'queued', 'in-progress', 'claimed', '', 1, started_at FROM generation_attempts
UNION ALL SELECT request_id, 3, 'in-progress', status, status, error_code, 1, finished_at
FROM generation_attempts JOIN generation_requests AS request ON request.id = request_id
"""
#: The keys of alice by their names, with what only time and use would set.
_KEYS = {
    "Open WebUI on the NAS": """created_at = now() - interval '90 days', expires_at = now() - interval '2 days',
        last_used_at = now() - interval '3 days', last_used_from = '192.168.1.20'""",
    "Page layout plugin": "created_at = now() - interval '20 days', expires_at = now() + interval '70 days'",
    "Bookshop importer": """last_used_at = now() - interval '4 minutes', last_used_from = '203.0.113.7',
        expires_at = now() + interval '300 days', daily_budget = 5, rate = '20/m', max_active = 3,
        max_priority = 'high', scopes = '["requests:read", "requests:write", "metrics"]',
        previous_digest = repeat('0', 64), previous_until = now() + interval '20 hours'""",
}
#: The webhooks of alice by their addresses, with what only a receiver and time would set.
_WEBHOOKS = {
    "https://old-shop.example.org/hook": """enabled = false, disabled_reason = 'gone', description = 'The former shop',
        failing_since = now() - interval '3 days'""",
    "https://layout.example.org/visual-generation/events": """failing_since = now() - interval '5 hours',
        project_id = 'spring', description = 'Page layout'""",
    "https://shop.example.org/webhooks/images": """description = 'Print shop, orders',
        previous_secret = secret, previous_until = now() + interval '20 hours'""",
}
#: The deliveries of the last two: state, event, minutes since, and the log as [seconds later, status, error, ms].
_DELIVERIES: list[tuple[str, str, int, list[tuple[int, int | None, str | None, int]]]] = [
    ("delivered", "request.completed", 2, [(0, 200, None, 84)]),
    ("pending", "request.completed", 9, [(0, 503, "rejected", 212), (5, None, "timeout", 15_000)]),
    ("delivered", "request.failed", 40, [(0, 502, "rejected", 31), (5, 200, None, 97)]),
    ("delivered", "batch.completed", 95, [(0, 204, None, 61)]),
    ("failed", "request.completed", 5_000, [(0, None, "certificate", 48), (5, None, "certificate", 51)]),
    ("delivered", "webhook.test", 5_100, [(0, 200, None, 102)]),
]
_DELIVERY = """
INSERT INTO generation_webhook_deliveries (id, owner_id, endpoint_id, target, host, url, event, request_id, batch_id,
    sequence, snapshot, state, tries, attempts, next_attempt_at, expires_at, occurred_at)
SELECT 'vgd_' || (extract(epoch FROM moment) * 1000000)::bigint || '_' || substr(md5(%(event)s::text), 1, 18), owner_id,
    id, id, 'shop.example.org', url, %(event)s::text, %(request)s, %(batch)s, 3, '{}', %(state)s::text, 1, (
        SELECT jsonb_agg(jsonb_build_object('at', to_char((moment + make_interval(secs => (entry ->> 0)::int))
            AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'status', entry -> 1, 'error', entry -> 2,
            'ms', entry -> 3)) FROM jsonb_array_elements(%(log)s::jsonb) AS entry
    ), CASE WHEN %(state)s::text = 'pending' THEN now() + interval '21 minutes' END, now() + interval '4 days', moment
FROM generation_webhook_endpoints, (SELECT now() - make_interval(mins => %(minutes)s) AS moment) AS past
WHERE url = %(url)s
"""


def set_up_webhooks(house: House, request_id: str) -> None:
    """Give alice webhooks with deliveries, as if the request had been completed recently."""
    house.execute("TRUNCATE generation_webhook_endpoints, generation_webhook_events CASCADE")
    with house.stack.client("alice") as alice:
        for url, columns in _WEBHOOKS.items():
            events = ["request.completed", "request.failed", "request.cancelled"]
            body = {"url": "http://127.0.0.1:9/", "events": [*events, *(["batch.completed"] if "shop." in url else [])]}
            webhook_id = alice.post("/webhooks", json=body).raise_for_status().json()["webhookId"]
            change = f"UPDATE generation_webhook_endpoints SET url = %s, {columns} WHERE id = %s"  # noqa: S608  a test's own
            house.execute(change, url, webhook_id)
    with psycopg.connect(house.database_url, autocommit=True) as connection:
        for state, event, minutes, log in _DELIVERIES:
            values = {"state": state, "event": event, "minutes": minutes, "log": json.dumps(log), "url": url}
            values["request"] = request_id if event.startswith("request.") else ""
            values["batch"] = "vgb_1795910000000000_k3v9x2m7q4w8z1c5t1" if event.startswith("batch.") else ""
            connection.execute(_DELIVERY, values)


def set_up(house: House) -> str:
    """Replace all that is in the house; what runs goes on until it is released. Returns the id of a request whose page
    has much to show."""
    house.wait_all_ended()
    house.execute("TRUNCATE generation_requests, generation_batches, generation_uploads CASCADE")
    house.execute(_DAY.replace("%%", "%"))
    house.execute(_ATTEMPTS)
    house.execute(_HISTORY)
    # It caches some numbers for up to a minute. At once, since a browser keeps its connections open.
    house.stack.stop("web", by=signal.SIGKILL)
    house.stack.start("web")
    wait_until(house.stack.answers, seconds=30, what="the pages")
    house.provider.reset()
    with house.stack.client("alice") as alice, house.stack.client("bob") as bob:
        pages = itertools.count(1)
        for name, columns in _KEYS.items():
            made = alice.post("/keys", json={"name": name, "scopes": ["requests:read", "requests:write"]})
            key_id = made.raise_for_status().json()["keyId"]
            house.execute(f"UPDATE generation_api_keys SET {columns} WHERE id = %s", key_id)  # noqa: S608  a test's own

        for name in _UPLOADS:
            with (_GALLERY / f"{name}.png").open("rb") as file:
                alice.post("/uploads", files={"file": file}).raise_for_status()

        def submit(
            kind: str, prompt: str, ratio: str = "square", *, character: str = "", name: str = "", **metadata: object
        ) -> str:
            body = {"type": kind, "prompt": prompt, "projectId": "The dragon’s year", "pageId": f"page {next(pages)}"}
            more: dict[str, object] = {"metadata": {"aspectRatio": ratio, **metadata}}
            if character:
                more["references"] = [{"requestId": character, "name": name}]
            answer = alice.post("/submit", json=body | more)
            return str(answer.raise_for_status().json()["requestId"])

        for kind, prompt, ratio in _DRAWN[:-2]:
            submit(kind, prompt, ratio, seed=7)
        house.wait_all_ended()
        with house.stack.client("charlie") as charlie:
            body = {"type": "illustration", "prompt": "A fox with a red scarf in the snow", "variations": 4}
            made = charlie.post("/submit", json=body | {"pageId": "page 1"}).raise_for_status().json()["requestIds"]
            house.wait_all_ended()
            for request_id, approval in ((made[0], "rejected"), (made[2], "approved")):
                charlie.patch(f"/requests/{request_id}", json={"approval": approval}).raise_for_status()
        house.provider.script(default="moderation=input")
        submit("illustration", "A pirate with a cannon", provider="openai")
        house.wait_all_ended()
        drawn = submit(*_DRAWN[-2], seed=7)
        house.wait_for(drawn, "completed")
        sheet = submit("character-reference", _SHEET, "landscape", seed=3)
        house.wait_for(sheet, "completed")
        house.provider.script(default="hold=1")
        submit("illustration", "A whale below a lighthouse", provider="openai")
        drawn = submit(*_DRAWN[-1], seed=3, character=sheet, name="Dot")
        house.wait_for(drawn, "completed")
        # The rest of the worker's places, and some that wait for one.
        for priority, count in (("normal", 4), ("urgent", 1), ("high", 3), ("normal", 6), ("low", 2)):
            for _ in range(count):
                body = {"type": "illustration", "prompt": "A page of a book", "priority": priority}
                bob.post("/submit", json=body | {"metadata": {"provider": "openai"}}).raise_for_status()
        house.wait_for_active_calls(PLACES)
    set_up_webhooks(house, drawn)
    return drawn
