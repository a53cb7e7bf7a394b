"""Reading a long list page by page, newest first, while it grows.

A page ends at a position in the order, not at a count, so what is committed meanwhile neither repeats nor hides a row.
The cursor is that position with a digest over it, the tenant and everything else that was asked: it serves the same
question and no other.
"""

import base64
import binascii
import hashlib
import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec

Condition: TypeAlias = tuple[str, tuple[Any, ...]]
"""A piece of SQL and its parameters."""

NAMED = "(SELECT id FROM names WHERE text = ?)"
"""The number of the word that is bound here; null, and so equal to nothing, for one the log never said."""

_DIGEST_BYTES = 12


class BadCursor(Exception):
    """The cursor was altered, or belongs to another question or tenant."""


class Page(NamedTuple):
    """What every list can be asked: `since` and `until` in microseconds, both included; `kind` names the list and
    `filters` holds whatever else tells this question from others."""

    kind: str
    tenant: str
    sub: str | None = None
    client_id: str | None = None
    filters: tuple[str | None, ...] = ()
    since: int | None = None
    until: int | None = None
    limit: int = 100
    cursor: str | None = None


def select_page(
    db: sqlite3.Connection, select: str, table: str, order: tuple[str, ...], page: Page, extra: Sequence[Condition]
) -> tuple[list[sqlite3.Row], str | None]:
    """The rows of `select` (SQL up to its WHERE) that the page asks for, and the next page's cursor.

    `table` is the alias of the table with columns `tenant`, `client`, `sub`, `at`; `order` its columns that order it.
    Raises `BadCursor`.
    """
    columns = ", ".join(f"{table}.{column}" for column in order)
    conditions: list[Condition] = [(f"{table}.tenant = {NAMED}", (page.tenant,)), *extra]
    if page.sub is not None:
        conditions.append((f"{table}.sub = ?", (page.sub,)))
    if page.client_id is not None:
        # a person has few rows, a client may have most of them: with both given, the plus keeps SQLite to the former
        plus = "" if page.sub is None else "+"
        conditions.append((f"{plus}{table}.client = {NAMED}", (page.client_id,)))
    if page.since is not None:
        conditions.append((f"{table}.at >= ?", (page.since,)))
    if page.until is not None:
        conditions.append((f"{table}.at <= ?", (page.until,)))
    if page.cursor is not None:
        places = ", ".join("?" for _ in order)
        conditions.append((f"({columns}) < ({places})", position(page, len(order))))
    where = " AND ".join(sql for sql, _ in conditions)
    descending = ", ".join(f"{table}.{column} DESC" for column in order)
    parameters = [parameter for _, bound in conditions for parameter in bound]
    query = f"{select} WHERE {where} ORDER BY {descending} LIMIT ?"
    rows = db.execute(query, (*parameters, page.limit + 1)).fetchall()
    if len(rows) <= page.limit:
        return rows, None
    rows = rows[: page.limit]
    return rows, cursor_after(page, tuple(rows[-1][column] for column in order))


def cursor_after(page: Page, position: tuple[int, ...]) -> str:
    """The cursor of what comes after this position."""
    text = ".".join(str(number) for number in position).encode()
    return base64.urlsafe_b64encode(_digest(page, text) + text).rstrip(b"=").decode()


def position(page: Page, length: int) -> tuple[int, ...]:
    """Where the page's cursor stands, `length` numbers. Raises `BadCursor`."""
    cursor = page.cursor or ""
    try:
        raw = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found = tuple(int(number) for number in raw[_DIGEST_BYTES:].split(b"."))
    except (ValueError, binascii.Error) as error:
        raise BadCursor from error
    if len(found) != length or cursor_after(page, found) != cursor:
        raise BadCursor
    return found


def _digest(page: Page, position: bytes) -> bytes:
    # limit may change from page to page, the question may not
    question = msgspec.json.encode(page._replace(limit=0, cursor=None))
    return hashlib.sha256(question + b"\0" + position).digest()[:_DIGEST_BYTES]
