"""What changed between two sequences of the log: the families with commits in between, before and after."""

import sqlite3
from typing import Any

from projections.pagination import PageQuery, cursor_after, cursor_position
from projections.queries.asked_moment import asked_seq
from projections.queries.family_state import Family, PointInTime, after_commit, states_at
from projections.queries.query import Answer, QueryContext
from projections.queries.requests import DiffRequest, QueryRefused
from projections.tables import applied, families, history, revocations

MAX_COMMITS_READ = 1000
"""Commits that one page goes through at most, whichever tenant's they are."""

_SHOWN = ("status", "generation", "reason", "last_seq")

_FIRST_COMMITS = """
SELECT h.seq, f.seq AS family
FROM (SELECT seq, family FROM history WHERE seq > :after AND seq <= :to_seq ORDER BY seq LIMIT :looked_through) AS h
LEFT JOIN families AS f ON f.seq = h.family AND f.tenant = (SELECT id FROM names WHERE text = :tenant)
    AND NOT EXISTS (SELECT 1 FROM history AS e WHERE e.family = h.family AND e.seq > :from_seq AND e.seq < h.seq)
ORDER BY h.seq
"""
"""The next commits of the range; `family` is null for another tenant's, and for all but a family's first one."""


def diff(context: QueryContext, request: DiffRequest) -> Answer:
    """The families with commits after `from_seq` up to `to_seq`, in the order of their first commit in that range.

    A page may have fewer items than its limit, or none, and still a cursor. Raises `QueryRefused`, `BadCursor`.
    """
    db = context.db
    if request.from_seq > request.to_seq:
        raise QueryRefused("invalid_request", "from_seq is after to_seq")
    from_seq, to_seq = request.from_seq, asked_seq(request.to_seq, applied.load(db)[0])
    page = PageQuery("diff", context.tenant, filters=(f"{from_seq} {to_seq}",), cursor=request.cursor)
    after = cursor_position(page, 1)[0] if request.cursor is not None else from_seq
    parameters = {
        "after": after,
        "from_seq": from_seq,
        "to_seq": to_seq,
        "tenant": context.tenant,
        "looked_through": MAX_COMMITS_READ,
    }
    rows = db.execute(_FIRST_COMMITS, parameters).fetchall()
    changed = [(row["seq"], row["family"]) for row in rows if row["family"] is not None]
    shown = changed[: request.limit]
    found = families.opened_at(db, [family for _, family in shown], context.now)
    before, after_range = (after_commit(db, seq, context.now) for seq in (from_seq, to_seq))
    items = [{"seq": seq, **_change(db, found[family], before, after_range)} for seq, family in shown]
    if len(changed) > len(shown):
        last = shown[-1][0]
    elif len(rows) == MAX_COMMITS_READ and rows[-1]["seq"] < to_seq:
        last = rows[-1]["seq"]
    else:
        return {"items": items, "cursor": None}
    return {"items": items, "cursor": cursor_after(page, (last,))}


def _change(db: sqlite3.Connection, family: Family, first: PointInTime, last: PointInTime) -> dict[str, Any]:
    """How the family changed between two sequences: both states, and the differences in words."""
    before, after = states_at(db, family, first, last)
    return {
        **{key: family[key] for key in ("family_id", "client_id", "sub")},
        "changes": _changes(db, family, (first, before), (last, after)),
        "before": None if before is None else {key: before[key] for key in _SHOWN},
        "after": None if after is None else {key: after[key] for key in _SHOWN},
    }


def _changes(
    db: sqlite3.Connection,
    family: Family,
    start: tuple[PointInTime, dict[str, Any] | None],
    end: tuple[PointInTime, dict[str, Any] | None],
) -> list[str]:
    (first, before), (last, after) = start, end
    changes = []
    if before is None:
        changes.append("begun")
    if after is not None and after["generation"] != (before or {"generation": 0})["generation"]:
        changes.append("rotated")
    if after is not None and after["status"] != (before or {"status": "live"})["status"]:
        changes.append(after["status"])
    if revocations.has_tokens_revoked(db, family["opened_seq"], first.value, last.value):
        changes.append("token revoked")
    if not changes and after is not None:  # the state is the same, although something happened
        changes += history.types(db, after["last_seq"])
    return changes
