"""What waits in Redis."""

from __future__ import annotations

import base64
import json
from typing import Any

from celery import current_app

from generation import caching
from generation.states import WEIGHTS


def messages() -> dict[str, list[str]]:
    """The ids that wait in each queue, the next one first."""
    with current_app.connection_for_read() as connection:
        client: Any = connection.default_channel.client  # type: ignore[attr-defined]
        waiting = {queue: client.lrange(queue, 0, -1)[::-1] for queue in WEIGHTS}
    return {
        queue: [json.loads(base64.b64decode(json.loads(raw)["body"]))[0][0] for raw in raws]
        for queue, raws in waiting.items()
        if raws
    }


def lose_all_messages() -> None:
    """Empty the queues."""
    with current_app.connection_for_write() as connection:
        client: Any = connection.default_channel.client  # type: ignore[attr-defined]
        client.delete(*WEIGHTS)
    caching.clear_all()
