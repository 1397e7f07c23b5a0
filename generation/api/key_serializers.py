"""Serializers of the bodies about API keys."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar, Final

from rest_framework import serializers

from generation.access.api_keys import LONGEST_OVERLAP
from generation.access.rate_limits import RATE
from generation.api.fields import BodySerializer, ChoiceField, IntegerField, NameField, StringField
from generation.models.access import MOST_ACTIVE
from generation.providers import catalogue
from generation.states import Priority, Scope

#: Names of one list.
_MOST_NAMES: Final = 100
_HIGHEST_BUDGET: Final = 1_000_000
_DEFAULT_OVERLAP_HOURS: Final = 24


class FutureField(serializers.DateTimeField):
    """A JSON string with a time in the future, by RFC 3339."""

    default_error_messages: ClassVar = {"past": "Must be in the future."}

    def to_internal_value(self, value: Any) -> datetime:
        if not isinstance(value, str):
            self.fail("invalid", format="YYYY-MM-DDThh:mm:ssZ")
        moment: datetime = super().to_internal_value(value)
        if moment <= datetime.now(UTC):
            self.fail("past")
        return moment


class RateField(StringField):
    """A rate such as ``100/15m``."""

    default_error_messages: ClassVar = {"rate": "Must look like 100/15m (s, m, h or d)."}

    def to_internal_value(self, data: Any) -> str:
        value = super().to_internal_value(data)
        if not RATE.fullmatch(value):
            self.fail("rate")
        return value


class AmountField(serializers.FloatField):
    """A JSON number of US dollars, with at most two decimals."""

    default_error_messages: ClassVar = {"max_decimal_places": "At most two decimals."}

    def __init__(self, **more: Any) -> None:
        super().__init__(min_value=0, max_value=_HIGHEST_BUDGET, **more)

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, bool) or not isinstance(data, int | float):
            self.fail("invalid")
        if data != round(data, 2):
            self.fail("max_decimal_places")
        return Decimal(str(data))


class NamesField(serializers.ListField):
    """A list of names, with at least one. A name counts once."""

    def __init__(self, **more: Any) -> None:
        super().__init__(allow_empty=False, max_length=_MOST_NAMES, **more)

    def to_internal_value(self, data: Any) -> list[str]:
        return list(dict.fromkeys(super().to_internal_value(data)))


class ModelsField(NamesField):
    """A list of models that clients may request."""

    child = StringField(max_length=255)
    default_error_messages: ClassVar = {"unknown": "{name} is not a model of the configured providers."}

    def to_internal_value(self, data: Any) -> list[str]:
        names = super().to_internal_value(data)
        offered = {model.name for models in catalogue.offered_models().values() for model in models}
        if unknown := next((name for name in names if name not in offered), None):
            self.fail("unknown", name=unknown)
        return names


class LimitsSerializer(BodySerializer):
    """The limits of a key. Without a limit, what its owner may do is allowed."""

    expiresAt = FutureField(required=False, source="expires_at", help_text="By default the key does not expire.")
    rate = RateField(
        max_length=32,
        required=False,
        help_text="Submits of this key, such as `100/15m`; the limits of its owner and the address apply as well.",
    )
    dailyBudgetUsd = AmountField(
        required=False, source="daily_budget", help_text="US dollars a day (UTC); the owner's budget applies as well."
    )
    maxActive = IntegerField(
        min_value=1,
        max_value=MOST_ACTIVE,
        required=False,
        source="max_active",
        help_text="Requests of this key in progress at once; further ones wait in the queue.",
    )
    maxPriority = ChoiceField(Priority.choices, required=False, source="max_priority")
    projectIds = NamesField(
        child=NameField(max_length=255),
        required=False,
        source="allowed_projects",
        help_text="The only projects whose requests the key may see and submit.",
    )
    models = ModelsField(
        required=False,
        source="allowed_models",
        help_text="The only models that the key may request. A request that names none gets the first that can.",
    )


class NewKeySerializer(LimitsSerializer):
    """The body that makes an API key."""

    name = StringField(max_length=100, help_text="For people: the program that uses it.")
    scopes = NamesField(child=ChoiceField(Scope.choices), help_text="What the key may do.")


class ChangeKeySerializer(LimitsSerializer):
    """Changes of an API key: null removes a limit, and what is absent stays."""

    name = StringField(max_length=100, required=False)
    scopes = NamesField(child=ChoiceField(Scope.choices), required=False)


class RotateSerializer(BodySerializer):
    """How long the previous secret stays valid."""

    overlapHours = IntegerField(
        min_value=0,
        max_value=int(LONGEST_OVERLAP.total_seconds() // 3600),
        default=_DEFAULT_OVERLAP_HOURS,
        help_text="Hours for which the previous secret stays valid; 24 by default.",
    )


def columns(valid: Mapping[str, Any], body: Any = None) -> dict[str, Any]:
    """Return the columns of a key from valid data. Limits that are null in the ``body`` of a change are removed."""
    removed = [name for name, value in (body or {}).items() if value is None]
    sources = {name: str(field.source) for name, field in LimitsSerializer().fields.items()}
    unlimited = [sources[name] for name in removed if name in sources]
    return {column: "" if column in _BLANK else None for column in unlimited} | dict(valid)


#: Columns in which no limit is a blank.
_BLANK: Final = frozenset({"rate", "max_priority"})
