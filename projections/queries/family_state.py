"""The state of a family at an earlier point of the log: its status, its generation and the access tokens then alive."""

import sqlite3
from typing import Any, Literal, NamedTuple

from events.aggregates.family import DEVICE_GRANT
from projections.decoded_commit import moment
from projections.tables import cut_offs, history, revocations

MAX_RECENT = 100
"""How many of a family's latest commits are searched for access tokens that may still be alive."""

_UNCHANGING = ("family_id", "client_id", "scope", "grant", "opened_at", "opened_seq")

Family = dict[str, Any]
"""A family as `families.item` shows it."""


class PointInTime(NamedTuple):
    """A point of the log: what had happened is every commit whose `column` is at most `value`.

    `clock` (microseconds since 1970) decides which tokens had expired.
    """

    column: Literal["seq", "at"]
    value: int
    clock: int

    def includes(self, *, seq: int, at: int) -> bool:
        """Whether a commit had happened."""
        return (seq if self.column == "seq" else at) <= self.value


def after_commit(db: sqlite3.Connection, seq: int, now: int) -> PointInTime:
    """The point just after a commit of the log, at the time of the last family's commit up to it."""
    row = db.execute("SELECT at FROM history WHERE seq <= ? ORDER BY seq DESC LIMIT 1", (seq,)).fetchone()
    return PointInTime("seq", seq, now if row is None else int(row["at"]))


def state_at(db: sqlite3.Connection, family: Family, point: PointInTime) -> dict[str, Any] | None:
    """The family's state and its access tokens then alive; None where the family had not begun."""
    commits = _recent_commits(db, family, point)
    state = _state_after(db, family, commits, point)
    if state is not None:
        state["access_tokens"] = _alive_tokens(db, family, commits, point) if state["status"] == "live" else []
    return state


def states_at(
    db: sqlite3.Connection, family: Family, first: PointInTime, last: PointInTime
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The family's states at two sequences, without its access tokens."""
    until_last = _recent_commits(db, family, last)
    if len(until_last) == MAX_RECENT:
        until_first = _recent_commits(db, family, first)
    else:  # these are all commits of the family
        until_first = [row for row in until_last if row["seq"] <= first.value]
    return _state_after(db, family, until_first, first), _state_after(db, family, until_last, last)


def _recent_commits(db: sqlite3.Connection, family: Family, point: PointInTime) -> list[sqlite3.Row]:
    """The family's `MAX_RECENT` latest commits up to that point, newest first."""
    query = f"""SELECT seq, at, jti, access_ttl, other_access_ttl FROM history
        WHERE family = ? AND {point.column} <= ? ORDER BY seq DESC LIMIT {MAX_RECENT}"""  # noqa: S608  # one of two columns
    return db.execute(query, (family["opened_seq"], point.value)).fetchall()


def _state_after(
    db: sqlite3.Connection, family: Family, commits: list[sqlite3.Row], point: PointInTime
) -> dict[str, Any] | None:
    """The family's state after its `commits` (newest first), without access tokens; None where there are none."""
    if not commits:
        return None
    last_seq = commits[0]["seq"]
    credential = history.credential_before(db, family["opened_seq"], last_seq + 1)
    denied_at = _denied_at(db, commits) if family["grant"] == DEVICE_GRANT else None
    expires_at = denied_at if denied_at is not None else _expiry(commits, credential)
    is_revoked = family["revoked_at"] is not None and _is_revoked(db, family, point)
    unrevoked = "denied" if denied_at is not None else "live" if _is_alive(expires_at, point) else "expired"
    awaits_approval = len(commits) == 1 and history.types(db, last_seq) == ["DeviceAuthorizationStarted"]
    return {
        **{key: family[key] for key in _UNCHANGING},
        "sub": "" if awaits_approval else family["sub"],
        "status": "revoked" if is_revoked else unrevoked,
        "generation": None if credential is None else credential["generation"],
        "expires_at": None if expires_at is None else moment(expires_at),
        "revoked_at": family["revoked_at"] if is_revoked else None,
        "reason": family["reason"] if is_revoked else None,
        "last_seq": last_seq,
    }


def _is_alive(expires_at: int | None, point: PointInTime) -> bool:
    return expires_at is None or expires_at > point.clock


def _expiry(commits: list[sqlite3.Row], credential: sqlite3.Row | None) -> int | None:
    """When the family's last token or code expires; as in `families`."""
    access_end = history.access_until(commits[0])
    credential_end = None if credential is None else history.credential_end(credential)
    return max((end for end in (access_end, credential_end) if end is not None), default=None)


def _denied_at(db: sqlite3.Connection, commits: list[sqlite3.Row]) -> int | None:
    """When the device authorization was denied, which ends a family of few commits."""
    for commit in commits[-history.BEGINNING :]:
        if "DeviceAuthorizationDenied" in history.types(db, commit["seq"]):
            return int(commit["at"])
    return None


def _is_revoked(db: sqlite3.Connection, family: Family, point: PointInTime) -> bool:
    query = "SELECT seq, at FROM revocations WHERE family = ? AND jti IS NULL"
    rows = db.execute(query, (family["opened_seq"],))
    return any(point.includes(seq=row["seq"], at=row["at"]) for row in rows)


def _alive_tokens(
    db: sqlite3.Connection, family: Family, commits: list[sqlite3.Row], point: PointInTime
) -> list[dict[str, Any]]:
    """The access tokens that were neither expired nor revoked, newest first."""
    unexpired = [row["seq"] for row in commits if row["jti"] is not None and history.access_end(row) > point.clock]
    if not unexpired:
        return []
    revoked = revocations.tokens_revoked(db, family["opened_seq"], point.column, point.value)
    actors = cut_offs.Actors(db, family["opened_seq"])
    alive = []
    for seq in unexpired:
        token = history.access_token_of(db, seq)
        is_void = any(point.includes(seq=order.seq, at=order.at) for order in actors.voiding(token, seq))
        if token["jti"] not in revoked and not is_void:
            alive.append(token)
    return alive
