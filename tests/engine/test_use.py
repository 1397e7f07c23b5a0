"""What clients do, each through nginx of the deployment."""

from __future__ import annotations

import io
import json
import threading
from typing import Any

import httpx2
from PIL import Image
from standardwebhooks import Webhook
from websockets.sync.client import connect

from tests.engine.neighbors import ContainerReceiver, ContainerVendor
from tests.engine.project import Project, ended, submit
from tests.support.stack import wait_until

END = {"completed", "failed", "cancelled"}


def test_a_request_is_watched_over_websocket_and_event_stream(
    project: Project, vendor: ContainerVendor, alice: httpx2.Client
) -> None:
    vendor.script(default="hold=1")
    request_id = submit(alice, "A dragon that two clients watch")
    streamed: list[dict[str, Any]] = []
    thread = threading.Thread(target=read_stream, args=[alice, request_id, streamed])
    with connect(project.url.replace("http", "ws", 1) + "/ws/visual-generation") as socket:
        socket.send(json.dumps({"type": "authenticate", "token": project.token()}))
        assert json.loads(socket.recv(timeout=20)) == {"type": "authenticated"}
        socket.send(json.dumps({"type": "subscribe", "requestId": request_id}))
        thread.start()
        wait_until(lambda: streamed and vendor.stats().active == 1, what="a stream and a call")
        vendor.release()
        statuses: list[str] = []
        while not statuses or statuses[-1] not in END:
            message = json.loads(socket.recv(timeout=30))
            if message["type"] in {"subscribed", "update"}:
                statuses.append(message["data"]["status"])
    thread.join(30)
    assert statuses[-1] == "completed"
    assert streamed[-1]["data"]["status"] == "completed"


def read_stream(client: httpx2.Client, request_id: str, into: list[dict[str, Any]]) -> None:
    """Collect the events of a request until it has ended."""
    with client.stream("GET", f"/events?requestId={request_id}") as answer:
        for line in answer.iter_lines():
            if line.startswith("data:"):
                into.append(json.loads(line.removeprefix("data:")))
                if into[-1].get("data", {}).get("status") in END:
                    return


def test_nginx_sends_the_image_of_a_signed_address_itself(
    project: Project, vendor: ContainerVendor, alice: httpx2.Client
) -> None:
    done = ended(alice, submit(alice, "A dragon with an address"))
    assert done["status"] == "completed", done
    address = done["result"]["imageUrl"]
    assert address.startswith(f"{project.url}/")
    sent = httpx2.get(address)
    assert Image.open(io.BytesIO(sent.content)).size
    assert "Last-Modified" in sent.headers  # of the file, which only nginx tells
    assert "X-Accel-Redirect" not in sent.headers
    assert httpx2.get(address[:-1]).status_code == 401  # a wrong signature
    assert httpx2.get(f"{project.url}/pictures/results/").status_code == 404


def test_a_submit_that_waits_is_answered_with_the_image(vendor: ContainerVendor, alice: httpx2.Client) -> None:
    vendor.script(default="delay=0.5")
    body = {"type": "illustration", "prompt": "A dragon that a client waits for"}
    answer = alice.post("/submit", json=body, headers={"Prefer": "wait=30"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["Preference-Applied"] == "wait=30"
    assert answer.json()["request"]["status"] == "completed"


def test_the_api_of_openai_gives_an_image(project: Project, vendor: ContainerVendor) -> None:
    headers = {"Authorization": f"Bearer {project.token()}"}
    body = {"prompt": "A dragon for another API", "size": "1024x1024"}
    answer = httpx2.post(f"{project.url}/v1/images/generations", json=body, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"][0]["b64_json"]


def test_a_webhook_reaches_another_container(project: Project, vendor: ContainerVendor, alice: httpx2.Client) -> None:
    secret = alice.get("/webhooks/secret").json()["secret"]
    with ContainerReceiver(project) as receiver:
        request_id = submit(alice, "A dragon with a webhook", webhookUrl=receiver.INSIDE)
        (delivery,) = wait_until(receiver.received, seconds=30, what="a delivery")
    told = Webhook(secret).verify(delivery["body"], delivery["headers"])
    assert told["type"] == "request.completed"
    assert told["data"]["requestId"] == request_id


def test_the_pages_have_their_files(project: Project) -> None:
    for path in ("/sign-in", "/static/generation/site.css", "/static/admin/css/base.css", "/api/docs/"):
        answer = httpx2.get(f"{project.url}{path}", follow_redirects=True)
        assert answer.status_code == 200, path
