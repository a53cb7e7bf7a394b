"""The read model as Datasette sees it: views alone, read only, and always the file that lies there now."""

import asyncio
import secrets
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from datasette.app import Datasette
from datasette.database import Database

from projections.read_model import UnusableReadModel, expect_this_version, open_for_queries
from projections.tables.readable_views import VIEWS

T = TypeVar("T")

INTERNAL = "_internal"
"""What Datasette calls the database in which it notes the tables of the others."""
NAME = "read-model"
"""In the console's addresses."""
MAX_VALUE_BYTES = 4 * 1024 * 1024
"""No value of a query may be larger; all there are in a read model are far smaller."""

_READING = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
    sqlite3.SQLITE_PRAGMA,
    sqlite3.SQLITE_TRANSACTION,
}


class InternalDatabase(Database):  # type: ignore[misc]  # Datasette ships no types
    """Datasette's own, in memory. Its connections are closed at the end; Datasette leaves that to the collector."""

    def __init__(self, datasette: Datasette) -> None:
        super().__init__(datasette, memory_name=secrets.token_hex())
        self._connections: list[sqlite3.Connection] = []

    def connect(self, write: bool = False) -> sqlite3.Connection:
        """One for each thread."""
        connection: sqlite3.Connection = super().connect(write)
        self._connections.append(connection)
        return connection

    def close(self) -> None:
        """Once no thread uses them."""
        for connection in self._connections:
            connection.close()


class ReadModelDatabase(Database):  # type: ignore[misc]  # Datasette ships no types
    """The read model at `path`; of one `tenant` alone, if one is named. Queries raise `UnusableReadModel`."""

    def __init__(self, datasette: Datasette, path: Path, tenant: str | None) -> None:
        super().__init__(datasette, path=str(path), is_mutable=True)
        self._file = path
        self._tenant = tenant
        self._connections: dict[int, tuple[tuple[int, int], sqlite3.Connection]] = {}

    async def execute_fn(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """What `fn` makes of a connection, in one of Datasette's threads."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.ds.executor, lambda: fn(self._connection()))

    async def execute(self, sql: str, params: Any = None, **options: Any) -> Any:
        """Without a line about every mistake of the one who asks; its parameters name people."""
        return await super().execute(sql, params, **{**options, "log_sql_errors": False})

    async def execute_write_fn(self, *_: Any, **__: Any) -> Any:
        """Never."""
        raise UnusableReadModel("the console only reads")

    async def table_names(self) -> list[str]:
        """None: what can be read are the views."""
        return []

    async def table_exists(self, _: str) -> bool:
        """Never, by the same reason."""
        return False

    def close(self) -> None:
        """Close every thread's connection."""
        for _, connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def _connection(self) -> sqlite3.Connection:
        """This thread's; a new one where the projector has put another file in the place of the one it was for."""
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
    """A connection that can read the views and nothing else. Raises `UnusableReadModel` with what is wrong."""
    _identity(path)
    connection = None
    try:
        connection = open_for_queries(path)
        expect_this_version(connection)
        connection.text_factory = lambda text: str(text, "utf-8", "replace")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
        for view in VIEWS:  # a temporary view is found before that of the file
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
    """The rows of the view, of one tenant or of all."""
    # a tenant's name contains no quote; the plus keeps lists in the order of the log instead of sorting them
    only = "" if tenant is None else f" WHERE +tenant = '{tenant}'"
    return f"SELECT * FROM main.{view}{only}"  # noqa: S608  # names of ours


def _authorize(action: int, table: str | None, column: str | None, _schema: str | None, source: str | None) -> int:
    """SQLite asks this for everything a statement would do; `source` is the view that reads the table."""
    if action == sqlite3.SQLITE_READ:
        # no column: rows are gone through and nothing of them is read, which loses its source inside a view
        allowed = not column or source in VIEWS or table in VIEWS or (table or "").startswith("sqlite_")
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY


def _identity(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise UnusableReadModel(f"{path} cannot be read: {error.strerror}") from error
    return status.st_dev, status.st_ino
