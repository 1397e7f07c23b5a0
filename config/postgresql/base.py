"""Django's PostgreSQL, with a pool that is over an outage as soon as the server is, and statements that are planned
once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django.conf import settings
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql import base
from django.db.backends.utils import CursorWrapper
from psycopg import Connection, Cursor, OperationalError
from psycopg.errors import FeatureNotSupported
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg_pool import ConnectionPool

from config.startup import require_database

#: Seconds after which a failed attempt to connect is given up. Whoever comes next then makes a new one; the pool's own
#: attempts wait twice as long each time, and meanwhile it makes no other.
_RECONNECT_SECONDS = 1
#: psycopg has the server keep no plan where there is no threshold, even of what is to be prepared. Nothing is run so
#: often on one connection.
_NEVER_UNASKED = 2**31


class PreparedCursor(Cursor[Any]):
    """Has the server keep the plans: where a statement writes four tables, making one takes longer than running it."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> PreparedCursor:
        told = {"prepare": True} | options
        try:
            super().execute(query, params, **told)
        except FeatureNotSupported:
            # A column has another type since the plan was made. In a transaction its end forgets the plans.
            if self.connection.info.transaction_status != TransactionStatus.IDLE:
                raise
            self.connection.execute("DEALLOCATE ALL")
            super().execute(query, params, **told)
        return self


class DatabaseWrapper(base.DatabaseWrapper):
    """Its pool looks at every idle connection as soon as one was found cut.

    Where one was, the others were as well. Each would cost whoever comes for a connection a pause, twice as long each
    time, so that a server that was restarted would cost clients errors long after.
    """

    # Django's, of which its stubs do not know.
    _connection_pools: ClassVar[dict[str, ConnectionPool]]
    _configure_connection: Callable[[Any], None]
    _prepare_cursor: Callable[[Any], CursorWrapper]

    def get_connection_params(self) -> dict[str, Any]:
        require_database(self.settings_dict)
        threshold = _NEVER_UNASKED if settings.DATABASE_PREPARED_STATEMENTS else None
        return {**super().get_connection_params(), "prepare_threshold": threshold}

    @property
    def pool(self) -> ConnectionPool | None:
        options: dict[str, Any] | None = self.settings_dict["OPTIONS"].get("pool")
        if self.alias == NO_DB_ALIAS or not options:
            return None
        if self.alias not in self._connection_pools:
            self._connection_pools.setdefault(self.alias, self._new_pool(options))
        return self._connection_pools[self.alias]

    def _new_pool(self, options: dict[str, Any]) -> ConnectionPool:
        def check(connection: Connection) -> None:
            # The pool's own check runs the same empty statement through a cursor, which takes three times as long.
            if connection.pgconn.exec_(b"").status != ExecStatus.EMPTY_QUERY:
                pool.check()
                raise OperationalError("the connection was cut")

        pool = ConnectionPool(
            kwargs=self.get_connection_params() | {"autocommit": True},
            open=False,
            configure=self._configure_connection,
            check=check,
            reconnect_timeout=_RECONNECT_SECONDS,
            **options,
        )
        return pool

    def _close(self) -> None:
        # A connection to a standby works for reading, so the pool would keep it. After a failover the address may lead
        # to the new primary, so the next one has to be a new one. The server reports both parameters when they change.
        if self.connection is not None and any(
            self.connection.pgconn.parameter_status(name) == b"on"
            for name in (b"in_hot_standby", b"default_transaction_read_only")
        ):
            self.connection.close()
        super()._close()  # type: ignore[misc]

    def prepared_cursor(self) -> CursorWrapper:
        """A cursor for statements that are run again and again. Their parameters are bound by the server."""
        self.ensure_connection()
        with self.wrap_database_errors:
            cursor = PreparedCursor(self.connection)
        return self._prepare_cursor(cursor)
