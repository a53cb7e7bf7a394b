"""Which access token came of which (RFC 8693): one that is revoked takes along what was exchanged from it."""

from sqlite_utils import Database

from events.aggregates.family import TokenIssued
from projections.decoded_commit import FamilyCommit
from projections.interned_names import Names
from projections.tables.history import packed
from projections.write_batch import Rows

ADD = "INSERT INTO exchanges (family, jti, came_of) VALUES (?, ?, ?)"
STATEMENTS = (ADD,)
INDEXES: tuple[str, ...] = ()


def create(db: Database) -> None:
    """A row for every token `came_of` which `jti` (packed as in the history) was made, at first or second hand."""
    db.execute("""
        CREATE TABLE exchanges (
            family INTEGER NOT NULL, jti NOT NULL, came_of TEXT NOT NULL, PRIMARY KEY (family, jti, came_of)
        ) WITHOUT ROWID""")


def apply(commit: FamilyCommit, _names: Names, rows: Rows) -> None:
    """Few commits have any."""
    access = commit.access
    if isinstance(access, TokenIssued) and access.jti is not None and access.exchanged_from:
        rows[ADD].extend(
            (commit.opened, packed(access.jti), came_of) for came_of in dict.fromkeys(access.exchanged_from)
        )
