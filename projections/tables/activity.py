"""Counts of events, hour by hour."""

import sqlite3
from typing import Any

from sqlite_utils import Database

from events.aggregates.family_events import (
    FamilyRevoked,
    ForgeryDetected,
    GrantAuthorized,
    TokenRedeemed,
    TokenReuseDetected,
    TokenRevoked,
)
from projections.decoded_commit import FamilyCommit, moment
from projections.pagination import PageQuery, RowSource, select_page
from projections.tables.interned_names import Names
from projections.write_batch import Rows

COUNTS = ("begun", "issued", "refreshed", "revoked", "tokens_revoked", "reuse", "forged")
"""Families begun, access tokens issued, refresh tokens redeemed, families and access tokens revoked, and detections."""
_BEGUN, _ISSUED, _REFRESHED = 2, 3, 4
_ENDS = (5, FamilyRevoked), (6, TokenRevoked), (7, TokenReuseDetected), (8, ForgeryDetected)
"""Their places in a row."""
HOUR = 3_600_000_000
"""In microseconds."""

ADD = (
    f"INSERT INTO activity (tenant, at, {', '.join(COUNTS)}) VALUES (?, ?{', ?' * len(COUNTS)})"  # noqa: S608
    f" ON CONFLICT DO UPDATE SET {', '.join(f'{count} = {count} + excluded.{count}' for count in COUNTS)}"
)
STATEMENTS = (ADD,)
INDEXES: tuple[str, ...] = ()
_SOURCE = RowSource("SELECT a.* FROM activity AS a", "activity AS a", ("at",))


def create(db: Database) -> None:
    """`at` is the beginning of the hour, in microseconds since 1970."""
    counts = ", ".join(f"{count} INTEGER NOT NULL" for count in COUNTS)
    db.execute(f"""
        CREATE TABLE activity (
            tenant INTEGER NOT NULL, at INTEGER NOT NULL, {counts}, PRIMARY KEY (tenant, at)
        ) WITHOUT ROWID""")


def apply(commit: FamilyCommit, names: Names, rows: Rows) -> None:
    """Count the commit, in one row with the other commits of the batch in the same hour."""
    key, first = (names[commit.tenant], commit.at - commit.at % HOUR), commit.events[0]
    row = rows.counts.get(key)
    if row is None:
        row = rows.counts[key] = [*key, *(0 for _ in COUNTS)]
        rows[ADD].append(row)
    row[_BEGUN] += isinstance(first, GrantAuthorized)
    row[_ISSUED] += commit.access is not None
    row[_REFRESHED] += isinstance(first, TokenRedeemed) and first.credential == "refresh_token"
    if commit.revokes:
        for place, kind in _ENDS:
            row[place] += sum(isinstance(event, kind) for event in commit.events)


def activity(db: sqlite3.Connection, page: PageQuery) -> tuple[list[dict[str, Any]], str | None]:
    """The hours with any activity, newest first, and the next page's cursor."""
    rows, cursor = select_page(db, _SOURCE, page)
    return [{"hour": moment(row["at"])} | {count: row[count] for count in COUNTS} for row in rows], cursor
