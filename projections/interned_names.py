"""Words that repeat in every row (tenants, clients, actors, scopes, reasons), each kept once under a small number.

A number is given at a word's first appearance in the log, so it does not depend on how the log was read.
"""

import sqlite3

from sqlite_utils import Database

INSERT = "INSERT INTO names (id, text) VALUES (?, ?)"


def create(db: Database) -> None:
    """The table."""
    db.execute("CREATE TABLE names (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)")


class Names(dict[str, int]):
    """Word → number, given when a word is first asked for; `new` holds those not yet written."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__((text, id) for id, text in connection.execute("SELECT id, text FROM names"))
        self.new: list[tuple[int, str]] = []

    def __missing__(self, text: str) -> int:
        number = self[text] = len(self) + 1
        self.new.append((number, text))
        return number
