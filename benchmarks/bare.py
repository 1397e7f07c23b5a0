"""A Celery app that knows nothing of the product: what a worker's start costs before anything of ours is loaded, and
what tasks cost that do nothing.

Everything is as Celery comes, but for its two log lines for each task, which are off with us as well.
"""

from __future__ import annotations

import logging
import os
import time
from itertools import count

from celery import Celery
from redis import Redis

app = Celery("bare", broker=os.environ["REDIS_URL"])
for name in ("celery.worker.strategy", "celery.app.trace"):
    logging.getLogger(name).setLevel(logging.WARNING)

_done = count(1)
_began = 0.0


@app.task(name="benchmarks.noop")
def noop(total: int) -> None:
    """Do nothing. The last of so many tasks writes to Redis the time since the first, and counting starts again."""
    global _began
    number = (next(_done) - 1) % total + 1
    if number == 1:
        _began = time.monotonic()
    elif number == total:
        with Redis.from_url(os.environ["REDIS_URL"]) as client:
            client.set("benchmarks:noop", time.monotonic() - _began)
