"""Webhooks as people see them: whether an endpoint works, and what became of each delivery."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings
from django.db.models import OuterRef, QuerySet, Subquery

from generation.identifiers import DELIVERY_ID
from generation.models import GenerationRequest, WebhookDelivery, WebhookEndpoint
from generation.models.webhooks import RotatingSecret
from generation.states import DeliveryState, DisabledReason
from generation.webhooks import deliveries

#: Pending deliveries of an endpoint are counted up to this number.
MOST_COUNTED: Final = 1000
#: A page refreshes itself for a delivery that is due within this time.
_SOON: Final = timedelta(minutes=1)
#: Deliveries of one request that its page lists.
_OF_REQUEST: Final = 20

#: What the log's words mean, and what the receiver's owner can do.
_ERRORS: Final[dict[str, tuple[str, str]]] = {
    "timeout": ("No answer within {timeout:g} s", "Answer with 2xx first, and do the work afterwards."),
    "redirect": ("Redirects are not followed", "Enter the address to which it redirects."),
    "rejected": ("", "Only an answer with 2xx counts as delivered. Look at the log of your server."),
    "gone": ("It is gone, so the webhook was disabled", "Enable the webhook when the address works again."),
    "certificate": (
        "The certificate is not valid for this host",
        "Install a certificate for this name from a public authority, with its intermediate certificates.",
    ),
    "connection_failed": ("No connection", "Check that the server is up and can be reached from here at this port."),
    "connection_lost": ("The connection ended before an answer came", "Look at the log of your server or proxy."),
    "invalid_answer": ("The answer was not HTTP", "Check the port of the address."),
    "unresolvable": ("The name of the host cannot be found", "Check the name and its DNS records."),
    "not_allowed": (
        "The address of the host is not a public one",
        "Use a public host, or ask the operator to allow the network.",
    ),
    "not_https": ("The address does not begin with https://", "Change the address."),
    "credentials": ("The address has a user name or a password", "Change the address; deliveries are signed instead."),
    "invalid": ("Not a valid address", "Change the address."),
    deliveries.ENDPOINT_DISABLED: ("Not sent, since the webhook was disabled", "Enable the webhook, then send again."),
    deliveries.EXPIRED: ("Not delivered within four days", "Send it again when your server works."),
    deliveries.REQUEST_DELETED: ("Not sent, since the request was deleted", ""),
    deliveries.SECRET_UNREADABLE: (
        "Not sent, since the secret cannot be decrypted: SECRET_KEY has changed",
        "Rotate the secret, and enter the new one at your server.",
    ),
    "internal": ("An error of this server", "The operator finds it in the log of the deliver process."),
}


@dataclass(frozen=True, slots=True)
class Health:
    """Whether an endpoint works. ``kind`` is ``healthy``, ``warning`` or ``critical``."""

    kind: str
    label: str
    why: str = ""


def health_of(endpoint: WebhookEndpoint) -> Health:
    """Return whether the endpoint works."""
    if not endpoint.enabled:
        if endpoint.disabled_reason:
            return Health("critical", "Disabled", f"{DisabledReason(endpoint.disabled_reason).label}.")
        return Health("off", "Disabled")
    if endpoint.failing_since is not None:
        since = f"Nothing could be delivered since {endpoint.failing_since:%-d %b %Y, %H:%M} UTC."
        return Health("warning", "Failing", f"{since} After five days it is disabled.")
    return Health("healthy", "Enabled")


def with_last_delivery(endpoints: QuerySet[WebhookEndpoint]) -> QuerySet[WebhookEndpoint]:
    """Annotate endpoints with ``last_log``, the attempts of their newest delivery that succeeded."""
    newest = WebhookDelivery.objects.filter(endpoint=OuterRef("pk"), state=DeliveryState.DELIVERED).order_by("-pk")
    return endpoints.annotate(last_log=Subquery(newest.values("attempts")[:1]))


def overlap_of(row: RotatingSecret) -> datetime | None:
    """Return until when the previous secret signs as well, None if it does not."""
    until = row.previous_until
    return until if until is not None and until > datetime.now(UTC) else None


def last_delivered(endpoint: Any) -> datetime | None:
    """Return the time of the newest success of an endpoint of :func:`with_last_delivery`."""
    return datetime.fromisoformat(endpoint.last_log[-1]["at"]) if endpoint.last_log else None


def pending_count(endpoint: WebhookEndpoint) -> int:
    """Return the number of pending deliveries, up to :data:`MOST_COUNTED`."""
    pending = deliveries.of_endpoint(endpoint).filter(state=DeliveryState.PENDING)
    return pending.values("pk")[:MOST_COUNTED].count()


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt. ``text`` is its result in words."""

    at: datetime
    milliseconds: int
    text: str
    advice: str
    has_succeeded: bool


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery with its attempts, the newest first."""

    row: WebhookDelivery
    url: str
    attempts: list[Attempt]
    is_soon: bool
    may_be_repeated: bool

    @property
    def health(self) -> str:
        """The kind of its badge."""
        kinds: dict[str, str] = {DeliveryState.PENDING: "warning", DeliveryState.DELIVERED: "healthy"}
        return kinds.get(self.row.state, "critical")


@dataclass(frozen=True, slots=True)
class Page:
    """Deliveries, the newest first. ``older`` is the key of the next page, empty on the last one."""

    entries: list[Delivery]
    older: str = ""

    @property
    def is_soon(self) -> bool:
        """Whether one of them is about to change."""
        return any(entry.is_soon for entry in self.entries)


def attempt_of(entry: Any) -> Attempt:
    """Return an entry of a delivery's log in words."""
    status, error = entry.get("status"), entry.get("error") or ""
    words, advice = _ERRORS.get(error, (error, ""))
    words = words.format(timeout=settings.WEBHOOK_TIMEOUT_S)
    text = ". ".join(filter(None, [f"HTTP {status}" if status else "", words]))
    has_succeeded = status is not None and not error
    return Attempt(datetime.fromisoformat(entry["at"]), entry.get("ms") or 0, text, advice, has_succeeded)


def described(rows: Iterable[WebhookDelivery], *, is_own: bool = True) -> list[Delivery]:
    """Return deliveries, whose endpoints were selected with them, as their owner sees them, or else other users."""
    soon = datetime.now(UTC) + _SOON
    return [
        Delivery(
            row=row,
            url=row.url if is_own else without_query(row.url),
            attempts=[attempt_of(entry) for entry in reversed(row.attempts)],
            is_soon=row.next_attempt_at is not None and row.next_attempt_at < soon,
            may_be_repeated=is_own
            and row.state != DeliveryState.PENDING
            and (row.endpoint is None or row.endpoint.enabled),
        )
        for row in rows
    ]


def page(rows: QuerySet[WebhookDelivery], *, before: str, size: int) -> Page:
    """Return the deliveries before this key, the newest ones without a key."""
    if DELIVERY_ID.fullmatch(before):
        rows = rows.filter(pk__lt=before)
    # The keys first, by an index-only scan: for whole rows the planner may prefer to walk the primary key.
    keys = list(rows.order_by("-pk").values_list("pk", flat=True)[: size + 1])
    found = _whole().filter(pk__in=keys[:size]).order_by("-pk")
    return Page(described(found), keys[size - 1] if len(keys) > size else "")


def of_request(request: GenerationRequest, *, is_own: bool) -> Page:
    """Return the newest deliveries about the request."""
    rows = _whole().filter(request_id=request.pk, owner=request.owner_id)
    return Page(described(rows.order_by("-pk")[:_OF_REQUEST], is_own=is_own))


def without_query(url: str) -> str:
    """Return the URL without its query, which may hold a secret of the receiver."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "…" if parts.query else "", ""))


def _whole() -> QuerySet[WebhookDelivery]:
    return WebhookDelivery.objects.select_related("endpoint").defer("snapshot")
