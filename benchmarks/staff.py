"""The staff's list of requests over a large table: pages, filters and searches, as the web process answers them."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from typing import Final

import httpx2
import psycopg

from benchmarks import rows
from benchmarks.plan import Plan
from benchmarks.report import Figure
from benchmarks.stacks import FloorStack, FreshStack
from tests.support.stack import PASSWORD, Stack, prepared_database, wait_until

_LIST: Final = "/admin/generation/generationrequest/"
#: What staff wait for at the most, in ms.
_GOAL: Final = 300
#: Each page is asked for so often after the first time, which finds nothing in the server's memory.
_TIMES: Final = 5

#: A rare word, a rare error and a rare provider, as they are in life.
_RARE: Final = """
UPDATE generation_requests SET prompt = prompt || ' zeppelin' WHERE id IN (
    SELECT id FROM generation_requests WHERE status = 'completed' ORDER BY md5(id) LIMIT 40);
UPDATE generation_requests SET type = 'cover' WHERE type = 'background';
UPDATE generation_requests SET error = error || '{"code": "invalid_image"}' WHERE id IN (
    SELECT id FROM generation_requests WHERE status = 'failed' ORDER BY id LIMIT 20);
UPDATE generation_attempts SET provider = 'openai'
    WHERE id IN (SELECT id FROM generation_attempts ORDER BY id LIMIT 30);
INSERT INTO generation_batches (id, owner_id, priority, created_at)
    SELECT 'vgb_1700000000000000_000000000', min(id), 'normal', now() FROM auth_user;
UPDATE generation_requests SET batch_id = 'vgb_1700000000000000_000000000' WHERE id IN (
    SELECT id FROM generation_requests ORDER BY id LIMIT 100);
"""
_CASES: Final[dict[str, dict[str, str]]] = {
    "first page": {},
    "status failed": {"status": "failed"},
    "status completed": {"status": "completed"},
    "priority urgent": {"priority": "urgent"},
    "type cover": {"type": "cover"},
    "a rare type": {"type": "background"},
    "an error that is rare": {"error": "invalid_image"},
    "an error that is common": {"error": "unavailable"},
    "a provider that is rare": {"provider": "openai"},
    "a provider that is common": {"provider": "clipart"},
    "an unused provider": {"provider": "google"},
    "owner": {"owner": "owner-7"},
    "project": {"project": "project-500"},
    "batch": {"batch": "vgb_1700000000000000_000000000"},
    "failed of an owner with an error": {"owner": "owner-7", "status": "failed", "error": "unavailable"},
    "urgent of an owner and type": {"owner": "owner-7", "type": "cover", "priority": "urgent"},
    "search: a rare word": {"q": "zeppelin"},
    "search: words of every prompt": {"q": "friendly dragon"},
    "search: a rare word among the failed": {"q": "zeppelin", "status": "failed"},
    "search: an unused word": {"q": "xylophone"},
    "search: project": {"q": "project-500"},
}


def run(plan: Plan) -> Iterator[Figure]:
    """Make the table, and measure every page."""
    total = plan.staff_requests
    with prepared_database() as url:
        plan.say(f"staff's pages: making {total:,} requests")
        rows.make(url, total=total, queued=total // 10, more=_RARE)
        with psycopg.connect(url, autocommit=True) as connection:
            found = connection.execute(
                "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY id), max(to_char(created_at, 'YYYY-MM-DD')) "
                "FROM generation_requests"
            ).fetchone()
        assert found is not None
        middle, day = found
        for name in ("staff", "staff-floor"):
            (plan.folder / name).mkdir()
        stack = FreshStack(plan.folder / "staff", DATABASE_URL=url, WEB_WORKERS="1")
        view = FloorStack(plan.folder / "staff-floor", WEB_WORKERS="1")
        stack.manage("shell", "-v0", "-c", _MAKE_STAFF)
        try:
            for one in (view, stack):
                one.start("web")
                wait_until(one.answers, seconds=30, what="the web process")
            plan.say("staff's pages")
            more = {"deep page": {"p": f"older.{middle}"}, "a day": {"on": day}, "search: id": {"q": middle}}
            with httpx2.Client(base_url=view.base_url) as client:
                floor = _measured(client, "floor: empty view, one reader in Python", {})
            yield floor
            with contextlib.closing(_signed_in(stack)) as client:
                for name, query in (_CASES | more).items():
                    yield _measured(client, f"admin: {name}", query).beside(floor, "empty view").hoping(p50=_GOAL)
        finally:
            for one in (view, stack):
                one.stop_all()


_MAKE_STAFF: Final = """
from django.contrib.auth.models import Group, User
bob = User.objects.get(username="bob")
bob.groups.add(Group.objects.get(name="operator"))
"""


def _signed_in(stack: Stack) -> httpx2.Client:
    """Bob's browser."""
    client = httpx2.Client(base_url=stack.base_url, timeout=60)
    page = client.get("/admin/login/").text
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert token
    body = {"username": "bob", "password": PASSWORD, "csrfmiddlewaretoken": token[1], "next": "/admin/"}
    answer = client.post("/admin/login/", data=body, headers={"Referer": f"{stack.base_url}/admin/login/"})
    assert answer.status_code == 302, answer.text[:300]
    return client


def _measured(client: httpx2.Client, case: str, query: dict[str, str]) -> Figure:
    taken = []
    for _ in range(_TIMES + 1):
        began = time.perf_counter()
        answer = client.get(_LIST, params=query)
        taken.append((time.perf_counter() - began) * 1000)
        assert answer.status_code == 200, (case, answer.text[:300])
    return Figure.of_times(case, taken[1:])
