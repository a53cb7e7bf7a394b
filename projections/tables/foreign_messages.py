"""Foreign messages: messages of the log that are no commits (ADR 0024)."""

import sqlite3

from sqlite_utils import Database

from events.log.grammar import Foreign
from projections.write_batch import Rows

ADD = "INSERT INTO foreign_messages VALUES (?, ?, ?, ?)"
STATEMENTS = (ADD,)


def create(db: Database) -> None:
    """`tenant` is the subject's part for a tenant's name; `subject` is cut to what can be printed safely."""
    db.execute("""
        CREATE TABLE foreign_messages (
            seq INTEGER PRIMARY KEY, tenant TEXT NOT NULL, subject TEXT NOT NULL, reason TEXT NOT NULL
        )""")


def apply(found: Foreign, rows: Rows) -> None:
    """Add a row with the message's place and the reason why it is foreign."""
    tenant = found.subject.split(".")[1] if "." in found.subject else ""
    rows[ADD].append((found.seq, tenant, found.subject, found.reason))


def count(connection: sqlite3.Connection) -> int:
    """The number of foreign messages so far."""
    number: int = connection.execute("SELECT count(*) FROM foreign_messages").fetchone()[0]
    return number
