"""The doctor's checks of webhooks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Final, TypeVar

from django.conf import settings

from generation.db.functions import Now
from generation.models import WebhookDelivery, WebhookEndpoint, WebhookEvent, WebhookSecret, WorkerProcess
from generation.models.webhooks import RotatingSecret
from generation.queue import processes
from generation.reports import webhook_log
from generation.reports.findings import MOST, Finding, how_many
from generation.states import DeliveryState, DisabledReason, ProcessKind
from generation.webhooks import outbox, signatures

_Row = TypeVar("_Row", bound=RotatingSecret)

#: A delivery or event that is due for longer than this is not taken.
_OVERDUE: Final = timedelta(minutes=1)
#: A delivery that waits for longer than this is reported.
_LONG: Final = timedelta(hours=1)
#: An endpoint that was disabled is reported as long as its first failure is not older.
_RECENT: Final = timedelta(days=14)
#: Secrets that are tried, the oldest ones.
_TRIED: Final = 500


def no_deliverer() -> Iterator[Finding]:
    """Find webhooks that wait without a process to deliver them."""
    if processes.live_processes(ProcessKind.DELIVERER).exists():
        return
    due = WebhookDelivery.objects.filter(state=DeliveryState.PENDING, next_attempt_at__lt=Now() - _OVERDUE)
    events = WebhookEvent.objects.filter(at__lt=Now() - _OVERDUE)
    waiting = due.values("pk")[:MOST].count() + events.values("pk")[:MOST].count()
    if not waiting:
        return
    last = WorkerProcess.objects.filter(kind=ProcessKind.DELIVERER).order_by("-seen_at").first()
    seen = f"the last heartbeat was at {last.seen_at:%Y-%m-%d %H:%M:%S} UTC" if last else "none has ever run"
    yield Finding(
        what=f"No deliverer is up, and webhooks wait: {f'{MOST} or more' if waiting >= MOST else waiting}",
        why=seen,
        remedy="start the deliverer: manage.py deliver",
    )


def long_pending() -> Iterator[Finding]:
    """Find deliveries that wait for over an hour, by their receivers' failures."""
    # By the end of their time, which has an index.
    rows = WebhookDelivery.objects.filter(
        state=DeliveryState.PENDING, expires_at__lt=Now() + outbox.LIFETIME - _LONG
    ).order_by("expires_at")
    found = list(rows.values_list("pk", "host", "attempts")[:MOST])
    if not found:
        return
    host, count = Counter(host for _, host, _ in found).most_common(1)[0]
    log = next((attempts for _, of, attempts in found if of == host and attempts), None)
    result = webhook_log.attempt_of(log[-1]).text if log else "no attempt was made"
    yield Finding(
        what=f"Webhook deliveries that wait for over an hour: {how_many([pk for pk, _, _ in found])}",
        why=f"{count} of them are for {host}, where the last result is: {result}",
        remedy="tell the owner, who sees each attempt on the page Webhooks; they are sent again by themselves",
        ids=tuple(pk for pk, _, _ in found),
    )


def disabled_endpoints() -> Iterator[Finding]:
    """Find endpoints that the deliverer has disabled recently."""
    rows = WebhookEndpoint.objects.filter(enabled=False, failing_since__gt=Now() - _RECENT)
    for reason in (DisabledReason.GONE, DisabledReason.FAILING):
        ids = list(rows.filter(disabled_reason=reason).order_by("-pk").values_list("pk", flat=True)[:MOST])
        if ids:
            yield Finding(
                what=f"Webhooks that were disabled: {how_many(ids)}",
                why=f"{reason.label[0].lower()}{reason.label[1:]}",
                remedy="tell the owner, who enables it again when the receiver works, or deletes it",
                ids=tuple(ids),
            )


def unreadable_secrets() -> Iterator[Finding]:
    """Find secrets that were encrypted with another ``SECRET_KEY``."""
    endpoints = WebhookEndpoint.objects.filter(enabled=True).order_by("pk").only("pk", "secret")[:_TRIED]
    if ids := [row.pk for row in _unreadable(endpoints)]:
        yield Finding(
            what=f"Webhooks whose secret cannot be decrypted: {len(ids)}",
            why="SECRET_KEY has changed, so nothing can be signed for them",
            remedy="set the former SECRET_KEY again; or let the owners rotate the secrets",
            ids=tuple(ids[:MOST]),
        )
    defaults = WebhookSecret.objects.order_by("pk").only("pk", "secret")[:_TRIED]
    if count := len(list(_unreadable(defaults))):
        yield Finding(
            what=f"Default webhook secrets that cannot be decrypted: {count}",
            why="SECRET_KEY has changed, so deliveries of single requests cannot be signed",
            remedy="set the former SECRET_KEY again; or let the owners rotate theirs",
        )


def _unreadable(rows: Iterable[_Row]) -> Iterator[_Row]:
    for row in rows:
        try:
            signatures.decrypt(row.secret)
        except signatures.UnreadableSecretError:
            yield row


def allows_http() -> Iterator[Finding]:
    """Find a setting that lets webhooks be sent without TLS."""
    if settings.WEBHOOK_ALLOW_HTTP and not settings.DEBUG:
        yield Finding(
            what="Webhooks may be sent without TLS",
            why="WEBHOOK_ALLOW_HTTP is set, so prompts and links to images may be read on the way",
            remedy="remove WEBHOOK_ALLOW_HTTP, unless all receivers are in a network of your own",
        )


CHECKS: Final = (no_deliverer, long_pending, disabled_endpoints, unreadable_secrets, allows_http)
