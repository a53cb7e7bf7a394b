"""Every commit of every family in one narrow row: generations, access tokens, and actors."""

import sqlite3
from functools import lru_cache
from typing import Any

import msgspec
from sqlite_utils import Database

from events.aggregates.commit import type_of
from events.aggregates.family_events import AuthorizationCodeIssued, DeviceAuthorizationStarted
from projections.decoded_commit import FamilyCommit, microseconds, moment
from projections.tables import applied
from projections.tables.interned_names import Names
from projections.write_batch import Rows

ADD = (
    "INSERT INTO history (seq, family, at, types, actor, generation, terms, jti, access_ttl, credential_ttl,"
    " last_renewal_seq, other_access_ttl) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
STATEMENTS = (ADD,)
INDEXES = (
    "CREATE INDEX history_by_family ON history (family)",
    "CREATE INDEX history_by_jti ON history (substr(jti, 1, 4)) WHERE jti IS NOT NULL",
)

SELECT = """
SELECT h.family, h.seq, h.at, types.text AS types, actor.text AS actor, h.generation, terms.text AS terms, h.jti,
    h.access_ttl, h.other_access_ttl, h.credential_ttl
FROM history AS h
JOIN names AS types ON types.id = h.types
JOIN names AS actor ON actor.id = h.actor
LEFT JOIN names AS terms ON terms.id = h.terms
"""
BY_JTI = "substr(h.jti, 1, 4) = substr(:wanted, 1, 4) AND +h.jti = :wanted"
"""The condition for the jti `:wanted`; the index holds only its beginning, which is random.

The plus keeps SQLite from putting `:wanted` in place of `h.jti` in the first half, which would read the whole index.
"""

_CREDENTIAL = """
SELECT seq, at, generation, credential_ttl FROM history WHERE credential_ttl IS NOT NULL AND seq = (
    SELECT CASE WHEN credential_ttl IS NULL THEN coalesce(last_renewal_seq, family) ELSE seq END
    FROM history WHERE family = ? AND seq < ? ORDER BY seq DESC LIMIT 1
)
"""

BEGINNING = 4
"""A family's first commits, in which its code is issued, approved (a device's), and redeemed or denied."""
SECOND = 1_000_000
"""In microseconds."""


class AccessTokenTerms(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an access token allows, and to whom.

    `holder` is the client it was exchanged for (RFC 8693), `act` are the clients that acted with it, the latest first.
    """

    scope: str
    audience: tuple[str, ...]
    holder: str | None = None
    act: tuple[str, ...] = ()


def create(db: Database) -> None:
    """`types` names the events; `terms`, `jti` and `access_ttl` are of the access token that the commit issued.

    `credential_ttl` is of the refresh token, code or device code that it issued; `other_access_ttl` of the family's
    earlier access tokens, where one of them outlasts `access_ttl`. All three are seconds after `at` (less than 0 for
    what had expired), exact to the microsecond: most are whole and take few bytes (ADR 0040). `last_renewal_seq` is
    the commit that issued the newest refresh token; null where that is the family's first commit or this one.
    """
    db.execute("""
        CREATE TABLE history (
            seq INTEGER PRIMARY KEY, family INTEGER NOT NULL, at INTEGER NOT NULL, types INTEGER NOT NULL,
            actor INTEGER NOT NULL, generation INTEGER, terms INTEGER, jti TEXT, access_ttl REAL, credential_ttl REAL,
            last_renewal_seq INTEGER, other_access_ttl REAL
        )""")


def apply(commit: FamilyCommit, names: Names, rows: Rows) -> None:
    """Add the commit's row."""
    at, access, access_end, terms, jti, access_ttl = commit.at, commit.access, commit.access_end, None, None, None
    if access is not None and access_end is not None and access.jti is not None:
        terms, jti = names[_terms(access.scope, access.audience, access.client_id, access.act)], access.jti
        access_ttl = (access_end - at) / SECOND
    end = _credential_end(commit)
    credential_ttl = None if end is None else (end - at) / SECOND
    types = names[_names_of(tuple(map(type, commit.events)))]
    outlasted = commit.access_until > (access_end or 0)
    other_access_ttl = (commit.access_until - at) / SECOND if outlasted else None
    renewed = commit.last_renewal_seq if end is None and commit.last_renewal_seq != commit.opened else None
    rest = commit.generation, terms, jti, access_ttl, credential_ttl, renewed, other_access_ttl
    rows[ADD].append((commit.seq, commit.opened, at, types, names[commit.actor], *rest))


def timeline(db: sqlite3.Connection, family: int, after: int, limit: int) -> list[dict[str, Any]]:
    """The commits of a family (its opening sequence) after a sequence, oldest first, as `entry` shows them."""
    query = f"{SELECT} WHERE h.family = ? AND h.seq > ? ORDER BY h.seq LIMIT ?"
    return [entry(row) for row in db.execute(query, (family, after, limit))]


def types(db: sqlite3.Connection, seq: int) -> list[str]:
    """The names of a commit's events."""
    query = "SELECT types.text FROM history AS h JOIN names AS types ON types.id = h.types WHERE h.seq = ?"
    return str(db.execute(query, (seq,)).fetchone()[0]).split(" ")


def commit_of_generation(db: sqlite3.Connection, family: int, generation: int) -> sqlite3.Row | None:
    """The commit (`seq`, `at`) that issued the family's refresh token of that generation.

    Generations only grow, so a binary search finds it: a family may have many thousand commits.
    """
    low, high = family, applied.load(db)[0] + 1
    found: sqlite3.Row | None = None
    while low < high:
        middle = (low + high) // 2
        row = credential_before(db, family, middle + 1)
        if row is None or row["generation"] is None or row["generation"] < generation:
            low = middle + 1
        else:
            found, high = row, row["seq"]
    return found if found is not None and found["generation"] == generation else None


def credential_before(db: sqlite3.Connection, family: int, seq: int) -> sqlite3.Row | None:
    """The commit before `seq` that issued the family's newest refresh token, or else its code or device code.

    Columns: `seq`, `at`, `generation` (None for a code) and `credential_ttl`.
    """
    row: sqlite3.Row | None = db.execute(_CREDENTIAL, (family, seq)).fetchone()
    return row


def credential_end(row: sqlite3.Row) -> int:
    """When the refresh token, code or device code expires that a row's commit issued (microseconds)."""
    return _after(row["at"], row["credential_ttl"])


def access_end(row: sqlite3.Row) -> int:
    """When the access token expires that a row's commit issued (microseconds)."""
    return _after(row["at"], row["access_ttl"])


def access_until(row: sqlite3.Row) -> int | None:
    """When the last of the access tokens expires that the family had by then (microseconds); None for none."""
    ttl = row["access_ttl"] if row["other_access_ttl"] is None else row["other_access_ttl"]
    return None if ttl is None else _after(row["at"], ttl)


def entry(row: sqlite3.Row) -> dict[str, Any]:
    """A row of `SELECT`, as answers show it."""
    shown = {"at": moment(row["at"]), "seq": row["seq"], "types": row["types"].split(" "), "actor": row["actor"]}
    if row["generation"] is not None:
        shown["generation"] = row["generation"]
    if row["jti"] is not None:
        shown |= access_token(row)
    return shown


def access_token(row: sqlite3.Row) -> dict[str, Any]:
    """The access token that the commit in a row of `SELECT` issued, as answers show it."""
    terms = msgspec.json.decode(row["terms"], type=AccessTokenTerms)
    shown = {"scope": terms.scope, "audience": terms.audience, "jti": row["jti"]}
    if terms.holder is not None:
        shown["holder"] = terms.holder
    if terms.act:
        shown["act"] = terms.act
    return shown | {"access_expires_at": moment(access_end(row))}


def access_token_of(db: sqlite3.Connection, seq: int) -> dict[str, Any]:
    """The access token that a commit issued."""
    return access_token(db.execute(f"{SELECT} WHERE h.seq = ?", (seq,)).fetchone())


def _after(at: int, seconds: float) -> int:
    return at + round(seconds * SECOND)


def _credential_end(commit: FamilyCommit) -> int | None:
    if commit.refresh_end is not None or commit.access is not None:
        return commit.refresh_end
    for event in commit.events:
        if isinstance(event, AuthorizationCodeIssued | DeviceAuthorizationStarted):
            return microseconds(event.expires_at)
    return None


@lru_cache(maxsize=4096)
def _terms(scope: str, audience: tuple[str, ...], holder: str | None, act: tuple[str, ...]) -> str:
    return msgspec.json.encode(AccessTokenTerms(scope, audience, holder, act)).decode()


@lru_cache(maxsize=4096)
def _names_of(types: tuple[type[msgspec.Struct], ...]) -> str:
    return " ".join(map(type_of, types))
