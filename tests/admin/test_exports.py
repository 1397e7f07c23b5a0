"""Exports: what stands in the file, and how many there may be at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client

from generation.admin import export
from tests.admin.pages import EXPORT, REQUESTS, text
from tests.support.requests import queued

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("empty_queues")]


@pytest.fixture(autouse=True)
def _no_exports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin without exports, and forget those that a test has not read."""
    monkeypatch.setattr(export._Place, "_writing", set())
    yield
    for key in export._redis().scan_iter("vga:export:*"):
        export._redis().delete(key)


def _abandon(answer: Any) -> None:
    """Close an answer as the server does; the whole of it would close the test's connection to the database too."""
    for close in answer._resource_closers:
        close()


def _read(answer: Any) -> bytes:
    return b"".join(answer.streaming_content)


def test_a_spreadsheet_reads_an_export_as_unicode(viewer: Client, alice: User) -> None:
    queued(alice, prompt="Un ratón pequeño en Łódź, 日本 🐉", project_id="=ó")
    answer = viewer.get(EXPORT)
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    content = _read(answer)
    assert content.startswith(b"\xef\xbb\xbfid,type,status")
    assert content.count(b"\xef\xbb\xbf") == 1
    lines = content.decode("utf-8-sig").splitlines()
    assert len(lines) == 2
    assert '"Un ratón pequeño en Łódź, 日本 🐉"' in lines[1]
    assert "'=ó" in lines[1]


def test_a_user_has_one_export_at_a_time(viewer: Client, operator: Client, alice: User) -> None:
    queued(alice)
    first = viewer.get(EXPORT)
    assert first.streaming
    second = viewer.get(f"{EXPORT}?owner=alice")
    assert second.status_code == 302
    assert second["Location"] == f"{REQUESTS}?owner=alice"
    assert "Your previous export is still running" in text(viewer.get(second["Location"]))
    assert len(_read(operator.get(EXPORT)).splitlines()) == 2
    assert len(_read(first).splitlines()) == 2
    assert viewer.get(EXPORT).streaming
    assert LogEntry.objects.filter(change_message__startswith="Exported").count() == 3


def test_another_process_knows_of_an_export(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    first = viewer.get(EXPORT)
    monkeypatch.setattr(export._Place, "_writing", set())  # as another process has it
    assert viewer.get(EXPORT).status_code == 302
    _abandon(first)
    assert viewer.get(EXPORT).status_code == 200


def test_a_process_writes_few_exports_at_once(browser_of: Any) -> None:
    clients = [browser_of("viewer", name=f"viewer-{number}") for number in range(3)]
    answers = [client.get(EXPORT) for client in clients]
    assert [answer.status_code for answer in answers] == [200, 200, 302]
    assert "Several exports" in text(clients[2].get(REQUESTS))
    _abandon(answers[0])
    assert clients[2].get(EXPORT).status_code == 200


@pytest.mark.parametrize("end", ["read", "closed", "failed"])
def test_an_export_that_ended_makes_room(viewer: Client, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if end == "failed":
        monkeypatch.setattr("generation.admin.export._COLUMNS", 5)
    answer: Any = viewer.get(EXPORT)
    if end == "closed":
        _abandon(answer)
    elif end == "read":
        _read(answer)
    else:
        with pytest.raises(Exception, match="iterable"):
            _read(answer)
    assert export._Place._writing == set()
    assert not export._redis().keys("vga:export:*")


def test_exports_go_on_without_redis(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from redis.exceptions import ConnectionError as NoRedis

    def no_redis() -> Any:
        raise NoRedis

    monkeypatch.setattr(export, "_redis", no_redis)
    first = viewer.get(EXPORT)
    assert first.streaming
    assert viewer.get(EXPORT).status_code == 302
    _abandon(first)
    monkeypatch.undo()


def test_an_export_is_read_and_nothing_else(viewer: Client) -> None:
    assert viewer.post(EXPORT).status_code == 405
    assert export._Place._writing == set()
