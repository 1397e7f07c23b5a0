"""Settings of every session in PostgreSQL: made by each connection, or behind a pooler by its role."""

from __future__ import annotations

from typing import Final

#: - A process that is paused or cut off in the middle of a transaction must not keep its locks: others wait for them,
#:   and its own requests could not be rescued.
#: - No statement of ours runs for a minute, or waits for a lock as long as a lease lasts, where all is well. One that
#:   does is given up, and its work is tried again.
#: - Compiling a query takes longer than it saves, and one that reads many rows is made in the background for figures:
#:   it must not take several processors from requests that are waited for.
SETTINGS: Final = {
    "idle_in_transaction_session_timeout": "10s",
    "statement_timeout": "60s",
    "lock_timeout": "20s",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
}
#: Those without which an outage does harm.
LIMITS: Final = tuple(name for name in SETTINGS if name.endswith("_timeout"))


def startup_options() -> str:
    """Return them as a connection says them to the server when it begins. A pooler refuses that or passes it over."""
    return " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())


def role_statements() -> list[str]:
    """Return the statements that give them to the role that runs them, from its next session on."""
    return [f"ALTER ROLE CURRENT_USER SET {name} = '{value}'" for name, value in SETTINGS.items()]
