"""Which database errors mean that the database is unavailable for now, so that the same work may be tried again."""

from __future__ import annotations

from typing import Final

from django.db import Error, InterfaceError, OperationalError

#: Classes of SQLSTATE: connection, authorization (a password that is being rotated), transaction rollback (deadlock,
#: serialization failure, conflict with recovery), resources, operator intervention (shutdown, cancel, starting up) and
#: system errors.
_CLASSES: Final = frozenset({"08", "28", "40", "53", "57", "58"})
#: Of the other classes: a standby or a database that was set read-only, a transaction that was idle or took longer than
#: allowed, and a lock or an object that was not to be had in time.
_STATES: Final = frozenset({"25006", "25P03", "25P04", "55P03", "55006"})


class DatabaseUnavailableError(Exception):
    """The database is unavailable for now. The cause is the database's own error."""


def is_outage(error: BaseException | None) -> bool:
    """Return whether the error says that the database is unavailable for now, and not that a statement is wrong.

    The SQLSTATE decides. What has none never reached the server or lost it, and Django's class decides: the pool's
    time-out, a connection that was closed, a refused one.
    """
    state = sqlstate(error)
    if state:
        return state[:2] in _CLASSES or state in _STATES
    return isinstance(error, OperationalError | InterfaceError)


def sqlstate(error: BaseException | None) -> str:
    """Return the SQLSTATE of an error of Django's or of psycopg's, empty where there is none."""
    cause = error.__cause__ if isinstance(error, Error) else error
    return str(getattr(cause, "sqlstate", None) or "")
