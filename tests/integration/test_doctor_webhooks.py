"""What ``manage.py doctor`` finds about webhooks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from generation.models import WebhookDelivery, WebhookEvent, WorkerProcess
from generation.reports import webhook_checks
from generation.reports.findings import Finding
from generation.states import ProcessKind
from generation.webhooks import signatures
from tests.support.deliveries import attempt, delivery_of
from tests.support.webhooks import endpoint_of

pytestmark = pytest.mark.django_db

LONG_AGO = timedelta(minutes=2)


def found() -> list[Finding]:
    """All findings about webhooks."""
    return [finding for check in webhook_checks.CHECKS for finding in check()]


def the_finding() -> Finding:
    """The one finding."""
    [finding] = found()
    return finding


@pytest.fixture
def deliverer(db: None) -> WorkerProcess:
    """A live deliverer."""
    return WorkerProcess.objects.create(name="deliverer-1", slots=0, kind=ProcessKind.DELIVERER)


def test_nothing_is_found_without_webhooks(alice: User) -> None:
    assert found() == []
    delivery_of(endpoint_of(alice))
    assert found() == [], "it has just become due"


def test_waiting_webhooks_without_a_deliverer_are_found(alice: User) -> None:
    delivery = delivery_of(endpoint_of(alice), next_attempt_at=timezone.now() - LONG_AGO)
    WebhookEvent.objects.create(request_id="x", sequence=1, event="request.completed", snapshot={})
    WebhookEvent.objects.update(at=timezone.now() - LONG_AGO)
    finding = the_finding()
    assert finding.what == "No deliverer is up, and webhooks wait: 2"
    assert (finding.why, finding.remedy) == ("none has ever run", "start the deliverer: manage.py deliver")
    WebhookDelivery.objects.filter(pk=delivery.pk).delete()
    assert the_finding().what == "No deliverer is up, and webhooks wait: 1"
    process = WorkerProcess.objects.create(name="deliverer-1", slots=0, kind=ProcessKind.DELIVERER)
    assert found() == []
    WorkerProcess.objects.filter(pk=process.pk).update(seen_at=timezone.now() - timedelta(hours=1))
    assert the_finding().why.startswith("the last heartbeat was at ")


@pytest.mark.usefixtures("deliverer")
def test_deliveries_that_wait_for_over_an_hour_are_found(alice: User) -> None:
    endpoint = endpoint_of(alice, url="https://down.example/")
    long = timezone.now() + timedelta(days=4, hours=-2)
    waiting = delivery_of(endpoint, attempts=[attempt(None, "timeout"), attempt(502, "rejected")], expires_at=long)
    delivery_of(endpoint, attempts=[attempt(502, "rejected")])
    delivery_of(endpoint, state="failed", expires_at=long)
    finding = the_finding()
    assert finding.what == "Webhook deliveries that wait for over an hour: 1"
    assert finding.why == "1 of them are for down.example, where the last result is: HTTP 502"
    assert finding.ids == (waiting.pk,)


def test_disabled_endpoints_are_found_for_two_weeks(alice: User) -> None:
    now = timezone.now()
    gone = endpoint_of(alice, enabled=False, disabled_reason="gone", failing_since=now)
    failing = endpoint_of(alice, enabled=False, disabled_reason="failing", failing_since=now - timedelta(days=6))
    endpoint_of(alice, enabled=False, disabled_reason="failing", failing_since=now - timedelta(days=20))
    endpoint_of(alice, enabled=False, disabled_reason="staff")
    endpoint_of(alice, enabled=False)
    findings = found()
    assert [finding.ids for finding in findings] == [(gone.pk,), (failing.pk,)]
    assert [finding.why for finding in findings] == [
        "it answered 410 Gone",
        "nothing could be delivered for five days",
    ]


def test_secrets_of_another_key_are_found(alice: User, settings: Any) -> None:
    endpoint_of(alice, enabled=False)
    endpoint = endpoint_of(alice)
    signatures.default(alice)
    assert found() == []
    settings.SECRET_KEY = "another-key-of-the-same-length-as-the-first-one-of-the-tests"
    of_endpoints, of_owners = found()
    assert (of_endpoints.what, of_endpoints.ids) == ("Webhooks whose secret cannot be decrypted: 1", (endpoint.pk,))
    assert of_owners.what == "Default webhook secrets that cannot be decrypted: 1"


@pytest.mark.django_db
@pytest.mark.parametrize(("debug", "count"), [(False, 1), (True, 0)])
def test_webhooks_without_tls_are_found_in_production(settings: Any, debug: bool, count: int) -> None:
    settings.WEBHOOK_ALLOW_HTTP, settings.DEBUG = True, debug
    assert len(found()) == count
