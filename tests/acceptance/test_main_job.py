"""The product as its users meet it: production processes, real HTTP, a real image."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from tests.support.stack import Stack, prepared_stack, wait_until

EXAMPLE = {
    "type": "coloring-page",
    "prompt": "A friendly dragon playing in a garden",
    "priority": "normal",
    "projectId": "proj_123",
    "pageId": "page_456",
    "metadata": {"imageStyle": "cartoon", "aspectRatio": "square", "maxAttempts": 3},
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("stack")
    with prepared_stack(folder) as stack:
        stack.start("web", "realtime", "worker", "dispatcher")
        stack.wait_ready()
        yield stack


@pytest.fixture
def alice(stack: Stack) -> Iterator[httpx2.Client]:
    with stack.client("alice") as client:
        yield client


def ended(client: httpx2.Client, request_id: str) -> dict[str, Any]:
    """The status once the request has ended."""

    def look() -> dict[str, Any] | None:
        shape: dict[str, Any] = client.get(f"/status/{request_id}").json()
        return shape if shape["status"] in {"completed", "failed", "cancelled"} else None

    shape: dict[str, Any] = wait_until(look, what="an end")
    return shape


def test_should_submit_generation_request(alice: httpx2.Client) -> None:
    """The first of the guide's integration tests."""
    response = alice.post("/submit", json={"type": "coloring-page", "prompt": "A test prompt", "priority": "normal"})
    assert response.status_code == 200
    assert response.json()["success"] is True
    assert re.match(r"^vga_", response.json()["requestId"])


def test_should_get_request_status(stack: Stack, alice: httpx2.Client) -> None:
    """The second; without a worker, so that the request is still queued when it is looked at."""
    stack.stop("worker")
    try:
        submitted = alice.post("/submit", json={"type": "coloring-page", "prompt": "A test prompt"}).json()
        response = alice.get(f"/status/{submitted['requestId']}")
        assert response.status_code == 200
        assert response.json()["requestId"] == submitted["requestId"]
        assert response.json()["status"] == "queued"
        assert response.json()["queuePosition"] >= 1
    finally:
        stack.start("worker")
        stack.wait_ready()


def test_a_submitted_page_becomes_an_image(stack: Stack, alice: httpx2.Client) -> None:
    submitted = alice.post("/submit", json=EXAMPLE)
    shape = ended(alice, submitted.json()["requestId"])
    assert shape["status"] == "completed", shape["error"]
    assert submitted.headers["location"] == f"{stack.base_url}/api/visual-generation/status/{shape['requestId']}"
    assert (shape["projectId"], shape["pageId"], shape["progress"]) == ("proj_123", "page_456", 100)
    assert shape["metadata"]["imageStyle"] == "cartoon"
    result = shape["result"]
    head, _, encoded = result["imageData"].partition(",")
    assert head == "data:image/png;base64"
    data = base64.b64decode(encoded)
    assert len(data) == result["bytes"]
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (result["width"], result["height"]) == (1024, 1024)
        assert "OpenMoji" in image.text["Attribution"]  # type: ignore[attr-defined]
    assert "OpenMoji" in result["attribution"]
    # The addresses work without a token.
    assert httpx2.get(result["imageUrl"]).content == data
    with Image.open(io.BytesIO(httpx2.get(result["thumbnailUrl"]).content)) as small:
        assert (small.format, max(small.size)) == ("WEBP", 320)
    assert httpx2.get(result["imageUrl"].partition("?")[0]).status_code == 401


def test_a_request_is_invisible_to_another_user(stack: Stack, alice: httpx2.Client) -> None:
    request_id = alice.post("/submit", json=EXAMPLE).json()["requestId"]
    ended(alice, request_id)
    unknown = "vga_1234567890123456_nobodyhasthisone00"
    with stack.client("charlie") as charlie, stack.client("bob") as bob:
        for method, path in (("GET", "status"), ("GET", "image"), ("GET", "thumbnail"), ("DELETE", "cancel")):
            foreign, nobodys = (
                charlie.request(method, f"/{path}/{request_id}"),
                charlie.request(method, f"/{path}/{unknown}"),
            )
            assert (
                (foreign.status_code, foreign.content)
                == (nobodys.status_code, nobodys.content)
                == (404, foreign.content)
            )
        assert bob.get(f"/status/{request_id}").status_code == 200


def test_a_cancelled_request_stays_cancelled_and_is_never_drawn(stack: Stack, alice: httpx2.Client) -> None:
    stack.stop("worker")
    request_id = alice.post("/submit", json=EXAMPLE).json()["requestId"]
    assert alice.delete(f"/cancel/{request_id}").json() == {
        "success": True,
        "message": "Request cancelled successfully",
    }
    assert alice.delete(f"/cancel/{request_id}").status_code == 404
    stack.start("worker")
    stack.wait_ready()
    ended(alice, alice.post("/submit", json=EXAMPLE).json()["requestId"])
    shape = alice.get(f"/status/{request_id}").json()
    assert (shape["status"], shape["result"], shape["metadata"]["attempts"]) == ("cancelled", None, 0)


def test_ten_of_each_priority_start_strictly_by_priority_and_in_order(stack: Stack, alice: httpx2.Client) -> None:
    stack.stop("worker")
    submitted: dict[str, list[str]] = {priority: [] for priority in ("urgent", "high", "normal", "low")}
    for _ in range(10):
        for priority in ("low", "urgent", "normal", "high"):
            answer = alice.post("/submit", json=EXAMPLE | {"priority": priority})
            submitted[priority].append(answer.json()["requestId"])
    stack.env["MAX_CONCURRENT_REQUESTS"] = "1"  # one at a time, so that the order of starting is exact
    stack.start("worker")
    shapes = [ended(alice, request_id) for ids in submitted.values() for request_id in ids]
    started = sorted(shapes, key=lambda shape: shape["metadata"]["startedAt"])
    wanted = [request_id for ids in submitted.values() for request_id in ids]
    assert [shape["requestId"] for shape in started] == wanted
