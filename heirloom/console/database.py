"""The read model for Datasette: views only, read-only, and always the file that is there now."""

import asyncio
import secrets
import sqlite3
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from datasette.app import Datasette
from datasette.database import Database

from heirloom.console.understood import is_canned, understood
from projections.read_model import UnusableReadModel, expect_this_version, open_for_queries
from projections.tables.readable_views import VIEWS

T = TypeVar("T")

INTERNAL = "_internal"
"""Datasette's name for the database of its own catalogue."""
NAME = "read-model"
"""The read model's name in the console's URLs."""
MAX_VALUE_BYTES = 4 * 1024 * 1024
"""The largest value in a query; every value of a read model is far smaller."""

_READING = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
    sqlite3.SQLITE_PRAGMA,
    sqlite3.SQLITE_TRANSACTION,
}


class InternalDatabase(Database):  # type: ignore[misc]  # Datasette ships no types
    """Datasette's own database, in memory. Datasette does not close its connections; this class does."""

    def __init__(self, datasette: Datasette) -> None:
        super().__init__(datasette, memory_name=secrets.token_hex())
        self._connections: list[sqlite3.Connection] = []

    def connect(self, write: bool = False) -> sqlite3.Connection:
        """A new connection for a thread."""
        connection: sqlite3.Connection = super().connect(write)
        self._connections.append(connection)
        return connection

    def close(self) -> None:
        """Close the connections, once no thread uses them."""
        for connection in self._connections:
            connection.close()


class ReadModelDatabase(Database):  # type: ignore[misc]  # Datasette ships no types
    """The read model at `path`, of one `tenant` or of all. Queries raise `UnusableReadModel`."""

    def __init__(self, datasette: Datasette, path: Path, tenant: str | None) -> None:
        super().__init__(datasette, path=str(path), is_mutable=True)
        self._file = path
        self._tenant = tenant
        self._connections: dict[int, tuple[tuple[int, int], sqlite3.Connection]] = {}

    async def execute_fn(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Call `fn` with a connection, in one of Datasette's threads; returns its result."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.ds.executor, lambda: fn(self._connection()))

    async def execute(self, sql: str, params: Any = None, **options: Any) -> Any:
        """Run a query, without a log line for every mistake of the user: its parameters name people.

        Raises `NotUnderstood` for a canned query with a parameter that means nothing.
        """
        if is_canned(sql):
            params = await self.execute_fn(lambda db: understood(db, params, datetime.now(UTC)))
        return await super().execute(sql, params, **{**options, "log_sql_errors": False})

    async def execute_write_fn(self, *_: Any, **__: Any) -> Any:
        """Refuse to write."""
        raise UnusableReadModel("the console only reads")

    async def table_names(self) -> list[str]:
        """No table: only the views can be read."""
        return []

    async def table_exists(self, _: str) -> bool:
        """False: no table can be read."""
        return False

    def close(self) -> None:
        """Close every thread's connection."""
        for _, connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def _connection(self) -> sqlite3.Connection:
        """The thread's connection; a new one where the projector has replaced the file."""
        thread, file = threading.get_ident(), _identity(self._file)
        known = self._connections.get(thread)
        if known is not None:
            if known[0] == file:
                return known[1]
            self._connections.pop(thread)[1].close()
        connection = connect(self._file, self._tenant)
        self._connections[thread] = file, connection
        return connection


def connect(path: Path, tenant: str | None = None) -> sqlite3.Connection:
    """A connection that can read the views and nothing else. Raises `UnusableReadModel` with the reason."""
    _identity(path)
    connection = None
    try:
        connection = open_for_queries(path)
        expect_this_version(connection)
        connection.text_factory = lambda text: str(text, "utf-8", "replace")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
        for view in VIEWS:  # a temporary view takes precedence over the file's
            connection.execute(f"CREATE TEMP VIEW {view} AS {_shown(view, tenant)}")
        connection.execute("PRAGMA query_only = 1")
        connection.set_authorizer(_authorize)
    except (sqlite3.DatabaseError, UnusableReadModel) as error:
        if connection is not None:
            connection.close()
        what = "cannot be read" if isinstance(error, sqlite3.OperationalError) else "is no read model of this version"
        raise UnusableReadModel(f"{path} {what}: {error}") from error
    return connection


def _shown(view: str, tenant: str | None) -> str:
    """The query of a view for one tenant, or for all."""
    # a tenant's name contains no quote; the plus keeps lists in the order of the log instead of sorting them
    only = "" if tenant is None else f" WHERE +tenant = '{tenant}'"
    return f"SELECT * FROM main.{view}{only}"  # noqa: S608  # names of ours


def _authorize(action: int, table: str | None, column: str | None, _schema: str | None, source: str | None) -> int:
    """SQLite's authorizer for every part of a statement; `source` is the view that reads the table."""
    if action == sqlite3.SQLITE_READ:
        # without a column, rows are counted but not read; inside a view, SQLite does not name the view then
        allowed = not column or source in VIEWS or table in VIEWS or (table or "").startswith("sqlite_")
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY


def _identity(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise UnusableReadModel(f"{path} cannot be read: {error.strerror}") from error
    return status.st_dev, status.st_ino
