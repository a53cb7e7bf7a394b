"""The families: one row each, as it stands now."""

import sqlite3
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec
from sqlite_utils import Database

from events.aggregates.family import DEVICE_GRANT
from events.aggregates.family_events import (
    AuthorizationCodeIssued,
    DeviceAuthorizationDenied,
    DeviceAuthorizationStarted,
    FamilyRevoked,
    GrantAuthorized,
    TokenIssued,
)
from projections.decoded_commit import FamilyCommit, microseconds, moment
from projections.pagination import NAMED, Condition, PageQuery, RowSource, select_page
from projections.tables.interned_names import Names
from projections.write_batch import Rows

Status: TypeAlias = Literal["live", "revoked", "denied", "expired"]

OPEN = (
    "INSERT INTO families"
    " (seq, at, tenant, family_id, client, sub, scope, grant_type, generation, expires_at, access_until)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    # a device authorization that was pending is approved
    " ON CONFLICT (family_id, tenant) DO UPDATE SET at = excluded.at, sub = excluded.sub, scope = excluded.scope,"
    " expires_at = coalesce(excluded.expires_at, expires_at) WHERE sub = ''"
)
DENY = "UPDATE families SET sub = ?, expires_at = ?, denied_at = expires_at WHERE seq = ?"
RENEW = (
    "UPDATE families SET generation = ?, expires_at = max(?, ?, access_until), access_until = max(access_until, ?),"
    " last_renewal_seq = ? WHERE seq = ?"
)
EXTEND = (
    "UPDATE families SET expires_at = max(coalesce(expires_at, 0), ?), access_until = max(access_until, ?)"
    " WHERE seq = ?"
)
END = "UPDATE families SET revoked_at = ?, reason = ? WHERE seq = ?"
STATEMENTS = (OPEN, DENY, RENEW, EXTEND, END)
INDEXES = (
    "CREATE INDEX families_by_time ON families (tenant, at)",
    "CREATE INDEX families_by_seq ON families (tenant, seq)",
    "CREATE INDEX families_by_client ON families (tenant, client, at)",
    "CREATE INDEX families_by_sub ON families (tenant, sub, at)",
    "CREATE INDEX families_revoked ON families (tenant, at) WHERE revoked_at IS NOT NULL",
)
_BEGINNINGS = (GrantAuthorized, DeviceAuthorizationStarted)

SELECT = """
SELECT f.family_id, client.text AS client_id, f.sub, scope.text AS scope, grant_type.text AS "grant",
    f.generation, f.at, f.seq, f.expires_at, f.revoked_at, f.denied_at, reason.text AS reason
FROM families AS f
JOIN names AS client ON client.id = f.client
JOIN names AS scope ON scope.id = f.scope
JOIN names AS grant_type ON grant_type.id = f.grant_type
LEFT JOIN names AS reason ON reason.id = f.reason
"""
SOURCE = RowSource(SELECT, "families AS f", ("at", "seq"))


def create(db: Database) -> None:
    """`seq` is the sequence of the opening commit; the `sub` of a pending device authorization is empty.

    The family expires with its last token, at `expires_at`; its access tokens end at `access_until`, 0 for none.
    A device authorization that the person denied ended at `denied_at`.
    `last_renewal_seq` is the commit that issued its newest refresh token; null where that is the opening one.
    """
    db.execute("""
        CREATE TABLE families (
            seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, tenant INTEGER NOT NULL, family_id TEXT NOT NULL,
            client INTEGER NOT NULL, sub TEXT NOT NULL, scope INTEGER NOT NULL, grant_type INTEGER NOT NULL,
            generation INTEGER, last_renewal_seq INTEGER, expires_at INTEGER, access_until INTEGER NOT NULL,
            revoked_at INTEGER, reason INTEGER, denied_at INTEGER
        )""")
    db.execute("CREATE UNIQUE INDEX families_by_id ON families (family_id, tenant)")


def apply(commit: FamilyCommit, names: Names, rows: Rows) -> None:
    """Open, renew or end the family."""
    first, end, access_end = commit.events[0], commit.refresh_end, commit.access_end or 0
    if isinstance(first, _BEGINNINGS):
        # a device authorization may be started and approved in one commit
        begun = next((event for event in commit.events if isinstance(event, GrantAuthorized)), first)
        sub, grant = (begun.sub, begun.grant) if isinstance(begun, GrantAuthorized) else ("", DEVICE_GRANT)
        terms = names[begun.client_id], sub, names[begun.scope], names[grant]
        end = max(end, access_end) if end else _provisional_end(commit)
        tenant = names[commit.tenant]
        rows[OPEN].append((commit.seq, commit.at, tenant, commit.family_id, *terms, commit.generation, end, access_end))
    elif end is not None:
        rows[RENEW].append((commit.generation, end, access_end, access_end, commit.seq, commit.opened))
    elif access_end and not isinstance(first, DeviceAuthorizationDenied):
        rows[EXTEND].append((access_end, access_end, commit.opened))
    if isinstance(denied := commit.events[-1], DeviceAuthorizationDenied):
        rows[DENY].append((denied.sub, commit.at, commit.opened))
    if commit.revokes:
        for event in commit.events:
            if isinstance(event, FamilyRevoked):
                rows[END].append((commit.at, names[event.reason], commit.opened))


def _provisional_end(commit: FamilyCommit) -> int | None:
    """When a family without a refresh token expires: with its access token, its code or its device authorization."""
    ends = [
        event.expires_at
        for event in commit.events
        if isinstance(event, AuthorizationCodeIssued | DeviceAuthorizationStarted | TokenIssued)
    ]
    return microseconds(max(ends)) if ends else None


def find(db: sqlite3.Connection, tenant: str, family_id: str, now: int) -> dict[str, Any] | None:
    """The family as it stands `now` (microseconds), or None."""
    query = f"{SELECT} WHERE f.family_id = ? AND f.tenant = {NAMED}"
    row = db.execute(query, (family_id, tenant)).fetchone()
    return item(row, now) if row else None


def opened_at(db: sqlite3.Connection, seqs: Sequence[int], now: int) -> dict[int, dict[str, Any]]:
    """Maps the sequences of opening commits to their families, as they stand `now`."""
    wanted = msgspec.json.encode(seqs).decode()
    rows = db.execute(f"{SELECT} JOIN json_each(?) AS wanted ON wanted.value = f.seq", (wanted,))
    return {row["seq"]: item(row, now) for row in rows}


def families(
    db: sqlite3.Connection, page: PageQuery, status: Status | None, now: int, leeway: int = 0
) -> tuple[list[dict[str, Any]], str | None]:
    """The families that began within the page's times, newest first, and the next page's cursor.

    Families that expired less than `leeway` seconds ago count as live, too.
    """
    indexed: list[Condition] = []
    filters: list[Condition] = []
    if status == "revoked":
        (filters if page.is_about_somebody else indexed).append(("f.revoked_at IS NOT NULL", ()))
    elif status == "denied":
        filters.append(("f.denied_at IS NOT NULL AND f.revoked_at IS NULL", ()))
    elif status == "expired":
        filters.append(("f.revoked_at IS NULL AND f.denied_at IS NULL AND f.expires_at <= ?", (now,)))
    elif status == "live":
        since = now - leeway * 1_000_000
        is_unexpired = "(f.expires_at IS NULL OR f.expires_at > ?)"
        filters.append((f"f.revoked_at IS NULL AND f.denied_at IS NULL AND {is_unexpired}", (since,)))
    rows, cursor = select_page(db, SOURCE, page, indexed, filters)
    return [item(row, now) for row in rows], cursor


def item(row: sqlite3.Row, now: int) -> dict[str, Any]:
    """A row of `SELECT` as it stands `now` (microseconds)."""
    ended, end = row["revoked_at"], row["expires_at"]
    return {
        "family_id": row["family_id"],
        "client_id": row["client_id"],
        "sub": row["sub"],
        "scope": row["scope"],
        "grant": row["grant"],
        "status": _status(row, now),
        "generation": row["generation"],
        "opened_at": moment(row["at"]),
        "opened_seq": row["seq"],
        "expires_at": None if end is None else moment(end),
        "revoked_at": None if ended is None else moment(ended),
        "reason": row["reason"],
    }


def _status(row: sqlite3.Row, now: int) -> Status:
    if row["revoked_at"] is not None:
        return "revoked"
    if row["denied_at"] is not None:
        return "denied"
    return "expired" if row["expires_at"] is not None and row["expires_at"] <= now else "live"
