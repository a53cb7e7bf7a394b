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

LOOKED_THROUGH = 5000
"""Rows that one page looks at, where no index tells which ones are asked for."""
_DIGEST_BYTES = 12


class BadCursor(Exception):
    """The cursor was altered, or belongs to another question or tenant."""


class Page(NamedTuple):
    """What every list can be asked: `since` and `until` in microseconds, both included; `kind` names the list and
    `filters` holds whatever else tells this question from others.
    """

    kind: str
    tenant: str
    sub: str | None = None
    client_id: str | None = None
    filters: tuple[str | None, ...] = ()
    since: int | None = None
    until: int | None = None
    limit: int = 100
    cursor: str | None = None

    @property
    def is_about_somebody(self) -> bool:
        """Whether an index of a person's or a client's rows serves it."""
        return self.sub is not None or self.client_id is not None


def select_page(
    db: sqlite3.Connection,
    select: str,
    table: str,
    order: tuple[str, ...],
    page: Page,
    indexed: Sequence[Condition] = (),
    filters: Sequence[Condition] = (),
) -> tuple[list[sqlite3.Row], str | None]:
    """The rows of `select` (SQL up to its WHERE) that the page asks for, and the next page's cursor.

    `table` is the one with columns `tenant`, `client`, `sub`, `at`, with its alias (`families AS f`); `order` its
    columns that order it. An index serves the conditions `indexed` together with the order; the `filters` are looked at
    row by row, so a page goes through `LOOKED_THROUGH` rows at most, and may have few items, or none, and still a
    cursor. Raises `BadCursor`.
    """
    alias = table.rsplit(" ", 1)[-1]
    columns, places = ", ".join(f"{alias}.{column}" for column in order), ", ".join("?" for _ in order)
    descending = ", ".join(f"{alias}.{column} DESC" for column in order)
    conditions: list[Condition] = [(f"{alias}.tenant = {NAMED}", (page.tenant,)), *indexed]
    further = list(filters)
    if page.sub is not None:
        conditions.append((f"{alias}.sub = ?", (page.sub,)))
    if page.client_id is not None and page.sub is None:
        conditions.append((f"{alias}.client = {NAMED}", (page.client_id,)))
    elif page.client_id is not None:
        # a person has few rows, a client may have most of them: the plus keeps SQLite to the former
        further.append((f"+{alias}.client = {NAMED}", (page.client_id,)))
    if page.since is not None:
        conditions.append((f"{alias}.at >= ?", (page.since,)))
    if page.until is not None:
        conditions.append((f"{alias}.at <= ?", (page.until,)))
    if page.cursor is not None:
        conditions.append((f"({columns}) < ({places})", position(page, len(order))))
    horizon: tuple[int, ...] | None = None
    if further:
        where, parameters = _where(conditions)
        last = f"SELECT {columns} FROM {table} {where} ORDER BY {descending} LIMIT 1 OFFSET {LOOKED_THROUGH - 1}"  # noqa: S608
        if (row := db.execute(last, parameters).fetchone()) is not None:
            horizon = tuple(row)
            conditions.append((f"({columns}) >= ({places})", horizon))
    where, parameters = _where([*conditions, *further])
    rows = db.execute(f"{select} {where} ORDER BY {descending} LIMIT ?", (*parameters, page.limit + 1)).fetchall()
    if len(rows) > page.limit:
        rows = rows[: page.limit]
        return rows, cursor_after(page, tuple(rows[-1][column] for column in order))
    return rows, None if horizon is None else cursor_after(page, horizon)


def _where(conditions: Sequence[Condition]) -> tuple[str, list[Any]]:
    sql = " AND ".join(sql for sql, _ in conditions)
    return f"WHERE {sql}", [parameter for _, bound in conditions for parameter in bound]


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
