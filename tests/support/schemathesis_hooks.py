"""What schemathesis cannot know: strings that only we make, and limits that JSON Schema has no words for."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import django
import schemathesis
from hypothesis import strategies as st

django.setup()  # the parsers import models

from generation.api.openapi.examples import REQUEST_ID, UPLOAD_ID  # noqa: E402
from generation.api.openapi.webhook_schemas import DELIVERY_ID, NEW, SINCE  # noqa: E402
from generation.api.parsers import MAX_DEPTH, MAX_METADATA_DEPTH  # noqa: E402

for _format, _id in (("cursor", REQUEST_ID), ("upload-cursor", UPLOAD_ID), ("delivery-cursor", DELIVERY_ID)):
    _cursors = [b64encode(text.encode()).decode() for text in (f"p={_id}", f"r=1&p={_id}")]
    schemathesis.openapi.format(_format, st.sampled_from(_cursors))
schemathesis.openapi.format("aspect-ratio", st.sampled_from(["square", " portrait ", "landscape", "3:4", "640:160"]))

_ANYTHING = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
schemathesis.openapi.format("visible-text", _ANYTHING.map(lambda text: f"A dragon {text}!"))

# Which names there are is data; the tests of submits try those that are not.

schemathesis.openapi.format("model-name", st.sampled_from(["openmoji-17"]))
schemathesis.openapi.format(
    "future-date-time", st.sampled_from(["2099-01-01T00:00:00Z", "2031-02-03T04:05:06.789+02:00"])
)
schemathesis.openapi.format(
    "later-date-time",
    st.integers(-6 * 86_400, 6 * 86_400).map(lambda ahead: (datetime.now(UTC) + timedelta(seconds=ahead)).isoformat()),
)
# Addresses of the test's stack, which are allowed there.
schemathesis.openapi.format("webhook-url", st.sampled_from(["https://192.0.2.7/", "https://192.0.2.8:8443/a?b=c"]))
schemathesis.openapi.format(
    "recent-date-time",
    st.integers(60, 6 * 86_400).map(lambda age: (datetime.now(UTC) - timedelta(seconds=age)).isoformat()),
)


def _depth(value: Any) -> int:
    if isinstance(value, dict | list):
        return 1 + max((_depth(member) for member in (value.values() if isinstance(value, dict) else value)), default=0)
    return 0


@schemathesis.hook
def filter_body(context: Any, body: Any) -> bool:
    """No schema that refers to itself can say how deep it goes. The tests of bodies try what lies beyond."""
    if not isinstance(body, dict):
        return True
    listed = body.get("requests")
    drafts = [body, *(listed if isinstance(listed, list) else [])]
    return _depth(body) <= MAX_DEPTH and all(
        _depth(draft.get("metadata")) <= MAX_METADATA_DEPTH for draft in drafts if isinstance(draft, dict)
    )


_IDS = ("requestId", "uploadId")


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Leave out images that a submit could refer to, and previews. Which images there are is data, and the tests of
    references try those that are not; what no reference can look like stays. Of webhooks, replace a host
    and a time of the examples."""
    body = case.body
    if not isinstance(body, dict):
        return
    if body.get("url") == NEW["url"]:
        body["url"] = "https://192.0.2.7/"  # the host of the example is not found
    if body.get("since") == SINCE:
        body["since"] = datetime.now(UTC).isoformat()
    if not body.get("webhookUrl"):
        body.pop("webhookEvents", None)  # events alone are refused
    listed = body.get("requests")
    for draft in [body, *(listed if isinstance(listed, list) else [])]:
        if not isinstance(draft, dict):
            continue
        for name in ("editOf", "mask"):
            if _is_id(draft.get(name)):
                del draft[name]
        metadata = draft.get("metadata")
        if isinstance(metadata, dict) and metadata.get("previews") in (1, 2, 3):
            del metadata["previews"]  # the built-in provider has none
        if isinstance(draft.get("references"), list) and all(map(_is_reference, draft["references"])):
            draft["references"] = []


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 64


def _is_reference(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    item, role, name = value.get("item"), value.get("role"), value.get("name")
    return (
        all(value.get(key) is None or _is_id(value[key]) for key in _IDS)
        and (item is None or (type(item) in {int, float} and item % 1 == 0 and 0 <= item < 100))
        and (role is None or role in ["character", "style", "composition"])
        and (name is None or (isinstance(name, str) and len(name) <= 40))
    )
