"""Revocations: of whole families, and of single access tokens."""

import sqlite3
from typing import Any, Literal

from sqlite_utils import Database

from events.aggregates.family_events import FamilyRevoked, TokenRevoked
from projections.decoded_commit import FamilyCommit, moment
from projections.pagination import PageQuery, RowSource, select_by_reason
from projections.tables.interned_names import Names
from projections.write_batch import Rows

ADD = (
    "INSERT INTO revocations (seq, n, at, tenant, family, client, sub, reason, actor, cause, jti)"
    " SELECT ?, ?, ?, tenant, seq, client, sub, ?, ?, ?, ? FROM families WHERE seq = ?"
)
STATEMENTS = (ADD,)
INDEXES = (
    "CREATE INDEX revocations_by_time ON revocations (tenant, at, seq, n)",
    "CREATE INDEX revocations_by_client ON revocations (tenant, client, at, seq, n)",
    "CREATE INDEX revocations_by_sub ON revocations (tenant, sub, at, seq, n)",
    "CREATE INDEX revocations_by_reason ON revocations (tenant, reason, at, seq, n)",
    "CREATE INDEX revocations_by_family ON revocations (family)",
)

_SELECT = """
SELECT r.at, r.seq, r.n, f.family_id, client.text AS client_id, r.sub, reason.text AS reason, actor.text AS actor,
    r.cause, r.jti
FROM revocations AS r
JOIN families AS f ON f.seq = r.family
JOIN names AS client ON client.id = r.client
JOIN names AS reason ON reason.id = r.reason
JOIN names AS actor ON actor.id = r.actor
"""
_SOURCE = RowSource(_SELECT, "revocations AS r", ("at", "seq", "n"))


def create(db: Database) -> None:
    """`n` is the event's place in its commit; `jti` is null where the whole family was revoked."""
    db.execute("""
        CREATE TABLE revocations (
            seq INTEGER NOT NULL, n INTEGER NOT NULL, at INTEGER NOT NULL, tenant INTEGER NOT NULL,
            family INTEGER NOT NULL, client INTEGER NOT NULL, sub TEXT NOT NULL, reason INTEGER NOT NULL,
            actor INTEGER NOT NULL, cause TEXT, jti TEXT, PRIMARY KEY (seq, n)
        ) WITHOUT ROWID""")


def apply(commit: FamilyCommit, names: Names, rows: Rows) -> None:
    """Add a row for every event that revokes, of a commit whose subject says that it does."""
    for n, event in enumerate(commit.events):
        if isinstance(event, FamilyRevoked | TokenRevoked):
            cause, jti = (event.cause, None) if isinstance(event, FamilyRevoked) else (None, event.jti)
            why = names[event.reason], names[commit.actor], cause, jti
            rows[ADD].append((commit.seq, n, commit.at, *why, commit.opened))


def revocations(db: sqlite3.Connection, page: PageQuery, reason: str | None) -> tuple[list[dict[str, Any]], str | None]:
    """The revocations of the page, newest first, and the next page's cursor."""
    rows, cursor = select_by_reason(db, _SOURCE, page, reason)
    return [_item(row) for row in rows], cursor


def of_family(db: sqlite3.Connection, family: int) -> list[dict[str, Any]]:
    """All revocations in one family (its opening sequence), oldest first."""
    return [_item(row) for row in db.execute(f"{_SELECT} WHERE r.family = ? ORDER BY r.seq, r.n", (family,))]


def tokens_revoked(db: sqlite3.Connection, family: int, column: Literal["seq", "at"], until: int) -> set[str]:
    """The `jti` of each access token of the family that was revoked singly by then, or exchanged from one (RFC 8693).

    `family` is the family's opening sequence; `until` is a sequence or a time in microseconds, as `column` says.
    """
    query = f"""WITH revoked AS (
        SELECT jti FROM revocations WHERE family = :family AND {column} <= :until AND jti IS NOT NULL
    ) SELECT jti FROM revoked UNION SELECT jti FROM exchanges WHERE family = :family AND came_of IN revoked"""  # noqa: S608
    return {row["jti"] for row in db.execute(query, {"family": family, "until": until})}


def has_tokens_revoked(db: sqlite3.Connection, family: int, after: int, until: int) -> bool:
    """Whether an access token of the family was revoked singly after a sequence, up to and including another."""
    query = "SELECT 1 FROM revocations WHERE family = ? AND seq > ? AND seq <= ? AND jti IS NOT NULL LIMIT 1"
    return db.execute(query, (family, after, until)).fetchone() is not None


def of_commit(db: sqlite3.Connection, seq: int) -> list[dict[str, Any]]:
    """All revocations of one commit."""
    return [_item(row) for row in db.execute(f"{_SELECT} WHERE r.seq = ? ORDER BY r.n", (seq,))]


def _item(row: sqlite3.Row) -> dict[str, Any]:
    item = {key: row[key] for key in ("seq", "family_id", "client_id", "sub", "reason", "actor", "cause")}
    item["at"] = moment(row["at"])
    if row["jti"] is not None:
        item["jti"] = row["jti"]
    return item
