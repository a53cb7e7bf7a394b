"""How much happened, hour by hour."""

import sqlite3
from typing import Any

from sqlite_utils import Database

from events.family import (
    FamilyRevoked,
    ForgeryDetected,
    GrantAuthorized,
    TokenRedeemed,
    TokenReuseDetected,
    TokenRevoked,
)
from projections.commit import FamilyCommit, moment
from projections.names import Names
from projections.page import Page, select_page
from projections.rows import Rows

COUNTS = ("begun", "issued", "refreshed", "revoked", "tokens_revoked", "reuse", "forged")
"""Families begun, access tokens issued, refresh tokens redeemed, families revoked, access tokens revoked, and what
was detected."""
HOUR = 3_600_000_000

ADD = (
    f"INSERT INTO activity (tenant, at, {', '.join(COUNTS)}) VALUES (?, ?{', ?' * len(COUNTS)})"  # noqa: S608
    f" ON CONFLICT DO UPDATE SET {', '.join(f'{count} = {count} + excluded.{count}' for count in COUNTS)}"
)
STATEMENTS = (ADD,)
INDEXES: tuple[str, ...] = ()


def create(db: Database) -> None:
    """`at` is the hour's beginning, in microseconds."""
    counts = ", ".join(f"{count} INTEGER NOT NULL" for count in COUNTS)
    db.execute(f"""
        CREATE TABLE activity (
            tenant INTEGER NOT NULL, at INTEGER NOT NULL, {counts}, PRIMARY KEY (tenant, at)
        ) WITHOUT ROWID""")


def apply(commit: FamilyCommit, names: Names, rows: Rows) -> None:
    """Count it in, together with the commit before it where that was in the same hour: the sum is the same."""
    tenant, hour, first = names[commit.tenant], commit.at - commit.at % HOUR, commit.events[0]
    begun, issued = isinstance(first, GrantAuthorized), commit.access is not None
    refreshed = isinstance(first, TokenRedeemed) and first.credential == "refresh_token"
    revoked, tokens, reuse, forged = _ends(commit) if commit.revokes else (0, 0, 0, 0)
    added = rows[ADD]
    if added and added[-1][0] == tenant and added[-1][1] == hour:
        _, _, b, i, f, r, t, u, g = added.pop()
        begun, issued, refreshed = b + begun, i + issued, f + refreshed
        revoked, tokens, reuse, forged = r + revoked, t + tokens, u + reuse, g + forged
    added.append((tenant, hour, begun, issued, refreshed, revoked, tokens, reuse, forged))


def activity(db: sqlite3.Connection, page: Page) -> tuple[list[dict[str, Any]], str | None]:
    """The hours in which something happened, newest first, and the next page's cursor."""
    rows, cursor = select_page(db, "SELECT a.* FROM activity AS a", "activity AS a", ("at",), page)
    return [{"hour": moment(row["at"])} | {count: row[count] for count in COUNTS} for row in rows], cursor


def _ends(commit: FamilyCommit) -> tuple[int, ...]:
    kinds = (FamilyRevoked, TokenRevoked, TokenReuseDetected, ForgeryDetected)
    return tuple(sum(isinstance(event, kind) for event in commit.events) for kind in kinds)
