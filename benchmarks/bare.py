"""A Celery app that knows nothing of the product: what a worker's start costs before anything of ours is loaded."""

from __future__ import annotations

import os

from celery import Celery

app = Celery("bare", broker=os.environ["REDIS_URL"])
