"""Orders against people and clients: block, revoke, withdraw consent, disable, and their reverse."""

import sqlite3
from typing import Any, NamedTuple

from sqlite_utils import Database

from events.aggregates.client import ClientDisabled, ClientEnabled
from events.aggregates.commit import type_of
from events.aggregates.subject import ConsentWithdrawn
from projections.decoded_commit import CutOffCommit, moment
from projections.pagination import NAMED
from projections.tables.interned_names import Names
from projections.write_batch import Rows

ADD = "INSERT INTO cut_offs (seq, n, at, tenant, type, actor, client, sub, reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
STATEMENTS = (ADD,)
INDEXES = (
    "CREATE INDEX cut_offs_by_sub ON cut_offs (tenant, sub, seq)",
    "CREATE INDEX cut_offs_by_client ON cut_offs (tenant, client, seq) WHERE sub IS NULL",
)

_AGAINST_ACTOR = """
SELECT c.seq, c.at, type.text AS type
FROM families AS f
JOIN cut_offs AS c ON c.tenant = f.tenant AND c.client = (SELECT id FROM names WHERE text = ?) AND c.sub IS NULL
JOIN names AS type ON type.id = c.type
WHERE f.seq = ? AND c.client <> f.client ORDER BY c.seq
"""
_SELECT = """
SELECT c.seq, c.at, type.text AS type, actor.text AS actor, client.text AS client_id, c.sub, c.reason
FROM cut_offs AS c
JOIN names AS type ON type.id = c.type
JOIN names AS actor ON actor.id = c.actor
LEFT JOIN names AS client ON client.id = c.client
"""


def create(db: Database) -> None:
    """`sub` is null for an order against a client; `client` also names the client of a withdrawn consent.

    `reason` is free text.
    """
    db.execute("""
        CREATE TABLE cut_offs (
            seq INTEGER NOT NULL, n INTEGER NOT NULL, at INTEGER NOT NULL, tenant INTEGER NOT NULL,
            type INTEGER NOT NULL, actor INTEGER NOT NULL, client INTEGER, sub TEXT, reason TEXT, PRIMARY KEY (seq, n)
        ) WITHOUT ROWID""")


def apply(commit: CutOffCommit, names: Names, rows: Rows) -> None:
    """Add a row for every order."""
    for n, event in enumerate(commit.events):
        sub = None if isinstance(event, ClientDisabled | ClientEnabled) else event.sub
        name = event.client_id if isinstance(event, ConsentWithdrawn) else commit.name if sub is None else None
        client = None if name is None else names[name]
        what = names[type_of(event)], names[commit.actor], client, sub, event.reason
        rows[ADD].append((commit.seq, n, commit.at, names[commit.tenant], *what))


def of_subject(db: sqlite3.Connection, tenant: str, sub: str, limit: int) -> list[dict[str, Any]]:
    """The latest orders against one person, newest first."""
    query = f"{_SELECT} WHERE c.tenant = {NAMED} AND c.sub = ? ORDER BY c.seq DESC LIMIT ?"
    return [_item(row) for row in db.execute(query, (tenant, sub, limit))]


def of_commit(db: sqlite3.Connection, seq: int) -> list[dict[str, Any]]:
    """All orders of one commit."""
    return [_item(row) for row in db.execute(f"{_SELECT} WHERE c.seq = ? ORDER BY c.n", (seq,))]


class Order(NamedTuple):
    """A commit of the log that contains an order; `at` in microseconds."""

    at: int
    seq: int


class Actors:
    """Clients that act with access tokens of a family (its opening sequence) that another client began (RFC 8693)."""

    def __init__(self, db: sqlite3.Connection, family: int) -> None:
        self._db = db
        self._family = family
        self._orders: dict[str, list[sqlite3.Row]] = {}

    def voiding(self, token: dict[str, Any], given: int) -> list[Order]:
        """The orders that voided an access token for good: the disabling of a client that holds it or acted with it.

        `token` is as answers show it, `given` the sequence that issued it. For each of those clients it is the
        disabling in force then, or the first one after. The family's own client is left out: its disabling revokes the
        family.
        """
        acted = {token.get("holder"), *token.get("act", ())} - {None}
        return [order for order in (self._against(client, given) for client in acted) if order is not None]

    def _against(self, client: str, given: int) -> Order | None:
        found = None
        for order in self._of(client):
            if order["type"] == type_of(ClientDisabled):
                found = found or Order(order["at"], order["seq"])
            elif order["seq"] < given:
                found = None
        return found

    def _of(self, client: str) -> list[sqlite3.Row]:
        if client not in self._orders:
            self._orders[client] = self._db.execute(_AGAINST_ACTOR, (client, self._family)).fetchall()
        return self._orders[client]


def _item(row: sqlite3.Row) -> dict[str, Any]:
    return {**{key: row[key] for key in row.keys()}, "at": moment(row["at"])}  # noqa: SIM118  # a Row iterates values
