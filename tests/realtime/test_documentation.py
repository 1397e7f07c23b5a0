"""docs/live-updates.md lists every error, event, close code and limit of the code."""

from __future__ import annotations

import re
from pathlib import Path

from django.conf import settings

from generation.realtime import consumer, send_queue, sse
from generation.realtime.client import MAX_SUBSCRIPTIONS, CloseCode
from generation.realtime.rate_limit import BURST, MOST_REFUSED, RATE
from generation.realtime.replay import MOST_MISSED

PAGE = (Path(__file__).parents[2] / "docs/live-updates.md").read_text()


def _source(module: object) -> str:
    return Path(str(module.__file__)).read_text()  # type: ignore[attr-defined]


def test_every_error_has_its_line() -> None:
    codes = set(re.findall(r'_error\(\s*"(\w+)"', _source(consumer)))
    assert {"invalid_message", "not_found"} <= codes
    assert {code for code in codes if f"| `{code}` |" not in PAGE} == set()


def test_every_event_has_its_line() -> None:
    names = set(re.findall(r'\bevent\(\s*"(\w+)"', _source(sse)))
    assert {"update", "subscribed", "closed"} <= names
    assert {name for name in names if f"| `{name}` |" not in PAGE} == set()


def test_every_close_code_has_its_line() -> None:
    codes = {*map(int, CloseCode), send_queue.TRY_AGAIN_LATER}
    assert {code for code in codes if f"| {code} |" not in PAGE} == set()


def test_the_limits_are_those_of_the_code() -> None:
    for line in (
        f"| time to sign in | {consumer.AUTHENTICATION_DEADLINE} s |",
        f"| subscriptions of one connection | {MAX_SUBSCRIPTIONS} |",
        f"| messages of one client | {BURST} at once, then {RATE} in a second; {MOST_REFUSED} over the rate close |",
        f"| waiting for a client to read | {send_queue.MOST_MESSAGES:,} messages or {send_queue.MOST_BYTES >> 20} MiB, "
        f"and {send_queue.SEND_TIMEOUT} s for one message |",
        f"| changes that are replayed | {MOST_MISSED:,} |",
        f"| connections of one user | {settings.REALTIME_MAX_PER_USER} (`REALTIME_MAX_PER_USER`) |",
        f"| connections of one address, signed in or not | {settings.REALTIME_MAX_PER_ADDRESS} "
        "(`REALTIME_MAX_PER_ADDRESS`) |",
    ):
        assert line in PAGE
