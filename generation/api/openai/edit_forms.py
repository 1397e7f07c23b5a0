"""The body of an edit: a form with files, or JSON with images as data URLs or as ids of uploads."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, ClassVar, Final

from django.http import HttpRequest
from rest_framework.request import Request

from generation.api.openai.errors import Fault, Refused
from generation.api.parsers import StrictJSONParser
from generation.api.upload_forms import BoundedFileHandler
from generation.identifiers import UPLOAD_ID
from generation.storage.uploads_image import MAX_BYTES, MAX_FORM_BYTES, MAX_JSON_BYTES

MAX_IMAGES: Final = 16
_FILES: Final = frozenset({"image", "image[]"})
_MASK: Final = "mask"
#: Fields of a form whose text is a number or a switch.
_NUMBERS: Final = frozenset({"n", "partial_images"})
_SWITCHES: Final = {"true": True, "false": False}
#: Options below ``vga[metadata]`` that are text, whatever they look like.
_TEXTS: Final = frozenset({"title", "imageStyle", "aspectRatio", "provider", "model", "negativePrompt"})
_NAME: Final = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_DEEPEST: Final = 6
_LONGEST_LIST: Final = 100
_DATA_URL: Final = re.compile(r"data:[a-z]+/[a-z0-9.+-]+;base64,", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class GivenImage:
    """An image of a call: a file with the name of its field, or the id of an upload."""

    field: str
    file: IO[bytes] | None = None
    upload_id: str = ""

    @property
    def identity(self) -> str:
        """The same for the same image, in whatever form it comes: the hash of its bytes, or its id."""
        if self.file is None:
            return self.upload_id
        self.file.seek(0)
        return hashlib.file_digest(self.file, "sha256").hexdigest()  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class EditForm:
    """The fields of an edit as those of a call for images, and its images; a mask is the last one."""

    fields: dict[str, Any]
    images: list[GivenImage]

    @property
    def has_mask(self) -> bool:
        """Whether the last image is a mask."""
        return self.images[-1].field == _MASK

    def fingerprint(self) -> str:
        """Return a hash of the fields and of the bytes of the files: the boundary of a form changes with each try."""
        content = [self.fields, [(image.field == _MASK, image.identity) for image in self.images]]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class EditJSONParser(StrictJSONParser):
    """JSON with images as data URLs. It is in memory as a whole, so it may have one large image."""

    max_bytes: ClassVar = MAX_JSON_BYTES


def bound_edit(request: HttpRequest) -> None:
    """Have the call's form parsed within the bounds, each file to a temporary file."""
    request.upload_handlers = [BoundedFileHandler(request, most=MAX_FORM_BYTES)]


def read_edit(request: Request) -> EditForm:
    """Return the parsed body. Raises :class:`Refused`."""
    if request.content_type.partition(";")[0].strip().lower() == "multipart/form-data":
        form = EditForm(_form_fields(request.data), list(_files(request)))
    else:
        form = _from_json(request.data)
    masks = [image for image in form.images if image.field == _MASK]
    images = [image for image in form.images if image.field != _MASK]
    if not images:
        raise _invalid("image", "An edit needs an image.", "required")
    if len(images) > MAX_IMAGES:
        raise _invalid("image", f"At most {MAX_IMAGES} images.", "too_many_references")
    if len(masks) > 1:
        raise _invalid("mask", "Only one mask.", "invalid")
    return EditForm(form.fields, [*images, *masks])


# --- A form -----------------------------------------------------------------------------------------------------------


def _files(request: Request) -> Iterator[GivenImage]:
    for name, files in request.FILES.lists():
        if name not in _FILES and name != _MASK:
            raise _invalid(name, "There is no such file.", "unknown")
        yield from (GivenImage("image" if name in _FILES else _MASK, file.file) for file in files)


def _form_fields(data: Any) -> dict[str, Any]:
    """Return the fields as JSON would have them: SDKs write ``vga={"type": "cover"}`` as ``vga[type]=cover``."""
    fields: dict[str, Any] = {}
    for name, values in data.lists():
        texts = [value for value in values if isinstance(value, str)]
        if len(texts) != len(values):  # a file
            continue
        if name in _FILES or name == _MASK:
            raise _invalid("image", "The image must be a file.", "invalid")
        match = _NAME.fullmatch(name)
        path = [match[1], *re.findall(r"\[([^\[\]]*)\]", match[2])] if match else [name]
        if len(path) > _DEEPEST:
            raise _invalid(path[0], "Nested too deeply.", "max_depth")
        for text in texts if path[-1] == "" or len(texts) == 1 else texts[-1:]:
            _put(fields, path, _value(path, text))
    return fields


def _put(target: Any, path: Sequence[str], value: Any) -> None:
    """Put the value at its path. An empty step or a number is a place in a list; an empty one followed by a name begins
    a new member when the last one has that name already."""
    *steps, last = path
    for step, following in zip(steps, path[1:], strict=True):
        target = _member(target, step, following, path)
    if isinstance(target, list):
        target.append(value)
    elif isinstance(target, dict):
        target[last] = value


def _member(target: Any, step: str, following: str, path: Sequence[str]) -> Any:
    make: type = list if following == "" or following.isdecimal() else dict
    if isinstance(target, list):
        index = int(step) if step.isdecimal() else len(target) - 1
        is_new = not step and (not target or (isinstance(target[-1], dict) and following in target[-1]))
        if is_new:
            index = len(target)
        if not 0 <= index <= min(len(target), _LONGEST_LIST):
            raise _invalid(path[0], "The numbers of a list must follow each other.", "invalid")
        if index == len(target):
            target.append(make())
        found = target[index]
    else:
        found = target.setdefault(step, make())
    if not isinstance(found, make):
        raise _invalid(path[0], "A list and an object at the same place.", "invalid")
    return found


def _value(path: Sequence[str], text: str) -> Any:
    is_option = path[:2] == ["vga", "metadata"] and path[-1] not in _TEXTS
    is_index = path[0] == "vga" and path[-1] == "item"
    may_be_number = path[-1] in _NUMBERS or is_option or is_index
    if may_be_number and re.fullmatch(r"-?[0-9]{1,15}", text, re.ASCII):
        return int(text)
    if path == ["stream"] or is_option:
        return _SWITCHES.get(text, text)
    return text


# --- JSON -------------------------------------------------------------------------------------------------------------


def _from_json(data: Any) -> EditForm:
    if not isinstance(data, Mapping):
        raise _invalid("", "Expected an object.", "invalid")
    fields = {name: value for name, value in data.items() if name not in {"images", _MASK}}
    given = data.get("images")
    if not isinstance(given, list):
        raise _invalid("images", "Expected a list of images.", "invalid")
    if len(given) > MAX_IMAGES:
        raise _invalid("images", f"At most {MAX_IMAGES} images.", "too_many_references")
    images = [_json_image(one, "image") for one in given]
    if (mask := data.get(_MASK)) is not None:
        images.append(_json_image(mask, _MASK))
    return EditForm(fields, images)


def _json_image(given: Any, field: str) -> GivenImage:
    keys = {"image_url", "file_id"} & given.keys() if isinstance(given, Mapping) else set()
    if len(keys) != 1:
        raise _invalid(field, "Name one of image_url and file_id.", "exactly_one")
    value = given[keys.pop()]
    if isinstance(value, Mapping):
        value = value.get("url")
    if not isinstance(value, str):
        raise _invalid(field, "Expected a text.", "invalid")
    if "file_id" in given:
        if UPLOAD_ID.fullmatch(value) is None:
            raise _invalid(field, "There is no such upload.", "not_found")
        return GivenImage(field, upload_id=value)
    head = _DATA_URL.match(value)
    if head is None:
        raise _invalid(field, "Only data URLs with base64 are read; nothing is fetched from an address.", "unsupported")
    return GivenImage(field, _decoded(value, head.end(), field))


def _decoded(text: str, start: int, field: str) -> IO[bytes]:
    """Decode the base64 from this position on into a temporary file."""
    if (len(text) - start) * 3 // 4 > MAX_BYTES:
        message = f"The file is larger than {MAX_BYTES // 1024 // 1024} MiB"
        raise Refused(Fault(status=413, message=message, param=field, code="too_large"))
    file = tempfile.TemporaryFile()  # noqa: SIM115  closed after it was stored
    try:
        for index in range(start, len(text), 64 * 1024):
            file.write(base64.b64decode(text[index : index + 64 * 1024], validate=True))
    except (binascii.Error, ValueError):
        file.close()
        raise _invalid(field, "The base64 cannot be decoded.", "invalid") from None
    return file


def _invalid(field: str, message: str, code: str) -> Refused:
    return Refused(Fault(status=400, message=message, param=field or None, code=code))
