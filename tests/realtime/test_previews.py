"""Previews in live updates: messages without a sequence, which may be lost."""

from __future__ import annotations

import json

from generation.realtime.client import Listener
from generation.realtime.send_queue import MOST_MESSAGES
from generation.requests import events
from tests.realtime.live import Live

ADDRESS = "https://images.example.org/preview?signature=x"


def preview(live: Live, request_id: str, number: int = 0) -> events.Preview:
    """Return the message of a worker about a stored preview."""
    [row] = live.database.rows("SELECT * FROM generation_requests WHERE id = %s", request_id)
    text = json.dumps({"type": "preview", "requestId": request_id, "index": number, "previewUrl": ADDRESS})
    return events.Preview(
        request_id=request_id,
        batch_id=row["batch_id"],
        owner_id=row["owner_id"],
        project_id=row["project_id"],
        number=number,
        key="previews/x.png",
        width=8,
        height=8,
        text=text,
    )


def test_subscribers_of_request_batch_and_project_get_it(live: Live) -> None:
    batch_id, [request_id] = live.submit_batch(1, projectId="proj_previews")
    topics = [{"requestId": request_id}, {"batchId": batch_id}, {"projectId": "proj_previews"}]
    for topic in topics:
        with live.socket() as socket, live.stream(topic) as stream:
            socket.ask(type="subscribe", **topic)
            stream.hear()
            live.send(events.message_of([preview(live, request_id, 1)]))
            message = socket.hear()
            assert message == {"type": "preview", "requestId": request_id, "index": 1, "previewUrl": ADDRESS}
            assert stream.hear() == {"event": "preview", "data": message}


def test_another_user_gets_none(live: Live) -> None:
    request_id = live.submit()
    with live.socket("charlie") as socket:
        assert socket.ask(type="subscribe", requestId=request_id)["type"] == "error"
        live.send(events.message_of([preview(live, request_id)]))
        assert socket.hears_nothing()


def test_it_keeps_its_place_and_changes_no_sequence(live: Live) -> None:
    request_id = live.submit()
    with live.socket() as socket:
        socket.ask(type="subscribe", requestId=request_id)
        for number in (1, 0):
            live.send(events.message_of([preview(live, request_id, number)]))
            assert socket.hear()["index"] == number
        live.cancel(request_id)
        assert socket.hear()["data"]["sequence"] == 2


def test_a_client_that_is_behind_loses_it() -> None:
    listener = Listener()
    for _ in range(MOST_MESSAGES // 2 + 1):
        listener.send_queue.put("x")
    listener.send_queue.offer("a preview")
    assert "a preview" not in listener.send_queue._texts
    assert not listener.send_queue.is_closed
