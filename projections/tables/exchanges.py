"""Which access token was exchanged from which (RFC 8693): revoking one revokes those exchanged from it."""

from sqlite_utils import Database

from events.aggregates.family_events import TokenIssued
from projections.decoded_commit import FamilyCommit
from projections.tables.interned_names import Names
from projections.write_batch import Rows

ADD = "INSERT INTO exchanges (family, jti, came_of) VALUES (?, ?, ?)"
STATEMENTS = (ADD,)
INDEXES: tuple[str, ...] = ()


def create(db: Database) -> None:
    """A row for every access token `came_of` from which `jti` was exchanged, directly or through others."""
    db.execute("""
        CREATE TABLE exchanges (
            family INTEGER NOT NULL, jti TEXT NOT NULL, came_of TEXT NOT NULL, PRIMARY KEY (family, jti, came_of)
        ) WITHOUT ROWID""")


def apply(commit: FamilyCommit, _names: Names, rows: Rows) -> None:
    """Add the rows of an exchanged access token, which few commits issue."""
    access = commit.access
    if isinstance(access, TokenIssued) and access.jti is not None and access.exchanged_from:
        rows[ADD].extend((commit.opened, access.jti, came_of) for came_of in dict.fromkeys(access.exchanged_from))
