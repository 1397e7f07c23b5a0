"""The plans of the statements about webhooks with 300,000 old deliveries, and 10,000 due ones for one target."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import pytest
from django.contrib.auth.models import User
from django.db import connection
from pytest_django import DjangoDbBlocker

from generation.db import queries
from generation.models import WebhookDelivery, WebhookEndpoint
from generation.webhooks import leases
from tests.integration.test_query_plans import EXPECTED as OF_REQUESTS
from tests.support.plans import explain, nodes_of, rows_read
from tests.support.webhooks import endpoint_of

OLD: Final = 300_000
DUE: Final = 10_000
OTHERS: Final = 50
FILL: Final = f"""
INSERT INTO generation_webhook_deliveries (
    id, owner_id, endpoint_id, target, host, url, event, request_id, batch_id, sequence, snapshot, state,
    next_attempt_at, expires_at
)
SELECT
    'vgd_' || LPAD(n::TEXT, 16, '0') || '_aaaaaaaaaaaa', <owner>, '<dead>',
    CASE WHEN n <= {OLD + DUE} THEN '<dead>' ELSE 'target ' || n END,
    CASE WHEN n <= {OLD + DUE} THEN 'dead.example.org' ELSE n || '.example.org' END,
    'https://example.org/', 'request.completed', 'vga_' || n, '', 3, '{{}}',
    CASE WHEN n <= {OLD} THEN 'delivered' ELSE 'pending' END,
    CASE WHEN n > {OLD} THEN NOW() - INTERVAL '1 second' END,
    NOW() + INTERVAL '4 days'
FROM GENERATE_SERIES(1, {OLD + DUE + OTHERS}) AS n
"""  # noqa: S608  constants
TABLES: Final = "generation_webhook_deliveries, generation_webhook_events, generation_webhook_endpoints"


@pytest.fixture(scope="module")
def dead(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[WebhookEndpoint]:
    """The endpoint of the dead target."""
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        owner = User.objects.create(username="the owner of many deliveries")
        endpoint = endpoint_of(owner)
        cursor.execute(FILL.replace("<owner>", str(owner.pk)).replace("<dead>", endpoint.pk))
        cursor.execute(f"ANALYZE {TABLES}")
        yield endpoint
        cursor.execute(f"TRUNCATE {TABLES} CASCADE")
        owner.delete()


def _parameters(dead: WebhookEndpoint) -> dict[str, dict[str, Any]]:
    some = WebhookDelivery.objects.filter(state="pending").order_by("pk")[0]
    row = {
        "id": "vgd_9000000000000000_aaaaaaaaaaaa",
        "owner_id": dead.owner_id,
        "endpoint_id": dead.pk,
        "target": dead.pk,
        "host": "example.org",
        "url": "https://example.org/",
        "event": "batch.completed",
        "request_id": "",
        "batch_id": "vgb_1",
        "sequence": 3,
        "snapshot": {},
        "occurred_at": None,
        "unique_key": "one",
    }
    result = {"delivery": some.pk, "claim": 0, "state": "delivered", "entry": [{}], "delay": None, "tries": 1}
    return {
        "take webhook events": {"most": 200},
        "webhook targets": {"owners": [dead.owner_id]},
        "add deliveries": {"deliveries": json.dumps([row]), "lifetime": timedelta(days=4)},
        "take deliveries": {
            "room": 100,
            "suspect_room": 50,
            "suspects": [],
            "probed": [],
            "blocked": [],
            "of_target": 2,
            "of_host": 8,
            "of_owner": 25,
            "lease": timedelta(seconds=45),
        },
        "settle deliveries": {"results": json.dumps([result]), "deliveries": [some.pk]},
        "note endpoints": {
            "endpoints": [dead.pk],
            "succeeded": [],
            "gone": [],
            "patience": timedelta(days=5),
        },
        "end pending": {"target": "target 310050", "most": 1000, "error": "endpoint_disabled"},
        "end expired": {"most": 1000, "error": "expired"},
    }


#: For each statement the indexes that it relies on, and how many rows it may look at.
EXPECTED: Final[dict[str, tuple[set[str], int]]] = {
    "take webhook events": (set(), 10),
    "webhook targets": (set(), 10),
    "add deliveries": (set(), 5),
    "take deliveries": ({"webhook_delivery_due"}, 20 * OTHERS),
    "settle deliveries": ({"generation_webhook_deliveries_pkey"}, 10),
    "note endpoints": (set(), 20),
    "end pending": ({"webhook_delivery_due"}, 10),
    "end expired": ({"webhook_delivery_expiry"}, 10),
}
#: Tables with a few rows, in which reading all is the quickest.
SMALL: Final = {
    "generation_webhook_endpoints",
    "generation_webhook_events",
    "generation_requests",
    "generation_batches",
}


def test_each_statement_has_a_test_of_its_plan() -> None:
    assert {*OF_REQUESTS, *EXPECTED} == set(queries.ALL)


@pytest.mark.django_db
@pytest.mark.parametrize("name", EXPECTED)
def test_a_statement_about_webhooks_reads_by_its_indexes(dead: WebhookEndpoint, name: str) -> None:
    plan = explain(queries.ALL[name], _parameters(dead)[name])
    nodes, shown = list(nodes_of(plan)), json.dumps(plan, indent=1)
    indexes, most = EXPECTED[name]
    assert {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"} <= SMALL, shown
    assert indexes <= {re.sub(r"_id_[0-9a-f]{8}_like$", "_pkey", node.get("Index Name", "")) for node in nodes}, shown
    assert rows_read(nodes) <= most, shown


@pytest.mark.django_db
def test_taking_is_quick_behind_a_dead_target(dead: WebhookEndpoint) -> None:
    blocked = {"room": 100, "suspect_room": 50, "suspects": [dead.pk], "blocked": [dead.pk]}
    leases.take(**blocked)  # type: ignore[arg-type]
    started = time.perf_counter()
    for _ in range(10):
        leases.take(**blocked)  # type: ignore[arg-type]
    took = (time.perf_counter() - started) / 10
    print(f"{took * 1000:.1f} ms")  # noqa: T201
    assert took < 0.1
