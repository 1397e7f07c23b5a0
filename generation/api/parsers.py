"""A strict JSON parser that rejects values PostgreSQL cannot store or clients cannot represent."""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Mapping
from typing import IO, Any, ClassVar, Final, NoReturn

from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from generation.api.errors import BodyTooLarge, InvalidValue

MAX_BODY_BYTES: Final = 1024 * 1024
#: Maximum nesting of metadata, and of the whole body, which adds a batch's list and item.
MAX_METADATA_DEPTH: Final = 8
MAX_DEPTH: Final = MAX_METADATA_DEPTH + 4
#: Integers beyond 64 bits are exact in no database column and in hardly any client. The bound applies to all numbers,
#: since JSON does not tell integers from others: 1e19 is an integer.
NUMBER_LIMIT: Final = 2**63
_MAX_DIGITS: Final = len(str(-NUMBER_LIMIT))
#: The byte order marks of UTF-16 and UTF-32.
_OTHER_MARKS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


class StrictJSONParser(BaseParser):
    """UTF-8 JSON of bounded size and depth, with or without a byte order mark.

    Rejects NaN, infinities, NUL, lone surrogates and duplicate names.
    """

    media_type = "application/json"
    max_bytes: ClassVar = MAX_BODY_BYTES

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        length = int((parser_context or {})["request"].META.get("CONTENT_LENGTH") or 0)
        if length > self.max_bytes:
            raise BodyTooLarge(f"The body is larger than {self.max_bytes // 1024 // 1024} MiB")
        body = stream.read(self.max_bytes)
        if len(body) != length:
            raise ParseError("The body is shorter than its Content-Length")
        if body.startswith(_OTHER_MARKS):
            raise ParseError("The body is UTF-16 or UTF-32; send UTF-8")
        try:
            data = json.loads(
                body.removeprefix(codecs.BOM_UTF8).decode("utf-8"),
                parse_int=_integer,
                parse_constant=_reject_constant,
                object_pairs_hook=_object,
            )
        except UnicodeDecodeError:
            raise ParseError("The body is not UTF-8") from None
        except RecursionError:
            raise ParseError("The body is nested too deeply") from None
        except ValueError as error:
            raise ParseError(f"The body is not JSON: {error}"[:200]) from None
        check_value(data)
        return data


def check_value(value: Any, path: str = "", depth: int = 0, *, max_depth: int = MAX_DEPTH) -> None:
    """Raise :class:`InvalidValue` with the path of a value that JSON allows and the database does not."""
    # Most values are fine, and a path for each of them would take several times as long.
    if not _is_storable([value], max_depth - depth + 1):
        _raise_invalid(value, path, depth, max_depth=max_depth)


def _is_storable(members: Any, depth: int) -> bool:
    """Return whether the database can store the members of a list or an object of at most so many levels."""
    if depth <= 0 or (type(members) is dict and not _is_storable(list(members), 1)):
        return False
    for value in members.values() if type(members) is dict else members:
        kind = type(value)
        if kind is str:
            fits = value.isprintable() or _is_text(value)
        elif kind is dict or kind is list:
            fits = _is_storable(value, depth - 1)
        else:
            fits = value is None or abs(value) < NUMBER_LIMIT
        if not fits:
            return False
    return True


def _raise_invalid(value: Any, path: str, depth: int, *, max_depth: int) -> None:
    if isinstance(value, str):
        _check_text(value, path)
    elif isinstance(value, dict | list):
        if depth >= max_depth:
            raise InvalidValue(path, f"Nested more than {max_depth} levels deep", "max_depth")
        if isinstance(value, dict):
            for name, member in value.items():
                _check_text(name, path)
                _raise_invalid(member, f"{path}.{name}" if path else name, depth + 1, max_depth=max_depth)
        else:
            for index, member in enumerate(value):
                _raise_invalid(member, f"{path}[{index}]", depth + 1, max_depth=max_depth)
    elif isinstance(value, int | float) and abs(value) >= NUMBER_LIMIT:
        raise InvalidValue(path, "The number is too large", "max_value")


def _is_text(text: str) -> bool:
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def _check_text(text: str, path: str) -> None:
    if "\0" in text:
        raise InvalidValue(path, "NUL characters are not allowed", "null_characters_not_allowed")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidValue(path, "Lone surrogates are not allowed", "surrogate_characters_not_allowed") from None


def _integer(digits: str) -> float:
    # Thousands of digits take long to convert. check_value() rejects infinity with its path, like any too large number.
    return int(digits) if len(digits) <= _MAX_DIGITS else math.inf


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate name in an object")
    return members
