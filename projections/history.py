"""Every commit of every family in one narrow row: the generations, the access tokens, and who caused what."""

import sqlite3
from typing import Any

from sqlite_utils import Database

from projections.commit import FamilyCommit, microseconds, moment
from projections.names import Names
from projections.rows import Rows

ADD = (
    "INSERT INTO history (seq, family, at, types, actor, generation, scope, jti, lifetime)"
    " VALUES (?, (SELECT seq FROM families WHERE family_id = ? AND tenant = ?), ?, ?, ?, ?, ?, ?, ?)"
)
STATEMENTS = (ADD,)


def create(db: Database) -> None:
    """`types` names the events; `scope`, `jti` and `lifetime` (microseconds) are of the access token issued then."""
    db.execute("""
        CREATE TABLE history (
            seq INTEGER PRIMARY KEY, family INTEGER NOT NULL, at INTEGER NOT NULL, types INTEGER NOT NULL,
            actor INTEGER NOT NULL, generation INTEGER, scope INTEGER, jti TEXT, lifetime INTEGER
        )""")
    db.execute("CREATE INDEX history_by_family ON history (family)")


def apply(commit: FamilyCommit, names: Names, rows: Rows) -> None:
    """One row."""
    scope = jti = lifetime = None
    if (access := commit.access) is not None:
        scope, jti, lifetime = names[access.scope], access.jti, microseconds(access.expires_at) - commit.at
    types = names[" ".join([type(event).__name__ for event in commit.events])]
    family = commit.family_id, names[commit.tenant]
    actor = names[commit.actor]
    rows[ADD].append((commit.seq, *family, commit.at, types, actor, commit.generation, scope, jti, lifetime))


def timeline(db: sqlite3.Connection, family: int, after: int, limit: int) -> list[dict[str, Any]]:
    """What happened to the family (its opening sequence) after a sequence, oldest first."""
    rows = db.execute(
        """
        SELECT h.seq, h.at, types.text AS types, actor.text AS actor, h.generation, scope.text AS scope, h.jti,
            h.lifetime
        FROM history AS h
        JOIN names AS types ON types.id = h.types
        JOIN names AS actor ON actor.id = h.actor
        LEFT JOIN names AS scope ON scope.id = h.scope
        WHERE h.family = ? AND h.seq > ? ORDER BY h.seq LIMIT ?
        """,
        (family, after, limit),
    )
    return [_entry(row) for row in rows]


def _entry(row: sqlite3.Row) -> dict[str, Any]:
    entry = {"at": moment(row["at"]), "seq": row["seq"], "types": row["types"].split(" "), "actor": row["actor"]}
    if row["generation"] is not None:
        entry["generation"] = row["generation"]
    if row["jti"] is not None:
        entry |= {"scope": row["scope"], "jti": row["jti"], "access_expires_at": moment(row["at"] + row["lifetime"])}
    return entry
