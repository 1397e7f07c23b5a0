"""Serializers of the bodies and filters about webhooks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from rest_framework import serializers

from generation.api.fields import BodySerializer, BooleanField, ChoiceField, NameField, StringField
from generation.api.key_serializers import NamesField, RotateSerializer
from generation.models.requests import MAX_WEBHOOK_URL
from generation.requests.new_request import Webhook
from generation.states import DEFAULT_WEBHOOK_EVENTS, WEBHOOK_EVENTS
from generation.webhooks.deliveries import LONGEST_REDELIVERY
from generation.webhooks.targets import RefusedURLError, read

WEBHOOK_URL_HELP: Final = (
    "Where the events are sent, signed with the secret of `GET /webhooks/secret`; besides the webhooks of the user."
)
WEBHOOK_EVENTS_HELP: Final = (
    "The events that are sent to `webhookUrl`: by default `request.completed`, `request.failed` and `request.cancelled`"
    " of each request."
)
_EVENTS: Final = [event.value for event in WEBHOOK_EVENTS]


class WebhookURLField(StringField):
    """An address to which events are sent. The host is looked up when an endpoint is made, and at each delivery."""

    def __init__(self, **more: Any) -> None:
        super().__init__(max_length=MAX_WEBHOOK_URL, **more)

    def to_internal_value(self, data: Any) -> str:
        value = super().to_internal_value(data)
        try:
            read(value)
        except RefusedURLError as refusal:
            raise serializers.ValidationError(str(refusal), code=refusal.code) from None
        return value


class EventsField(NamesField):
    """A list of events, with at least one. An event counts once."""

    def __init__(self, **more: Any) -> None:
        super().__init__(child=ChoiceField(_EVENTS), **more)


class NewWebhookSerializer(BodySerializer):
    """The body that makes a webhook endpoint."""

    url = WebhookURLField(help_text="Begins with `https://`; its host must have public addresses only.")
    events = EventsField(help_text="The events that are sent to it.")
    projectId = NameField(
        max_length=255,
        required=False,
        allow_blank=True,
        source="project_id",
        help_text="The only project whose events are sent; by default all.",
    )
    description = StringField(max_length=200, required=False, allow_blank=True)


class ChangeWebhookSerializer(BodySerializer):
    """Changes of a webhook endpoint; what is absent stays."""

    url = WebhookURLField(required=False, help_text="Pending deliveries go to the new address.")
    events = EventsField(required=False)
    enabled = BooleanField(
        required=False,
        help_text="`false` ends the pending deliveries; `true` also clears `disabledReason`.",
    )
    description = StringField(max_length=200, required=False, allow_blank=True)


class RotateSecretSerializer(RotateSerializer):
    """How long the previous secret signs as well."""


class RecentField(serializers.DateTimeField):
    """A JSON string with a time of the last days, by RFC 3339."""

    default_error_messages: ClassVar = {"out_of_range": "Must be within the last {days} days."}

    def to_internal_value(self, value: Any) -> datetime:
        if not isinstance(value, str):
            self.fail("invalid", format="YYYY-MM-DDThh:mm:ssZ")
        moment: datetime = super().to_internal_value(value)
        now = datetime.now(UTC)
        if not now - LONGEST_REDELIVERY <= moment <= now:
            self.fail("out_of_range", days=LONGEST_REDELIVERY.days)
        return moment


class RedeliverySerializer(BodySerializer):
    """Which deliveries are sent again."""

    since = RecentField(help_text="Inclusive; at most 7 days ago.")
    until = RecentField(required=False, help_text="Exclusive; by default now.")
    onlyFailed = BooleanField(default=True, help_text="`true`, the default: only those whose state is `failed`.")


def webhook_of(valid: Mapping[str, Any]) -> Webhook | None:
    """Return the webhook of a submit or batch from valid data, None if it has none. Raises ``ValidationError``."""
    url, events = valid.get("webhookUrl"), valid.get("webhookEvents")
    if url:
        return Webhook(url=url, events=tuple(events or (event.value for event in DEFAULT_WEBHOOK_EVENTS)))
    if events:
        message = "webhookEvents needs an address."
        raise serializers.ValidationError({"webhookUrl": [serializers.ErrorDetail(message, code="required")]})
    return None
