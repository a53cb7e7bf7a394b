"""How far the read model has come: the sequence applied last, and what that commit was.

It moves in the transaction that writes the rows. The digest tells a read model of this log from one of another.
"""

import sqlite3

from sqlite_utils import Database

from events.aggregates.commit import digest
from events.log.stored_commit import Stored

MOVE = "UPDATE checkpoint SET seq = ?, body = ? WHERE seq = ?"


class MovedBySomebodyElse(Exception):
    """Another writer has been at this file: what is to be written now may be there already."""


def create(db: Database) -> None:
    """The table and its one row."""
    db.execute("CREATE TABLE checkpoint (seq INTEGER NOT NULL, body TEXT NOT NULL)")
    db.execute("INSERT INTO checkpoint VALUES (0, '')")


def load(connection: sqlite3.Connection) -> tuple[int, str]:
    """The sequence applied last (0: none) and the SHA-256 of that commit's body."""
    seq, body = connection.execute("SELECT seq, body FROM checkpoint").fetchone()
    return seq, body


def move(connection: sqlite3.Connection, applied: int, last: Stored) -> None:
    """From `applied` to `last`, in one step as the log itself does it. Raises `MovedBySomebodyElse`."""
    if connection.execute(MOVE, (last.seq, digest(last.body), applied)).rowcount == 0:
        raise MovedBySomebodyElse
