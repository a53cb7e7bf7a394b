"""Incidents: a refresh token of an old generation was presented, late or stolen, or one that was never issued."""

import sqlite3
from typing import Any, Literal, TypeAlias

from sqlite_utils import Database

from events.aggregates.commit import type_of
from events.aggregates.family_events import ForgeryDetected, LateDuplicateRefused, RevocationReason, TokenReuseDetected
from projections.decoded_commit import FamilyCommit, moment
from projections.pagination import PageQuery, RowSource, select_by_reason
from projections.tables.interned_names import Names
from projections.write_batch import Rows

Detection: TypeAlias = TokenReuseDetected | LateDuplicateRefused | ForgeryDetected
LATE = "late_duplicate"
"""The reason of an incident that ended nothing."""
IncidentReason: TypeAlias = RevocationReason | Literal["late_duplicate"]

ADD = (
    "INSERT INTO incidents"
    " (seq, n, at, tenant, family, client, sub, type, reason, actor, presenter, presented, current)"
    " SELECT ?, ?, ?, tenant, seq, client, sub, ?, ?, ?, ?, ?, ? FROM families WHERE seq = ?"
)
STATEMENTS = (ADD,)
INDEXES = (
    "CREATE INDEX incidents_by_time ON incidents (tenant, at, seq, n)",
    "CREATE INDEX incidents_by_client ON incidents (tenant, client, at, seq, n)",
    "CREATE INDEX incidents_by_sub ON incidents (tenant, sub, at, seq, n)",
    "CREATE INDEX incidents_by_reason ON incidents (tenant, reason, at, seq, n)",
    "CREATE INDEX incidents_by_family ON incidents (family)",
)

_SELECT = """
SELECT i.at, i.seq, i.n, f.family_id, client.text AS client_id, i.sub, type.text AS type, reason.text AS reason,
    actor.text AS actor, presenter.text AS presented_by, i.presented, i.current
FROM incidents AS i
JOIN families AS f ON f.seq = i.family
JOIN names AS client ON client.id = i.client
JOIN names AS type ON type.id = i.type
JOIN names AS reason ON reason.id = i.reason
JOIN names AS actor ON actor.id = i.actor
JOIN names AS presenter ON presenter.id = i.presenter
"""
_SOURCE = RowSource(_SELECT, "incidents AS i", ("at", "seq", "n"))


def create(db: Database) -> None:
    """`presented` is the generation that was presented, `current` the newest one at that time."""
    db.execute("""
        CREATE TABLE incidents (
            seq INTEGER NOT NULL, n INTEGER NOT NULL, at INTEGER NOT NULL, tenant INTEGER NOT NULL,
            family INTEGER NOT NULL, client INTEGER NOT NULL, sub TEXT NOT NULL, type INTEGER NOT NULL,
            reason INTEGER NOT NULL, actor INTEGER NOT NULL, presenter INTEGER NOT NULL,
            presented INTEGER NOT NULL, current INTEGER NOT NULL,
            PRIMARY KEY (seq, n)
        ) WITHOUT ROWID""")


def apply(commit: FamilyCommit, names: Names, rows: Rows) -> None:
    """Add a row for every detection."""
    for n, event in enumerate(commit.events):
        if isinstance(event, Detection):
            what = names[type_of(event)], names[reason_of(event)]
            who = names[commit.actor], names[event.client_id], event.generation, event.current_generation
            rows[ADD].append((commit.seq, n, commit.at, *what, *who, commit.opened))


def reason_of(event: Detection) -> IncidentReason:
    """The reason for which such a detection ends a family; a late duplicate ends none."""
    match event:
        case ForgeryDetected():
            return "forgery"
        case LateDuplicateRefused():
            return "late_duplicate"
        case TokenReuseDetected():
            return "reuse_detected" if event.credential == "refresh_token" else "code_reuse"


def incidents(db: sqlite3.Connection, page: PageQuery, reason: str | None) -> tuple[list[dict[str, Any]], str | None]:
    """The incidents of the page, newest first, and the next page's cursor."""
    rows, cursor = select_by_reason(db, _SOURCE, page, reason)
    return [_item(row) for row in rows], cursor


def of_family(db: sqlite3.Connection, family: int) -> list[dict[str, Any]]:
    """All incidents of one family (its opening sequence), oldest first."""
    return [_item(row) for row in db.execute(f"{_SELECT} WHERE i.family = ? ORDER BY i.seq, i.n", (family,))]


def of_commit(db: sqlite3.Connection, seq: int) -> list[dict[str, Any]]:
    """All incidents of one commit."""
    return [_item(row) for row in db.execute(f"{_SELECT} WHERE i.seq = ? ORDER BY i.n", (seq,))]


def _item(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "at": moment(row["at"]),
        "seq": row["seq"],
        "type": row["type"],
        "reason": row["reason"],
        "family_id": row["family_id"],
        "client_id": row["client_id"],
        "sub": row["sub"],
        "actor": row["actor"],
        "presented_by": row["presented_by"],
        "generation": row["presented"],
        "current_generation": row["current"],
    }
