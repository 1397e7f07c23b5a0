"""The statements that run for every request, as plain SQL.

- Words in lower case are names of tables, columns and aliases; :func:`generation.db.names.mistakes` compares them with
  the models when a process starts. Words in upper case are SQL. ``%(name)s`` is a parameter.
- A comment at the beginning names the statement in ``pg_stat_activity``, ``pg_stat_statements`` and the server's log.
- All times are the database's: ``STATEMENT_TIMESTAMP()``. Durations are intervals.
- Every statement locks in the same order, so that no two can wait for each other: the provider's row, the batch's row,
  requests in the order of their ids, their attempts, the owner's day of spending, their rows in the queue. Statements
  on rows of the queue alone skip rows that are locked.
- ``tests/integration/test_query_plans.py`` looks at the plans with 300,000 rows.
"""

from __future__ import annotations

from typing import Final

from generation.db.queries.attempts import (
    BEGIN_CALLS,
    CLAIM,
    CLAIM_UNLOCKED,
    END,
    END_UNLOCKED,
    EXPIRED,
    EXTEND_LEASES,
    RELEASE,
    RELEASE_UNLOCKED,
    RESCUE,
)
from generation.db.queries.estimates import DURATIONS, MEASURE, MEASURED
from generation.db.queries.queue import (
    COUNT_AHEAD,
    COUNTED,
    FIND_AHEAD,
    FIND_VERSION,
    SEND_DUE,
    SUBMIT,
    TAKE_KEY,
    UNPARK,
    VERSION,
)
from generation.db.queries.reading import FIND, FIND_ALL, REQUEST, SOURCES
from generation.db.queries.webhooks import (
    ADD_DELIVERIES,
    END_EXPIRED,
    END_PENDING,
    ENDED_BATCHES,
    NOTE_APPROVAL,
    NOTE_ENDPOINTS,
    SETTLE,
    TAKE_DELIVERIES,
    TAKE_EVENTS,
    TARGETS,
)

ALL: Final = {
    "submit": SUBMIT,
    "take key": TAKE_KEY,
    "count ahead": COUNT_AHEAD,
    "claim": CLAIM,
    "claim unlocked": CLAIM_UNLOCKED,
    "begin calls": BEGIN_CALLS,
    "end": END,
    "end unlocked": END_UNLOCKED,
    "release": RELEASE,
    "release unlocked": RELEASE_UNLOCKED,
    "extend leases": EXTEND_LEASES,
    "expired leases": EXPIRED,
    "rescue": RESCUE,
    "send due": SEND_DUE,
    "unpark": UNPARK,
    "find": FIND,
    "find all": FIND_ALL,
    "sources": SOURCES,
    "find with ahead": FIND_AHEAD,
    "find version": FIND_VERSION,
    "recent durations": DURATIONS,
    "measure estimates": MEASURE,
    "measured estimates": MEASURED,
    "note approval": NOTE_APPROVAL,
    "take webhook events": TAKE_EVENTS,
    "webhook targets": TARGETS,
    "ended batches": ENDED_BATCHES,
    "add deliveries": ADD_DELIVERIES,
    "take deliveries": TAKE_DELIVERIES,
    "settle deliveries": SETTLE,
    "note endpoints": NOTE_ENDPOINTS,
    "end pending": END_PENDING,
    "end expired": END_EXPIRED,
}

__all__ = [
    "ADD_DELIVERIES",
    "ALL",
    "BEGIN_CALLS",
    "CLAIM",
    "CLAIM_UNLOCKED",
    "COUNTED",
    "COUNT_AHEAD",
    "DURATIONS",
    "END",
    "ENDED_BATCHES",
    "END_EXPIRED",
    "END_PENDING",
    "END_UNLOCKED",
    "EXPIRED",
    "EXTEND_LEASES",
    "FIND",
    "FIND_AHEAD",
    "FIND_ALL",
    "FIND_VERSION",
    "MEASURE",
    "MEASURED",
    "NOTE_APPROVAL",
    "NOTE_ENDPOINTS",
    "RELEASE",
    "RELEASE_UNLOCKED",
    "REQUEST",
    "RESCUE",
    "SEND_DUE",
    "SETTLE",
    "SOURCES",
    "SUBMIT",
    "TAKE_DELIVERIES",
    "TAKE_EVENTS",
    "TAKE_KEY",
    "TARGETS",
    "UNPARK",
    "VERSION",
]
