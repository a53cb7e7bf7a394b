"""Words that repeat in every row (tenants, clients, actors, scopes, reasons), stored once and referred to by number.

A word gets its number when it first appears in the log, so the numbers do not depend on how the log was read.
"""

import sqlite3

from sqlite_utils import Database

INSERT = "INSERT INTO names (id, text) VALUES (?, ?)"


def create(db: Database) -> None:
    """Create the table."""
    db.execute("CREATE TABLE names (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)")


class Names(dict[str, int]):
    """Maps a word to its number, and gives a new word the next one; `new` holds the words not yet written."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__((text, id) for id, text in connection.execute("SELECT id, text FROM names"))
        self.new: list[tuple[int, str]] = []

    def __missing__(self, text: str) -> int:
        number = self[text] = len(self) + 1
        self.new.append((number, text))
        return number
