"""Serializer fields that accept only the JSON type they name, without converting other types."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import timedelta
from typing import Any, ClassVar, Final

from django.utils import timezone
from django.utils.functional import cached_property
from rest_framework import serializers

from generation import identifiers
from generation.api.visible_length import visible_length

_LOST_PLUS: Final = re.compile(r"(\d{4}-?\d\d-?\d\d[T ]\d\d[\d:.,]*) +(\d\d(?::?\d\d)?)", re.ASCII)


class StringField(serializers.CharField):
    """A JSON string; a number or a boolean is rejected instead of converted."""

    def run_validation(self, data: Any = serializers.empty) -> Any:
        # The validators of DRF take ten times as long. Printable text contains neither NUL nor surrogates.
        if type(data) is str and data.strip():
            value = self.to_internal_value(data)
            if value.isprintable() and (self.min_length or 0) <= len(value) <= (self.max_length or len(value)):
                return value
        return super().run_validation(data)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return str(super().to_internal_value(data))


class NameField(StringField):
    """A name chosen by the client, or an id made by the server."""

    def to_internal_value(self, data: Any) -> str:
        return identifiers.identifier(super().to_internal_value(data))


class TextField(StringField):
    """A text with visible characters; invisible ones do not count for ``min_length``."""

    def to_internal_value(self, data: Any) -> str:
        value = super().to_internal_value(data)
        if self.max_length is not None and len(value) > self.max_length:
            return value  # a validator rejects it
        length = visible_length(value)
        if not length and not self.allow_blank:
            self.fail("blank")
        if self.min_length is not None and length < self.min_length:
            self.fail("min_length", min_length=self.min_length)
        return value


class UserNameField(StringField):
    """A user name in any Unicode spelling, returned normalized."""

    def to_internal_value(self, data: Any) -> str:
        return identifiers.user_name(super().to_internal_value(data))


class QueryDateTimeField(serializers.DateTimeField):
    """An ISO 8601 date and time in a query string, where an unescaped plus is decoded as a space."""

    default_error_messages: ClassVar = {
        "plus": "Escape the plus of the time zone as %2B in a query: {escaped}.",
    }

    def to_internal_value(self, value: Any) -> Any:
        if isinstance(value, str):
            value = value.strip().upper()  # RFC 3339 allows a lowercase t and z
            if match := _LOST_PLUS.fullmatch(value):
                self.fail("plus", escaped=f"{match[1]}%2B{match[2]}")
        return super().to_internal_value(value)


class LaterField(serializers.DateTimeField):
    """An ISO 8601 date and time at most so many days ahead. One in the past is allowed: it is over."""

    def __init__(self, *, days: int, **more: Any) -> None:
        super().__init__(**more)
        self._days = days

    def to_internal_value(self, value: Any) -> Any:
        if not isinstance(value, str):
            self.fail("invalid", format="YYYY-MM-DDThh:mm:ssZ")
        moment = super().to_internal_value(value.strip().upper())  # RFC 3339 allows a lowercase t and z
        if moment > timezone.now() + timedelta(days=self._days):
            raise serializers.ValidationError(f"At most {self._days} days ahead.", code="out_of_range")
        return moment


class IntegerField(serializers.IntegerField):
    """A JSON integer, including 3.0; not a string, a boolean or a fraction."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int | float) or data % 1 != 0:
            self.fail("invalid")
        return int(super().to_internal_value(int(data)))


class BooleanField(serializers.BooleanField):
    """``true`` or ``false``."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class ChoiceField(serializers.ChoiceField):
    """One of the configured strings."""

    def run_validation(self, data: Any = serializers.empty) -> Any:
        return data if type(data) is str and data in self.choices else super().run_validation(data)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str) or data not in self.choices:
            self.fail("invalid_choice", input=data if isinstance(data, str) else type(data).__name__)
        return data


class BodySerializer(serializers.Serializer[dict[str, Any]]):
    """An object in a body, where null for an optional field means that the field is absent.

    A valid object takes a short way past DRF's, which looks at all fields, also at those that are absent. An invalid
    one takes DRF's, which collects the errors of all fields.
    """

    def get_fields(self) -> dict[str, Any]:
        fields = super().get_fields()
        for field in fields.values():
            field.allow_null = field.allow_null or not field.required
        return fields

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if isinstance(data, dict) and self._required <= data.keys():
            with suppress(serializers.ValidationError, serializers.SkipField):
                return self._present(data)
        return dict(super().to_internal_value(self.without_nulls(data)))

    def _present(self, data: dict[str, Any]) -> dict[str, Any]:
        values = {field.source: field.get_default() for field in self._with_default}
        for name, value in data.items():
            field = self._by_name.get(name)
            if field is not None and (value is not None or field.required):
                values[field.source] = field.run_validation(value)
        return values

    def run_validators(self, value: Any) -> None:
        if self.validators:  # DRF copies the value for none as well
            super().run_validators(value)

    @cached_property
    def _by_name(self) -> dict[str, Any]:
        return dict(self.fields)

    @cached_property
    def _required(self) -> frozenset[str]:
        return frozenset(name for name, field in self._by_name.items() if field.required)

    @cached_property
    def _with_default(self) -> list[Any]:
        return [field for field in self._by_name.values() if field.default is not serializers.empty]

    def without_nulls(self, data: Any) -> Any:
        """Return the data without the optional fields that are null."""
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if value is not None or not self._is_optional(name)}

    def _is_optional(self, name: str) -> bool:
        return name in self._by_name and name not in self._required
