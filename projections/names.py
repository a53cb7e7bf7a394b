"""Words that repeat in every row (tenants, clients, actors, scopes, reasons), each kept once under a small number.

A number is given at a word's first appearance in the log, so it does not depend on how the log was read.
"""

import sqlite3

from sqlite_utils import Database

INSERT = "INSERT INTO names (id, text) VALUES (?, ?)"


def create(db: Database) -> None:
    """The table."""
    db.execute("CREATE TABLE names (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)")


class Names:
    """The numbers given so far, and those not yet written."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._ids: dict[str, int] = {text: id for id, text in connection.execute("SELECT id, text FROM names")}
        self.new: list[tuple[int, str]] = []

    def id(self, text: str) -> int:
        """The word's number, given now if it has none."""
        number = self._ids.get(text)
        if number is None:
            number = len(self._ids) + 1
            self._ids[text] = number
            self.new.append((number, text))
        return number
