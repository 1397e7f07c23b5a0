"""Counters for statistics, and the changes that are not added to them yet."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models

from generation.db.functions import Now


class CounterChange(models.Model):
    """The amounts that one change of a request, queue row or spending adds to the counters.

    Triggers insert these rows in the transaction that makes the change, and the dispatcher folds them into
    :class:`Counter` and :class:`QueueLength`. A reader adds the rows that are still here.

    ``microseconds`` is the wait of a first claim, and the duration of an attempt that ended. ``bucket`` is the element
    of the histogram that ``count`` is added to: NULL to find it from ``microseconds``, -1 for none. ``grain`` is empty
    except where a correction concerns the rows of one grain alone. ``length`` counts queue rows of ``weight`` that were
    queued in the hour of ``at``; ``queued`` and ``in_progress`` count requests.
    """

    at = models.DateTimeField(db_default=Now())
    grain = models.CharField(max_length=16, db_default="")
    event = models.CharField(max_length=32, db_default="")
    type = models.CharField(max_length=32, db_default="")
    provider = models.CharField(max_length=32, db_default="")
    error_code = models.CharField(max_length=32, db_default="")
    count = models.BigIntegerField(db_default=0)
    microseconds = models.BigIntegerField(null=True)
    bucket = models.SmallIntegerField(null=True)
    cost = models.DecimalField(max_digits=18, decimal_places=6, db_default=0)  # US dollars
    weight = models.SmallIntegerField(db_default=0)
    length = models.BigIntegerField(db_default=0)
    queued = models.BigIntegerField(db_default=0)
    in_progress = models.BigIntegerField(db_default=0)

    class Meta:
        db_table = "generation_counter_changes"

    def __str__(self) -> str:
        return f"{self.event or self.weight} at {self.at}"


class Counter(models.Model):
    """The number, duration and cost of events in one hour or day (UTC).

    A ``grain`` is a set of dimensions, of which the others are empty: ``hour`` has the type, the provider and the error
    code; ``hour-type`` and ``hour-error`` have one of them; ``day`` has none. So a reader of a day or a week reads a
    few hundred rows. ``histogram`` counts by ``microseconds``, between the bounds in ``generation.db.counters``.
    """

    grain = models.CharField(max_length=16)
    start = models.DateTimeField()
    event = models.CharField(max_length=32)
    type = models.CharField(max_length=32, db_default="")
    provider = models.CharField(max_length=32, db_default="")
    error_code = models.CharField(max_length=32, db_default="")
    count = models.BigIntegerField(db_default=0)
    microseconds = models.BigIntegerField(db_default=0)
    cost = models.DecimalField(max_digits=18, decimal_places=6, db_default=0)  # US dollars
    histogram = ArrayField(models.BigIntegerField())

    class Meta:
        db_table = "generation_counters"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["grain", "start", "event", "type", "provider", "error_code"], name="counter_one_per_key"
            )
        ]

    def __str__(self) -> str:
        return f"{self.event} in the {self.grain} of {self.start}"


class QueueLength(models.Model):
    """A current number. ``kind`` is ``rows`` for queue rows by weight and by the hour in which they were queued, or a
    status for the requests in it, with weight 0 and hour 0 of 1970."""

    kind = models.CharField(max_length=16)
    weight = models.SmallIntegerField()
    hour = models.DateTimeField()
    length = models.BigIntegerField()

    class Meta:
        db_table = "generation_queue_lengths"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["kind", "weight", "hour"], name="queue_length_one_per_key")
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.weight}: {self.length}"
