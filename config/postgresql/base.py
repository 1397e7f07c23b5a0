"""Django's PostgreSQL backend, with a pool that recovers as soon as the server does, and with prepared statements."""

from __future__ import annotations

import select
import threading
import time
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

#: Seconds after which the pool gives up reconnecting. The next caller then starts a new attempt; the pool's own
#: attempts back off exponentially, and meanwhile it makes no others.
_RECONNECT_SECONDS = 1
#: psycopg prepares nothing without a threshold, even if asked to for a statement. No statement runs this often on one
#: connection.
_NEVER_UNASKED = 2**31
#: Seconds after its last check for which a silent connection counts as working.
_TRUSTED_FOR = 1.0


class _Caller(threading.local):
    """Whether this thread repeats its statement if the connection turns out to be cut."""

    repeats = False


_caller = _Caller()


class PooledConnection(Connection[Any]):
    """Remembers when the pool last checked it by a round trip."""

    #: By the monotonic clock.
    checked_at = 0.0

    def is_trusted(self) -> bool:
        """Return whether it works as far as is known without a round trip: the last one was a moment ago, and the
        server has not sent anything since. A server that shuts down or ends a session sends an error."""
        if time.monotonic() - self.checked_at > _TRUSTED_FOR:
            return False
        poll = select.poll()
        poll.register(self.pgconn.socket, select.POLLIN)
        return not poll.poll(0)

    def answers(self) -> bool:
        """Ask the server by an empty statement."""
        if threading.current_thread() is threading.main_thread():
            # Where signals are handled: a stop or Ctrl-C must not wait for a server that is silent.
            try:
                self.execute("")
            except OperationalError:
                return False
            return True
        # The same without a cursor, in a third of the time.
        return bool(self.pgconn.exec_(b"").status == ExecStatus.EMPTY_QUERY)


class PreparedCursor(Cursor[Any]):
    """Prepares statements: planning one that writes four tables takes longer than running it."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> PreparedCursor:
        told = {"prepare": True} | options
        try:
            super().execute(query, params, **told)
        except FeatureNotSupported:
            # The type of a column has changed since the plan was made. The end of a transaction discards its plans.
            if self.connection.info.transaction_status != TransactionStatus.IDLE:
                raise
            self.connection.execute("DEALLOCATE ALL")
            super().execute(query, params, **told)
        return self


class DatabaseWrapper(base.DatabaseWrapper):
    """The pool checks all idle connections as soon as one is found broken.

    If one is, the others are as well. Otherwise each of them would delay a caller by an exponential backoff, so that a
    restarted server would cause errors for clients long after.
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
        def check(connection: PooledConnection) -> None:
            if _caller.repeats and connection.is_trusted():
                return
            if not connection.answers():
                pool.check()
                raise OperationalError("the connection was cut")
            connection.checked_at = time.monotonic()

        pool: ConnectionPool[Any] = ConnectionPool(
            connection_class=PooledConnection,
            kwargs=self.get_connection_params() | {"autocommit": True},
            open=False,
            configure=self._configure_connection,
            check=check,
            reconnect_timeout=_RECONNECT_SECONDS,
            **options,
        )
        return pool

    def get_autocommit(self) -> bool:
        # Django connects to answer this, although a new connection has the setting. So a function that is to run after
        # the commit would take a connection from the pool while there is no transaction.
        return bool(super().get_autocommit()) if self.connection else bool(self.settings_dict["AUTOCOMMIT"])

    def _close(self) -> None:
        # A connection to a standby works for reading, so the pool would keep it. After a failover the address may lead
        # to the new primary, so the next connection must be new. The server reports both parameters when they change.
        if self.connection is not None and any(
            self.connection.pgconn.parameter_status(name) == b"on"
            for name in (b"in_hot_standby", b"default_transaction_read_only")
        ):
            self.connection.close()
        super()._close()  # type: ignore[misc]

    def prepared_cursor(self, *, repeats: bool = False) -> CursorWrapper:
        """A cursor for statements that run again and again. The server binds their parameters.

        A caller that ``repeats`` its statement if the connection turns out to be cut gets one from the pool without a
        round trip if that connection worked a moment ago.
        """
        _caller.repeats = repeats
        try:
            self.ensure_connection()
        finally:
            _caller.repeats = False
        with self.wrap_database_errors:
            cursor = PreparedCursor(self.connection)
        return self._prepare_cursor(cursor)
