"""Full-text search over reasons, causes and actors: every word, and the commits that contain it.

It is a plain table. The files of SQLite's FTS5 depend on how the log was read; this one must not.
"""

import re
import sqlite3
from typing import Any, assert_never

from sqlite_utils import Database

from events.aggregates.client import ClientDisabled, ClientEnabled
from events.aggregates.commit import type_of
from events.aggregates.family_events import (
    AuthorizationCodeIssued,
    DeviceAuthorizationDenied,
    DeviceAuthorizationStarted,
    FamilyEvent,
    FamilyRevoked,
    ForgeryDetected,
    GrantAuthorized,
    LateDuplicateRefused,
    TokenIssued,
    TokenRedeemed,
    TokenReuseDetected,
    TokenRevoked,
    TokenRotated,
)
from projections.decoded_commit import CutOffCommit, FamilyCommit, moment
from projections.pagination import NAMED, Condition, PageQuery, RowSource, select_page
from projections.tables import cut_offs, incidents, revocations
from projections.tables.interned_names import Names
from projections.write_batch import Rows

ADD = "INSERT INTO words (tenant, word, at, seq) VALUES (?, ?, ?, ?)"
STATEMENTS = (ADD,)
INDEXES: tuple[str, ...] = ()

MAX_WORD = 64
_WORD = re.compile(r"[^\W_]+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_MAX_COUNTED = 1000
_COUNT = f"SELECT count(*) FROM (SELECT 1 FROM words WHERE tenant = {NAMED} AND word = ? LIMIT {_MAX_COUNTED})"  # noqa: S608
_ALSO = "EXISTS (SELECT 1 FROM words AS o WHERE (o.tenant, o.word, o.at, o.seq) = (w.tenant, ?, w.at, w.seq))"
_SOURCE = RowSource("SELECT w.at, w.seq FROM words AS w", "words AS w", ("at", "seq"))


def create(db: Database) -> None:
    """One row for every word of a commit."""
    db.execute("""
        CREATE TABLE words (
            tenant INTEGER NOT NULL, word TEXT NOT NULL, at INTEGER NOT NULL, seq INTEGER NOT NULL,
            PRIMARY KEY (tenant, word, at, seq)
        ) WITHOUT ROWID""")


def apply(commit: FamilyCommit | CutOffCommit, names: Names, rows: Rows) -> None:
    """Add the words of a commit that revokes, detects or cuts off."""
    texts = [commit.actor]
    for event in commit.events:
        match event:
            case FamilyRevoked():
                texts += (event.reason, event.cause)
            case TokenRevoked():
                texts.append(event.reason)
            case TokenReuseDetected() | LateDuplicateRefused() | ForgeryDetected():
                texts += (incidents.reason_of(event), event.client_id)
            case _ if not isinstance(event, FamilyEvent):
                texts += (_HUMP.sub(" ", type_of(event)), event.reason or "")
            case TokenIssued() | TokenRedeemed() | TokenRotated() | GrantAuthorized() | AuthorizationCodeIssued():
                pass
            case DeviceAuthorizationStarted() | DeviceAuthorizationDenied():
                pass
            case _:
                assert_never(event)
    if isinstance(commit, CutOffCommit) and isinstance(commit.events[0], ClientDisabled | ClientEnabled):
        texts.append(commit.name)
    rows[ADD] += [(names[commit.tenant], word, commit.at, commit.seq) for word in words_of(" ".join(texts))]


def words_of(text: str) -> list[str]:
    """The words of a text, each once, in lower case, sorted."""
    return sorted({word[:MAX_WORD] for word in _WORD.findall(text.lower())})


def search(db: sqlite3.Connection, page: PageQuery, words: list[str]) -> tuple[list[dict[str, Any]], str | None]:
    """The commits that contain all of the words, newest first, and the next page's cursor. `words` is not empty."""
    rarest, *others = sorted(words, key=lambda word: db.execute(_COUNT, (page.tenant, word)).fetchone()[0])
    indexed: list[Condition] = [("w.word = ?", (rarest,))]
    filters: list[Condition] = [(_ALSO, (word,)) for word in others]
    rows, cursor = select_page(db, _SOURCE, page, indexed, filters)
    return [_item(db, row["at"], row["seq"]) for row in rows], cursor


def _item(db: sqlite3.Connection, at: int, seq: int) -> dict[str, Any]:
    """Everything that the read model knows of the commit."""
    item: dict[str, Any] = {"at": moment(at), "seq": seq}
    for projection in (revocations, incidents, cut_offs):
        for found in projection.of_commit(db, seq):
            item = found | item
    return item
