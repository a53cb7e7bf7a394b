"""What lies in the log and is no commit: a row for each, stepped over (ADR 0024)."""

import sqlite3

from sqlite_utils import Database

from events.log.grammar import Foreign
from projections.write_batch import Rows

ADD = "INSERT INTO foreign_messages VALUES (?, ?, ?, ?)"
STATEMENTS = (ADD,)


def create(db: Database) -> None:
    """`tenant` is what its subject names in a tenant's place; `subject` is as much of it as can safely be printed."""
    db.execute("""
        CREATE TABLE foreign_messages (
            seq INTEGER PRIMARY KEY, tenant TEXT NOT NULL, subject TEXT NOT NULL, reason TEXT NOT NULL
        )""")


def apply(found: Foreign, rows: Rows) -> None:
    """Where it lies, and why it is no commit."""
    tenant = found.subject.split(".")[1] if "." in found.subject else ""
    rows[ADD].append((found.seq, tenant, found.subject, found.reason))


def count(connection: sqlite3.Connection) -> int:
    """So many have been stepped over."""
    number: int = connection.execute("SELECT count(*) FROM foreign_messages").fetchone()[0]
    return number
