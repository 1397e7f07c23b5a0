"""The plans of the hot statements with 300,000 requests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import pytest
from django.contrib.auth.models import User
from django.db import connection
from pytest_django import DjangoDbBlocker

from generation.db import queries
from generation.db.functions import Now
from generation.models import GenerationQueue, GenerationRequest
from generation.states import WEIGHTS
from tests.support.plans import explain, keeps_plan, nodes_of, rows_read

REQUESTS: Final = 300_000
#: Half of them are queued. Of the others all but these have ended.
RUNNING: Final = 200
#: Tables with a few rows, in which reading all is the quickest.
SMALL: Final = {
    "generation_estimates",  # a sample, which the dispatcher bounds
    "generation_pauses",
    "generation_providers",
    "generation_batches",
    "generation_api_keys",
    "generation_webhook_endpoints",
}
#: With its triggers and constraints switched off for the time being.
FILL: Final = f"""
SET session_replication_role = replica;
INSERT INTO generation_requests (
    id, owner_id, type, prompt, priority, project_id, page_id, metadata, status, sequence, claims, attempts,
    max_attempts, waits, worker, result, created_at, started_at, completed_at, lease_expires_at
)
SELECT
    'vga_' || LPAD(n::TEXT, 16, '0') || '_aaaaaaaaaaaa', <owner>, 'coloring-page', 'A friendly dragon in a garden',
    'normal', '', '', '{{}}', status, 2,
    CASE WHEN status = 'queued' THEN 0 ELSE 1 END,
    CASE WHEN status = 'queued' THEN 0 ELSE 1 END,
    3, 0,
    CASE WHEN status = 'in-progress' THEN 'worker-1' ELSE '' END,
    CASE WHEN status = 'completed' THEN '{{}}'::JSONB END,
    NOW() - n * INTERVAL '1 second',
    CASE WHEN status <> 'queued' THEN NOW() END,
    CASE WHEN status = 'completed' THEN NOW() END,
    CASE WHEN status = 'in-progress' THEN NOW() + INTERVAL '1 hour' * (n % 4 - 2) END
FROM (
    SELECT n, CASE
        WHEN n % 2 = 0 THEN 'queued'
        WHEN n <= {2 * RUNNING} THEN 'in-progress'
        ELSE 'completed'
    END AS status
    FROM GENERATE_SERIES(1, {REQUESTS}) AS n
) AS numbers;
INSERT INTO generation_queue (
    request_id, priority_weight, dispatch_count, held, waits_for, queued_at, fair_key, turn
)
SELECT
    id, (ARRAY[1000, 100, 10, 1])[1 + row_number % 4], 0, FALSE, '', created_at, '<owner>', {REQUESTS} - row_number
FROM (
    SELECT id, created_at, ROW_NUMBER() OVER () AS row_number
    FROM generation_requests
    WHERE status = 'queued'
) AS queued;
INSERT INTO generation_attempts (
    request_id, claim, number, worker, provider, model, prompt, provider_request_id, billable, usage, outcome,
    error_code, error_message, started_at, finished_at
)
SELECT id, 1, 1, 'worker-1', 'clipart', 'openmoji', '', '', TRUE, '{{}}',
    CASE WHEN status = 'completed' THEN 'succeeded' ELSE 'running' END, '', '', started_at, completed_at
FROM generation_requests
WHERE status <> 'queued';
INSERT INTO generation_status_changes (request_id, sequence, from_status, to_status, reason, error_code, claim, at)
SELECT id, number, 'queued', 'in-progress', 'claimed', '', 1, started_at
FROM generation_requests, GENERATE_SERIES(1, 2) AS number
WHERE status <> 'queued';
INSERT INTO generation_estimates (
    request_id, estimated_p50, estimated_p90, given_p50, given_p90, given_at, started_after, measured_at
)
SELECT
    id, 10, 20, 10, 20, created_at, CASE WHEN is_old THEN 12 END, CASE WHEN is_old THEN NOW() - n * '1s'::INTERVAL END
FROM (
    SELECT id, created_at, n % 3 = 0 AS is_old, n
    FROM (SELECT id, created_at, ROW_NUMBER() OVER (ORDER BY id) AS n FROM generation_requests) AS numbered
    WHERE n <= 6000
) AS given;
RESET session_replication_role;
"""  # noqa: S608  constants
TABLES: Final = (
    "generation_requests, generation_queue, generation_attempts, generation_status_changes, generation_estimates"
)


@pytest.fixture(scope="module")
def owner(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[User]:
    """The owner of all requests in the tables."""
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        owner = User.objects.create(username="the owner of many")
        cursor.execute(FILL.replace("<owner>", str(owner.pk)))
        cursor.execute(f"ANALYZE {TABLES}")
        yield owner
        cursor.execute(f"TRUNCATE {TABLES} CASCADE")
        owner.delete()


def _parameters(owner: User) -> dict[str, dict[str, Any]]:
    """What each statement is given: requests in the middle of the tables."""
    waiting = GenerationQueue.objects.filter(priority_weight=10).order_by("turn")[20_000]
    front = GenerationQueue.objects.order_by("-priority_weight", "turn")[100]
    running = GenerationRequest.objects.filter(status="in-progress").order_by("pk")
    lost = running.filter(lease_expires_at__lt=Now())[0]
    soon = timedelta(seconds=30)
    draft = {
        "id": "vga_9000000000000000_aaaaaaaaaaaa",
        "type": "cover",
        "prompt": "A friendly dragon in a garden",
        "priority": "low",
        "project_id": "",
        "page_id": "",
        "metadata": {},
        "variation": 0,
        "max_attempts": 3,
        "owner_id": owner.pk,
        "batch_id": None,
        "api_key_id": None,
        "cancel_after": None,
        "not_before": None,
        "fair_key": str(owner.pk),
        "http_request_id": "",
        "traceparent": "",
        "webhook_url": "",
        "priority_weight": 1,
        "held": False,
        "sent": True,
    }
    ending = {
        "request": running[0].pk,
        "claim": 1,
        "expired": False,
        "target": "failed",
        "reason": "failed",
        "error": {},
        "outcome": "failed",
        "keep_deadline": False,
        "error_code": "unavailable",
        "error_message": "",
        "provider_request": "",
        "booked": "0.04",
    }
    again = {
        "reason": "retry",
        "attempts_back": 0,
        "waits": 0,
        "weight": 1,
        "delay": 30,
        "waits_for": "",
        "sent": False,
    }
    claim = {"requests": [front.pk], "worker": "worker-2", "lease": soon, "reserved": False}
    end = {"requests": [running[0].pk], "endings": json.dumps([ending])}
    release = {"requests": [running[0].pk], "endings": json.dumps([ending | again]), "lost_after": soon}
    call = {"request": running[0].pk, "claim": 1, "provider": "openai", "model": "m", "prompt": "p", "billable": True}
    return {
        "submit": {
            "requests": json.dumps([draft]),
            "lost_after": soon,
        },
        "take key": {"owner": owner.pk, "key": "key-1", "fingerprint": "", "lifetime": soon},
        "count ahead": {"request": waiting.pk},
        "claim": claim,
        "claim unlocked": claim,
        "begin calls": {"calls": json.dumps([call | {"estimate": "0.04"}]), "deadline": soon},
        "end": end,
        "end unlocked": end,
        "release": release,
        "release unlocked": release,
        "extend leases": {
            "requests": [request.pk for request in running[:100]],
            "claims": [1] * 100,
            "worker": "worker-1",
            "lease": soon,
        },
        "expired leases": {"most": 500},
        "rescue": {"request": lost.pk},
        "send due": {
            "lowest": 10,
            "highest": 100,
            "front": 200,
            "room": 50,
            "providers": ["clipart", "openai"],
            "lost_after": soon,
            "most_patience": 20,
        },
        "note approval": {"request": waiting.pk},
        "ended batches": {"batches": ["vgb_1", "vgb_2"]},
        "unpark": {"requests": [waiting.pk], "weights": json.dumps(WEIGHTS)},
        "find": {"request": waiting.pk, "owner": owner.pk},
        "sources": {"requests": [request.pk for request in running[:16]], "owner": owner.pk},
        "find all": {"requests": [request.pk for request in running[:100]]},
        "find with ahead": {"request": waiting.pk, "owner": owner.pk},
        "recent durations": {"newest": 2_000},
        "measure estimates": {"most": 2_000, "kept": 1_000},
        "measured estimates": {"newest": 500},
        "find version": {"request": waiting.pk, "owner": owner.pk},
    }


#: For each statement the indexes that it relies on, and how many rows it may look at.
EXPECTED: Final[dict[str, tuple[set[str], int]]] = {
    "submit": ({"queue_turns"}, 4 * queries.COUNTED),
    "take key": (set(), 5),
    "count ahead": ({"queue_turns", "queue_fair_key", "generation_queue_pkey"}, 6 * queries.COUNTED),
    "claim": ({"generation_requests_pkey", "generation_queue_pkey"}, 20),
    "claim unlocked": ({"generation_requests_pkey", "generation_queue_pkey"}, 20),
    "begin calls": ({"attempt_one_per_claim"}, 10),
    "end": ({"generation_requests_pkey", "attempt_one_per_claim"}, 30),
    "end unlocked": ({"generation_requests_pkey", "attempt_one_per_claim"}, 30),
    "release": ({"generation_requests_pkey", "attempt_one_per_claim"}, 30),
    "release unlocked": ({"generation_requests_pkey", "attempt_one_per_claim"}, 30),
    "extend leases": ({"generation_requests_pkey"}, 1000),
    "expired leases": ({"request_lease"}, 500),
    "rescue": ({"request_lease", "attempt_one_per_claim"}, RUNNING),
    "send due": ({"queue_startable", "generation_queue_pkey"}, 2000),
    "unpark": ({"generation_queue_pkey"}, 10),
    "note approval": ({"generation_requests_pkey"}, 10),
    "ended batches": ({"request_batch"}, 10),
    "find": ({"generation_requests_pkey"}, 2),
    "find all": ({"generation_requests_pkey"}, 200),
    "sources": ({"generation_requests_pkey"}, 32),
    "find with ahead": ({"generation_requests_pkey", "queue_turns", "queue_fair_key"}, 6 * queries.COUNTED),
    "recent durations": (
        {"request_completed_newest", "request_failed_newest", "attempt_one_per_claim"},
        8_100,
    ),
    "measure estimates": ({"estimate_open", "estimate_measured", "generation_requests_pkey"}, 30_000),
    "measured estimates": ({"estimate_measured"}, 500),
    "find version": ({"generation_requests_pkey", "queue_turns", "queue_fair_key"}, 6 * queries.COUNTED),
}


@pytest.mark.django_db
@pytest.mark.parametrize("name", EXPECTED)
def test_a_hot_statement_reads_by_its_indexes(owner: User, name: str) -> None:
    plan = explain(queries.ALL[name], _parameters(owner)[name])
    nodes = list(nodes_of(plan))
    indexes, most = EXPECTED[name]
    scanned = {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}
    shown = json.dumps(plan, indent=1)
    assert scanned <= SMALL, shown
    # Django gives a text key a second index, for LIKE. PostgreSQL takes either of them for an equality.
    used = {re.sub(r"(_request)?_id_[0-9a-f]{8}_like$", "_pkey", node.get("Index Name", "")) for node in nodes}
    assert indexes <= used, shown
    assert rows_read(nodes) <= most, shown


#: Statements that are planned for each call. A claim is for one request, and PostgreSQL expects ten of a list that it
#: does not know; the durations are read once in a while.
PLANNED_EACH_TIME: Final = {"claim", "claim unlocked", "recent durations"}


@pytest.mark.django_db
@pytest.mark.parametrize("name", sorted(set(EXPECTED) - PLANNED_EACH_TIME))
def test_a_hot_statement_is_planned_once(owner: User, name: str) -> None:
    assert keeps_plan(queries.ALL[name], _parameters(owner)[name])


@pytest.mark.django_db
@pytest.mark.parametrize("is_staff", [False, True])
@pytest.mark.parametrize("approval", ["approved", "rejected"])
def test_a_list_by_decision_reads_by_its_index(owner: User, approval: str, is_staff: bool) -> None:
    """The decided requests are the oldest, and few."""
    completed = GenerationRequest.objects.filter(status="completed").order_by("pk").values("pk")
    GenerationRequest.objects.filter(pk__in=completed[:200]).update(approval="approved")
    GenerationRequest.objects.filter(pk__in=completed[200:300]).update(approval="rejected")
    rows = GenerationRequest.objects.filter(**({} if is_staff else {"owner": owner}), approval=approval)
    page = rows.order_by("-pk").values("pk")[:21]
    [plan] = json.loads(page.explain(format="json", analyze=True))
    used = {node.get("Index Name") for node in nodes_of(plan["Plan"])}
    assert used & {"request_approval_newest", "request_owner_approval"}, plan
    read = [node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in nodes_of(plan["Plan"])]
    assert max(read) <= 300, plan
