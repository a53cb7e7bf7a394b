"""The digest of a read model: equal for any two builds of the same log up to the same commit.

It covers the schema and the rows, and not the file, whose pages depend on how it was written.
"""

import hashlib
import sqlite3
from collections.abc import Callable
from typing import NamedTuple

import msgspec
from sqlite_utils import Database

from projections.tables import applied

ROWS_PER_REPORT = 10_000
"""Rows between two reports of progress."""

SCHEMA = """
SELECT type, name, tbl_name, sql FROM sqlite_schema
WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY type, name
"""
"""Tables, indexes, triggers, and the views: what people see is as much the read model as its rows."""

_encode = msgspec.msgpack.Encoder().encode


class Digest(NamedTuple):
    """The SHA-256 (hexadecimal) of a read model at sequence `seq`, and the number of its `rows`."""

    sha256: str
    seq: int
    rows: int


def digest_of(db: sqlite3.Connection, advance: Callable[[int], None] = lambda _: None) -> Digest:
    """The digest of the schema and all tables at one moment; `advance` receives the number of rows digested so far."""
    tables = Database(db, execute_plugins=False)
    seen, sha256 = 0, hashlib.sha256()
    db.execute("BEGIN")
    try:
        for part in db.execute(SCHEMA):
            sha256.update(_encode(tuple(part)))
        for table in sorted(tables.table_names()):
            columns = [column.name for column in tables.table(table).columns]
            sha256.update(_encode([table, columns]))
            order = ", ".join(f'"{column}"' for column in tables.table(table).pks)
            for row in db.execute(f'SELECT * FROM "{table}" ORDER BY {order}'):  # noqa: S608  # names of its own
                sha256.update(_encode(tuple(row)))
                seen += 1
                if seen % ROWS_PER_REPORT == 0:
                    advance(seen)
        return Digest(sha256.hexdigest(), applied.load(db)[0], seen)
    finally:
        db.execute("ROLLBACK")


def rows(db: sqlite3.Connection) -> int:
    """The number of rows to digest."""
    counts = (f'SELECT count(*) FROM "{table}"' for table in Database(db, execute_plugins=False).table_names())  # noqa: S608
    return sum(db.execute(count).fetchone()[0] for count in counts)
