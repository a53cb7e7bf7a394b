"""The state as it was: of a family, of a person's families or of a tenant's, and what changed between two moments."""

import sqlite3
from typing import Any, Literal, NamedTuple

from events.aggregates.family import DEVICE_GRANT
from projections.decoded_commit import microseconds, moment
from projections.pagination import Condition, Page, cursor_after, position, select_page
from projections.queries.asked_moment import asked_seq, asked_time
from projections.queries.requests import AsOfRequest, DiffRequest, Refused
from projections.tables import cut_offs, families, history, revocations
from projections.tables import position as checkpoint

LOOKED_THROUGH = 1000
"""Commits that one page of a comparison goes through at most, whosever they are."""
RECENT = 100
"""Commits of a family whose access tokens may still have been alive."""

_STATE = "SELECT seq, at, jti, lifetime, others FROM history"
_CHANGED = """
SELECT h.seq, f.seq AS family
FROM (SELECT seq, family FROM history WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?) AS h
LEFT JOIN families AS f ON f.seq = h.family AND f.tenant = (SELECT id FROM names WHERE text = ?)
    AND NOT EXISTS (SELECT 1 FROM history AS e WHERE e.family = h.family AND e.seq > ? AND e.seq < h.seq)
ORDER BY h.seq
"""


class Bound(NamedTuple):
    """A moment: what is at most `value` in `column` (`seq` or `at`) had happened; `clock` tells what had expired."""

    column: Literal["seq", "at"]
    value: int
    clock: int


def as_of(db: sqlite3.Connection, tenant: str, request: AsOfRequest, limit: int, now: int) -> dict[str, Any]:
    """One family, or a page of those that had begun, newest first, each as it was then. Raises `Refused`."""
    bound = _bound(db, tenant, request, now)
    if request.family_id is not None:
        if request.sub is not None:
            raise Refused("invalid_request", "ask by family_id or by sub")
        family = families.find(db, tenant, request.family_id, now)
        state = state_at(db, family, bound) if family is not None else None
        if state is None:
            raise Refused("invalid_request", "there was no such family then")
        return state
    fixed = (str(request.seq), None if request.at is None else str(microseconds(request.at)))
    page = Page("as_of", tenant, request.sub, filters=fixed, limit=limit, cursor=request.cursor)
    begun: list[Condition] = [(f"f.{bound.column} <= ?", (bound.value,))]
    if bound.column == "at":
        rows, cursor = select_page(db, families.SELECT, "families AS f", ("at", "seq"), page, begun)
    elif request.sub is None:
        rows, cursor = select_page(db, families.SELECT, "families AS f", ("seq",), page, begun)
    else:
        # a person's rows lie in the order of time: the plus keeps SQLite to them
        begun = [("+f.seq <= ?", (bound.value,))]
        rows, cursor = select_page(db, families.SELECT, "families AS f", ("at", "seq"), page, filters=begun)
    states = [state_at(db, families.item(row, now), bound) for row in rows]
    return {"items": [state for state in states if state is not None], "cursor": cursor}


def diff(db: sqlite3.Connection, tenant: str, request: DiffRequest, limit: int, now: int) -> dict[str, Any]:
    """The families with commits after `from_seq` up to `to_seq`, by their first one, as they were and as they became.

    A page may have fewer items than asked for, or none, and still a cursor. Raises `Refused`, `BadCursor`.
    """
    applied = checkpoint.load(db)[0]
    if request.from_seq > request.to_seq:
        raise Refused("invalid_request", "from_seq is after to_seq")
    begin, end = request.from_seq, asked_seq(request.to_seq, applied)
    page = Page("diff", tenant, filters=(f"{begin} {end}",), cursor=request.cursor)
    after = position(page, 1)[0] if request.cursor is not None else begin
    rows = db.execute(_CHANGED, (after, end, LOOKED_THROUGH, tenant, begin)).fetchall()
    changed = [(row["seq"], row["family"]) for row in rows if row["family"] is not None]
    known = families.opened_at(db, [family for _, family in changed[:limit]], now)
    first, last = (Bound("seq", seq, _clock(db, seq, now)) for seq in (begin, end))
    items = [_change(db, known[family], seq, first, last) for seq, family in changed[:limit]]
    if len(changed) > limit:
        return {"items": items, "cursor": cursor_after(page, (changed[limit - 1][0],))}
    more = len(rows) == LOOKED_THROUGH and rows[-1]["seq"] < end
    return {"items": items, "cursor": cursor_after(page, (rows[-1]["seq"],)) if more else None}


def state_at(db: sqlite3.Connection, family: dict[str, Any], bound: Bound) -> dict[str, Any] | None:
    """The family as it was, with the access tokens then alive; None if it had not begun."""
    rows = _recent(db, family, bound)
    state = _state(db, family, rows, bound)
    if state is not None:
        given = [row for row in rows if row["jti"] is not None] if state["status"] == "live" else []
        alive = [row["seq"] for row in given if _access_end(row) > bound.clock]
        revoked = revocations.tokens_revoked(db, family["opened_seq"], bound.column, bound.value) if alive else set()
        actors = cut_offs.Actors(db, family["opened_seq"])
        tokens = ((seq, history.access_token_of(db, seq)) for seq in alive)
        state["access_tokens"] = [
            token
            for seq, token in tokens
            if token["jti"] not in revoked and not _is_void(actors.voiding(token, seq), bound)
        ]
    return state


def _is_void(voiding: list[cut_offs.Order], bound: Bound) -> bool:
    """Whether any of that had been ordered."""
    return any((order.seq if bound.column == "seq" else order.at) <= bound.value for order in voiding)


def _both(
    db: sqlite3.Connection, family: dict[str, Any], first: Bound, last: Bound
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The family's states at two sequences, without its access tokens."""
    after = _recent(db, family, last)
    before = _recent(db, family, first) if len(after) == RECENT else [row for row in after if row["seq"] <= first.value]
    return _state(db, family, before, first), _state(db, family, after, last)


def _recent(db: sqlite3.Connection, family: dict[str, Any], bound: Bound) -> list[sqlite3.Row]:
    """Its commits, newest first."""
    query = f"{_STATE} WHERE family = ? AND {bound.column} <= ? ORDER BY seq DESC LIMIT {RECENT}"
    return db.execute(query, (family["opened_seq"], bound.value)).fetchall()


def _state(
    db: sqlite3.Connection, family: dict[str, Any], rows: list[sqlite3.Row], bound: Bound
) -> dict[str, Any] | None:
    if not rows:
        return None
    given = history.credential(db, family["opened_seq"], rows[0]["seq"] + 1)
    end = _end(db, family, rows, given)
    ended = family["revoked_at"] is not None and _ended(db, family["opened_seq"], bound)
    pending = len(rows) == 1 and _waits_for_somebody(db, rows[0]["seq"])
    status = "revoked" if ended else "expired" if end is not None and end <= bound.clock else "live"
    return {
        **{key: family[key] for key in ("family_id", "client_id", "scope", "grant", "opened_at", "opened_seq")},
        "sub": "" if pending else family["sub"],
        "status": status,
        "generation": None if given is None else given["generation"],
        "expires_at": None if end is None else moment(end),
        "revoked_at": family["revoked_at"] if ended else None,
        "reason": family["reason"] if ended else None,
        "last_seq": rows[0]["seq"],
    }


def _end(
    db: sqlite3.Connection, family: dict[str, Any], rows: list[sqlite3.Row], given: sqlite3.Row | None
) -> int | None:
    """When the family ends by itself, as `families` has it: with its last token or code, or as a device is denied."""
    if family["grant"] == DEVICE_GRANT and (denied := _denied(db, rows)) is not None:
        return denied
    ends = [history.access_until(rows[0]), None if given is None else history.after(given["at"], given["patience"])]
    return max((end for end in ends if end is not None), default=None)


def _denied(db: sqlite3.Connection, rows: list[sqlite3.Row]) -> int | None:
    """When the device was denied, which is the end of a short family."""
    beginning = rows[-history.BEGINNING :]
    return next((row["at"] for row in beginning if "DeviceAuthorizationDenied" in history.types(db, row["seq"])), None)


def _change(db: sqlite3.Connection, family: dict[str, Any], seq: int, first: Bound, last: Bound) -> dict[str, Any]:
    before, after = _both(db, family, first, last)
    told = {key: family[key] for key in ("family_id", "client_id", "sub")}
    brief = [
        None if state is None else {key: state[key] for key in ("status", "generation", "reason", "last_seq")}
        for state in (before, after)
    ]
    changes = []
    if before is None:
        changes.append("begun")
    if after is not None and after["generation"] != (before or {"generation": 0})["generation"]:
        changes.append("rotated")
    if after is not None and after["status"] != (before or {"status": "live"})["status"]:
        changes.append(after["status"])
    if revocations.has_tokens_revoked(db, family["opened_seq"], first.value, last.value):
        changes.append("token revoked")
    if not changes and after is not None:  # the state is the same, and yet something happened
        changes += history.types(db, after["last_seq"])
    return {"seq": seq, **told, "changes": changes, "before": brief[0], "after": brief[1]}


def _bound(db: sqlite3.Connection, tenant: str, request: AsOfRequest, now: int) -> Bound:
    if request.seq is None:
        at = asked_time(db, tenant, request.at, now)
        return Bound("at", at, at)
    if request.at is not None:
        raise Refused("invalid_request", "ask by at or by seq")
    seq = asked_seq(request.seq, checkpoint.load(db)[0])
    return Bound("seq", seq, _clock(db, seq, now))


def _clock(db: sqlite3.Connection, seq: int, now: int) -> int:
    row = db.execute("SELECT at FROM history WHERE seq <= ? ORDER BY seq DESC LIMIT 1", (seq,)).fetchone()
    return now if row is None else int(row["at"])


def _access_end(row: sqlite3.Row) -> int:
    return history.after(row["at"], row["lifetime"])


def _waits_for_somebody(db: sqlite3.Connection, seq: int) -> bool:
    """Whether the commit began a device authorization."""
    return history.types(db, seq) == ["DeviceAuthorizationStarted"]


def _ended(db: sqlite3.Connection, family: int, bound: Bound) -> bool:
    query = "SELECT seq, at FROM revocations WHERE family = ? AND jti IS NULL"
    return any(row[bound.column] <= bound.value for row in db.execute(query, (family,)))
