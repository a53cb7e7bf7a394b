"""Every commit of every family in one narrow row: the generations, the access tokens, and who caused what."""

import sqlite3
from binascii import a2b_base64, b2a_base64
from functools import lru_cache
from typing import Any

import msgspec
from sqlite_utils import Database

from events.aggregates.commit import type_of
from events.aggregates.family import AuthorizationCodeIssued, DeviceAuthorizationStarted
from projections.decoded_commit import FamilyCommit, microseconds, moment
from projections.interned_names import Names
from projections.tables import position
from projections.write_batch import Rows

ADD = (
    "INSERT INTO history (seq, family, at, types, actor, generation, terms, jti, lifetime, patience, renewed, others)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
STATEMENTS = (ADD,)
INDEXES = (
    "CREATE INDEX history_by_family ON history (family)",
    "CREATE INDEX history_by_jti ON history (substr(jti, 1, 3)) WHERE jti IS NOT NULL",
)

SELECT = """
SELECT h.family, h.seq, h.at, types.text AS types, actor.text AS actor, h.generation, terms.text AS terms, h.jti,
    h.lifetime, h.patience
FROM history AS h
JOIN names AS types ON types.id = h.types
JOIN names AS actor ON actor.id = h.actor
LEFT JOIN names AS terms ON terms.id = h.terms
"""
BY_JTI = "substr(h.jti, 1, 3) = substr(:wanted, 1, 3) AND h.jti = :wanted"
"""The condition for the packed jti `:wanted`: the index holds its beginning only, the row tells if it is the one."""

_CREDENTIAL = """
SELECT seq, at, generation, patience FROM history WHERE patience IS NOT NULL AND seq = (
    SELECT CASE WHEN patience IS NULL THEN coalesce(renewed, family) ELSE seq END
    FROM history WHERE family = ? AND seq < ? ORDER BY seq DESC LIMIT 1
)
"""

BEGINNING = 4
"""Commits of a family among which its code is: given, approved where it is a device's, and redeemed or denied."""
SECOND = 1_000_000
_JTI, _PACKED = 22, 17


class Terms(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an access token may do; `holder` is the client it was exchanged for (RFC 8693), `act` who has acted with it,
    the latest first.
    """

    scope: str
    audience: tuple[str, ...]
    holder: str | None = None
    act: tuple[str, ...] = ()


def create(db: Database) -> None:
    """`types` names the events; `terms`, `jti` (packed) and `lifetime` are of the access token issued then.

    `patience` is how long the refresh token, code or device code lasts that was given then, `others` how long the
    family's other access tokens do where one of them outlasts that one: since then, so less than 0 for what had ended.
    All in seconds, exact to the microsecond; whole ones, which most are, take few bytes on disk. `renewed` is the one
    that gave the newest refresh token, null where that is the family's first commit, or this one has a `patience`.
    """
    db.execute("""
        CREATE TABLE history (
            seq INTEGER PRIMARY KEY, family INTEGER NOT NULL, at INTEGER NOT NULL, types INTEGER NOT NULL,
            actor INTEGER NOT NULL, generation INTEGER, terms INTEGER, jti, lifetime REAL, patience REAL,
            renewed INTEGER, others REAL
        )""")


def apply(commit: FamilyCommit, names: Names, rows: Rows) -> None:
    """One row."""
    at, access, access_end, terms, jti, lifetime = commit.at, commit.access, commit.access_end, None, None, None
    if access is not None and access_end is not None and access.jti is not None:
        terms, jti = names[_terms(access.scope, access.audience, access.client_id, access.act)], packed(access.jti)
        lifetime = (access_end - at) / SECOND
    end = _credential_end(commit)
    patience = None if end is None else (end - at) / SECOND
    types = names[_names_of(tuple(map(type, commit.events)))]
    outlasted = commit.access_until > (access_end or 0)
    others = (commit.access_until - at) / SECOND if outlasted else None
    renewed = commit.renewed if end is None and commit.renewed != commit.opened else None
    rest = commit.generation, terms, jti, lifetime, patience, renewed, others
    rows[ADD].append((commit.seq, commit.opened, at, types, names[commit.actor], *rest))


def packed(jti: str) -> bytes | str:
    """The 22 characters of an id as 17 bytes, from which `unpacked` makes them again; any other text stays itself."""
    return a2b_base64(jti + "AA")[:_PACKED] if len(jti) == _JTI and jti.isascii() and jti.isalnum() else jti


def unpacked(jti: bytes | str) -> str:
    """The reverse of `packed`."""
    return jti if isinstance(jti, str) else b2a_base64(jti + b"\0", newline=False)[:_JTI].decode()


def timeline(db: sqlite3.Connection, family: int, after: int, limit: int) -> list[dict[str, Any]]:
    """What happened to the family (its opening sequence) after a sequence, oldest first."""
    query = f"{SELECT} WHERE h.family = ? AND h.seq > ? ORDER BY h.seq LIMIT ?"
    return [entry(row) for row in db.execute(query, (family, after, limit))]


def types(db: sqlite3.Connection, seq: int) -> list[str]:
    """The names of a commit's events."""
    query = "SELECT types.text FROM history AS h JOIN names AS types ON types.id = h.types WHERE h.seq = ?"
    return str(db.execute(query, (seq,)).fetchone()[0]).split(" ")


def given(db: sqlite3.Connection, family: int, generation: int) -> sqlite3.Row | None:
    """The commit (`seq`, `at`) that gave the family its refresh token of that generation.

    Generations only grow, so it is found by halving: a family may have many thousand commits.
    """
    low, high = family, position.load(db)[0] + 1
    found: sqlite3.Row | None = None
    while low < high:
        middle = (low + high) // 2
        row = credential(db, family, middle + 1)
        if row is None or row["generation"] is None or row["generation"] < generation:
            low = middle + 1
        else:
            found, high = row, row["seq"]
    return found if found is not None and found["generation"] == generation else None


def credential(db: sqlite3.Connection, family: int, before: int) -> sqlite3.Row | None:
    """The commit that had given the family its newest refresh token, else its code or device code, before a sequence.

    Its `seq`, `at`, `generation` (None for a code) and `patience`.
    """
    row: sqlite3.Row | None = db.execute(_CREDENTIAL, (family, before)).fetchone()
    return row


def access_until(row: sqlite3.Row) -> int | None:
    """When the last of the access tokens ends that the family had been given by then (microseconds); None for none."""
    seconds = row["lifetime"] if row["others"] is None else row["others"]
    return None if seconds is None else after(row["at"], seconds)


def entry(row: sqlite3.Row) -> dict[str, Any]:
    """A row of `SELECT` as it is told."""
    told = {"at": moment(row["at"]), "seq": row["seq"], "types": row["types"].split(" "), "actor": row["actor"]}
    if row["generation"] is not None:
        told["generation"] = row["generation"]
    if row["jti"] is not None:
        told |= access_token(row)
    return told


def access_token(row: sqlite3.Row) -> dict[str, Any]:
    """The access token that a row of `SELECT` tells of."""
    terms = msgspec.json.decode(row["terms"], type=Terms)
    told = {"scope": terms.scope, "audience": terms.audience, "jti": unpacked(row["jti"])}
    if terms.holder is not None:
        told["holder"] = terms.holder
    if terms.act:
        told["act"] = terms.act
    return told | {"access_expires_at": moment(after(row["at"], row["lifetime"]))}


def access_token_of(db: sqlite3.Connection, seq: int) -> dict[str, Any]:
    """The access token that a commit issued."""
    return access_token(db.execute(f"{SELECT} WHERE h.seq = ?", (seq,)).fetchone())


def after(at: int, seconds: float) -> int:
    """So many seconds later, in microseconds since 1970."""
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
    return msgspec.json.encode(Terms(scope, audience, holder, act)).decode()


@lru_cache(maxsize=4096)
def _names_of(types: tuple[type[msgspec.Struct], ...]) -> str:
    return " ".join(map(type_of, types))
