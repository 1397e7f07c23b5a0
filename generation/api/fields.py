"""Serializer fields that accept only the JSON type they name, without converting other types."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

from rest_framework import serializers

from generation import identifiers
from generation.api.visible_length import visible_length

_LOST_PLUS: Final = re.compile(r"(\d{4}-?\d\d-?\d\d[T ]\d\d[\d:.,]*) +(\d\d(?::?\d\d)?)", re.ASCII)


class StringField(serializers.CharField):
    """A JSON string; a number or a boolean is rejected instead of converted."""

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

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str) or data not in self.choices:
            self.fail("invalid_choice", input=data if isinstance(data, str) else type(data).__name__)
        return data


class BodySerializer(serializers.Serializer[dict[str, Any]]):
    """An object in a body, where null for an optional field means that the field is absent."""

    def get_fields(self) -> dict[str, Any]:
        fields = super().get_fields()
        for field in fields.values():
            field.allow_null = field.allow_null or not field.required
        return fields

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        return dict(super().to_internal_value(self.without_nulls(data)))

    def without_nulls(self, data: Any) -> Any:
        """Return the data without the optional fields that are null."""
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if value is not None or not self._is_optional(name)}

    def _is_optional(self, name: str) -> bool:
        return name in self.fields and not self.fields[name].required
