"""What cannot be gone below on this machine: a bare INSERT and a bare publish. Every run begins with them.

The other floors are measured in turns with what stands on them: an empty view in :mod:`benchmarks.floor`, and a Celery
task that does nothing in :mod:`benchmarks.bare`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

import psycopg
import redis

from benchmarks.plan import Plan
from benchmarks.report import Figure
from benchmarks.turns import in_turns, middle, repeated
from tests.support.stack import prepared_database

_TABLE: Final = "CREATE TABLE floor (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text NOT NULL)"
_INSERT: Final = "INSERT INTO floor (body) VALUES (%s)"
_TEXT: Final = "A friendly dragon playing in a garden full of flowers"


@dataclass(frozen=True)
class Floors:
    """One after the other from one Python process: rows committed through psycopg, and messages through Redis until a
    subscriber in the same process has each."""

    insert: Figure
    publish: Figure


def measure(plan: Plan) -> Floors:
    """Take some seconds for both."""
    plan.say("floors: a bare INSERT, a bare publish")
    with (
        prepared_database() as url,
        psycopg.connect(url, autocommit=True) as database,
        redis.Redis.from_url(os.environ["REDIS_URL"]) as broker,
        broker.pubsub(ignore_subscribe_messages=True) as subscriber,
    ):
        database.execute(_TABLE)
        subscriber.subscribe("floor")
        subscriber.get_message(timeout=5)  # that it is subscribed

        def publish() -> None:
            broker.publish("floor", _TEXT)
            subscriber.get_message(timeout=5)

        taken = in_turns(
            {
                "INSERT": lambda: repeated(lambda: database.execute(_INSERT, [_TEXT]), seconds=1),
                "publish": lambda: repeated(publish, seconds=1),
            },
            slices=plan.slices,
        )
    return Floors(
        Figure.of(middle(taken["INSERT"]), "floor: INSERT, one connection"),
        Figure.of(middle(taken["publish"]), "floor: publish to subscriber, Redis"),
    )
