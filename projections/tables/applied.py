"""How far the read model is: the sequence applied last, and the digest of that commit.

Both move in the transaction that writes the rows. The digest shows whether the read model was made from this log.
"""

import sqlite3

from sqlite_utils import Database

from events.aggregates.commit import digest
from events.log.stored_message import StoredMessage

MOVE = "UPDATE applied SET seq = ?, body = ? WHERE seq = ?"


class MovedBySomebodyElse(Exception):
    """Another writer has moved the table on: the rows may have been written already."""


def create(db: Database) -> None:
    """Create the table and its one row."""
    db.execute("CREATE TABLE applied (seq INTEGER NOT NULL, body TEXT NOT NULL)")
    db.execute("INSERT INTO applied VALUES (0, '')")


def load(connection: sqlite3.Connection) -> tuple[int, str]:
    """The sequence applied last (0: none) and the SHA-256 of that commit's body."""
    seq, body = connection.execute("SELECT seq, body FROM applied").fetchone()
    return seq, body


def move(connection: sqlite3.Connection, before: int, last: StoredMessage) -> None:
    """Move on from the sequence `before` to `last`, as a compare-and-swap. Raises `MovedBySomebodyElse`."""
    if connection.execute(MOVE, (last.seq, digest(last.body), before)).rowcount == 0:
        raise MovedBySomebodyElse
