"""Settings of PostgreSQL sessions by the kind of process, set on the role of the kind or in the startup options."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Kind(StrEnum):
    """The kind of a process. It determines the names of its sessions, its role and its time-outs."""

    WEB = "web"
    REALTIME = "realtime"
    WORKER = "worker"
    DISPATCHER = "dispatcher"
    DELIVERER = "deliverer"
    COMMAND = "command"
    MIGRATION = "migration"


#: In the user name of DATABASE_URL it stands for the kind of the process: ``vga_{kind}``.
PLACEHOLDER: Final = "{kind}"
#: The kinds that sign in with DATABASE_URL. Migrations sign in as the owner of the tables.
SERVED: Final = tuple(kind for kind in Kind if kind is not Kind.MIGRATION)
#: For one statement that reads many rows in a process whose other statements are short, such as a page of an export.
#: See :func:`generation.db.locks.long_statements`.
LONG_STATEMENT: Final = "1min"


def _limits(*, statement: str, lock: str, idle: str = "10s") -> Mapping[str, str]:
    """Return all settings, in the units in which PostgreSQL shows them.

    ``idle`` limits a transaction in which nothing happens: a process that is paused or cut off in the middle must
    release its locks well within the lease of 30 s, or its requests could not be rescued. Compiling a query takes
    longer than it saves. A query that reads many rows serves statistics and must not take several processors.
    """
    return MappingProxyType(
        {
            "idle_in_transaction_session_timeout": idle,
            "statement_timeout": statement,
            "lock_timeout": lock,
            "jit": "off",
            "max_parallel_workers_per_gather": "0",
        }
    )


#: A statement that exceeds its limit fails as an outage, and its work is retried.
SETTINGS: Final[Mapping[Kind, Mapping[str, str]]] = MappingProxyType(
    {
        # A client waits. The proxy gives up after 60 s, and a request has several statements.
        Kind.WEB: _limits(statement="10s", lock="5s"),
        Kind.REALTIME: _limits(statement="10s", lock="5s"),
        # After a heartbeat that timed out another one fits into the 27 s for which a worker trusts its lease.
        Kind.WORKER: _limits(statement="15s", lock="5s"),
        # A step reads up to 500 rows. It skips locked rows, so it should never wait for a lock.
        Kind.DISPATCHER: _limits(statement="30s", lock="5s"),
        # A group of results must be written before the leases of its deliveries end.
        Kind.DELIVERER: _limits(statement="15s", lock="5s"),
        # An operator waits and can interrupt it. It may lock rows of requests, so it must not hold them for long.
        Kind.COMMAND: _limits(statement="10min", lock="10s"),
        # Changing a large table takes as long as it takes. Waiting for its lock blocks all later statements on the
        # table, so that wait ends before theirs, and `migrate` tries again.
        Kind.MIGRATION: _limits(statement="0", lock="3s", idle="1min"),
    }
)


def application_name(kind: Kind) -> str:
    """Return the name of the sessions in ``pg_stat_activity`` and in PostgreSQL's log."""
    return f"vga-{kind}"


def role(user: str, kind: Kind) -> str:
    """Return the role that a process signs in as, given the user name of DATABASE_URL."""
    return user.replace(PLACEHOLDER, kind)


def startup_options(kind: Kind) -> str:
    """Return the settings as a connection sends them when it begins. A pooler refuses or drops them."""
    return " ".join(f"-c {name}={value}" for name, value in SETTINGS[kind].items())


def role_statements(kind: Kind) -> list[str]:
    """Return the statements that set them for the role that runs them, from its next session on."""
    return [f"ALTER ROLE CURRENT_USER SET {name} = '{value}'" for name, value in SETTINGS[kind].items()]
