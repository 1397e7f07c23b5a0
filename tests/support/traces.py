"""Where secret words could end up: every table, every log, Redis, and the files."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from django.apps import apps
from django.conf import settings

#: Ends what is listened to.
_END = "that-is-all"


def everything_logged(caplog: pytest.LogCaptureFixture) -> None:
    """From now on, of every logger that there is."""
    caplog.set_level(logging.DEBUG)
    for name in list(logging.root.manager.loggerDict):
        caplog.set_level(logging.DEBUG, logger=name)


class Wiretap:
    """What was said to Redis, by whomever."""

    def __init__(self) -> None:
        self.heard = b""


@contextmanager
def tapped_redis() -> Iterator[Wiretap]:
    """All that is said to Redis for as long as this lasts."""
    tap = Wiretap()
    client = redis.Redis.from_url(settings.REDIS_URL)
    line: Any = client.connection_pool.get_connection()
    line.send_command("MONITOR")
    assert line.read_response() in {b"OK", "OK"}

    def listen() -> None:
        while _END.encode() not in tap.heard:
            tap.heard += line.read_response(disable_decoding=True)

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        yield tap
    finally:
        client.echo(_END)
        listener.join(timeout=20)
        line.disconnect()
        client.close()


def traces(words: str, *, caplog: pytest.LogCaptureFixture, tap: Wiretap) -> list[str]:
    """Where the words stand."""
    found = [f"table {name}" for name, rows in _tables() if words in rows]
    found += [f"logger {record.name}" for record in caplog.records if words in _all_of(record)]
    if words.encode() in tap.heard:
        found.append("redis")
    found += [f"file {path}" for path in _files() if words.encode() in path.read_bytes() or words in str(path)]
    return sorted(set(found))


def _tables() -> Iterator[tuple[str, str]]:
    for model in apps.get_models(include_auto_created=True):
        if model._meta.managed:
            yield model._meta.db_table, repr(list(model._base_manager.values()))


def _all_of(record: logging.LogRecord) -> str:
    """The message, what stands beside it, and the error with all that it came from."""
    error = record.exc_info[1] if record.exc_info else None
    told = "".join(traceback.format_exception(error)) + repr(vars(error)) if error else ""
    return f"{record.getMessage()} {vars(record)!r} {told}"


def _files() -> Iterator[Path]:
    folder: Any = settings.MEDIA_ROOT
    yield from (path for path in Path(folder).rglob("*") if path.is_file())
