"""The tenants of the log. A query about any other is refused: an empty answer would look like an all-clear."""

import sqlite3

from sqlite_utils import Database

from projections.decoded_commit import TenantCommit
from projections.pagination import NAMED
from projections.tables.interned_names import Names
from projections.write_batch import Rows

ADD = "INSERT OR IGNORE INTO tenants (tenant) VALUES (?)"
STATEMENTS = (ADD,)
_KNOWN = f"""
SELECT 1 FROM tenants WHERE tenant = {NAMED}
UNION ALL SELECT 1 FROM activity WHERE tenant = {NAMED} LIMIT 1"""  # noqa: S608  # our own text
INDEXES: tuple[str, ...] = ()


def create(db: Database) -> None:
    """`tenant` is the number of its name."""
    db.execute("CREATE TABLE tenants (tenant INTEGER PRIMARY KEY)")


def apply(commit: TenantCommit, names: Names, rows: Rows) -> None:
    """Add the tenant, unless it is known."""
    rows[ADD].append((names[commit.tenant],))


def is_known(db: sqlite3.Connection, tenant: str) -> bool:
    """Whether the log has the tenant's settings, or anything that happened at it."""
    return db.execute(_KNOWN, (tenant, tenant)).fetchone() is not None
