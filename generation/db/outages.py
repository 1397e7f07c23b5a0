"""Errors that mean that the database is temporarily unavailable, so that the work can be retried."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from django.db import Error, InterfaceError, OperationalError
from psycopg_pool import PoolTimeout

#: Classes of SQLSTATE: connection, authorization (a password that is being rotated), transaction rollback (deadlock,
#: serialization failure, conflict with recovery), resources, operator intervention (shutdown, cancel, starting up) and
#: system errors.
_CLASSES: Final = frozenset({"08", "28", "40", "53", "57", "58"})
#: Those that a statement of its own for each row would meet as well; no SQLSTATE is an error of the client.
_LOST: Final = frozenset({"", "08", "28", "53", "57", "58"})
#: A statement that exceeded its time limit.
_CANCELED: Final = "57014"
#: From other classes: a standby or read-only database, a transaction that was idle or too long, and a lock or object
#: that was not available in time.
_STATES: Final = frozenset({"25006", "25P03", "25P04", "55P03", "55006"})


#: The answer to clients during an outage: text, code, and the seconds until a retry makes sense.
MESSAGE: Final = "The database is not reachable at the moment"
CODE: Final = "database_unavailable"
RETRY_AFTER: Final = 5


class DatabaseUnavailableError(Exception):
    """The database is temporarily unavailable. The cause, if there is one, is the database's own error."""


def is_outage(error: BaseException | None) -> bool:
    """Return whether the error means that the database is temporarily unavailable, not that a statement is wrong.

    The SQLSTATE decides. An error without one never reached the server or lost it, so Django's class decides: a
    time-out of the pool, a closed or a refused connection.
    """
    if isinstance(error, DatabaseUnavailableError):
        return True
    state = sqlstate(error)
    if state:
        return state[:2] in _CLASSES or state in _STATES
    return isinstance(error, OperationalError | InterfaceError)


def is_lost_connection(error: BaseException) -> bool:
    """Return whether the statement may have failed for all of its rows alike: the server was not reached, shut down or
    out of resources, or the connection broke. False if the server refused this statement."""
    state = sqlstate(error)
    return is_outage(error) and state[:2] in _LOST and state != _CANCELED


def is_cut_connection(error: BaseException) -> bool:
    """Return whether a connection was lost at its use. A new one may work at once, unlike after an attempt to connect
    that took all the time there is."""
    return is_lost_connection(error) and not isinstance(error.__cause__, PoolTimeout)


def sqlstate(error: BaseException | None) -> str:
    """Return the SQLSTATE of an error of Django's or of psycopg's, empty if it has none."""
    cause = error.__cause__ if isinstance(error, Error) else error
    return str(getattr(cause, "sqlstate", None) or "")


@contextmanager
def raising_unavailable() -> Iterator[None]:
    """Turn an outage into :class:`DatabaseUnavailableError`, for callers that distinguish errors by class."""
    try:
        yield
    except Error as error:
        if is_outage(error):
            raise DatabaseUnavailableError(str(error)) from error
        raise


def log_failure(logger: logging.Logger, what: str, error: Exception, *, extra: Mapping[str, Any] | None = None) -> None:
    """Log an outage as one line, and any other error, which is our bug, with its traceback."""
    outage = is_outage(error)
    level = logging.WARNING if outage else logging.ERROR
    logger.log(level, "%s: %s", what, error, exc_info=None if outage else error, extra=extra)


def code_and_message(logger: logging.Logger, error: Exception) -> tuple[str, str]:
    """Return code and message for a client of the live updates. Log an error that is not an outage: it is our bug."""
    if is_outage(error):
        return CODE, MESSAGE
    logger.error("unexpected error of the database", exc_info=error)
    return "internal", "Internal server error"
