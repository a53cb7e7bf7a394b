"""Reading a long list page by page, newest first, while it grows.

A page ends at a position in the order and not at a count, so a commit in the meantime neither repeats nor hides a row.
The cursor is that position, with a digest over it, the tenant and all other parameters: it only continues the query
that it came from.
"""

import hashlib
import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec

from events import base64url

Condition: TypeAlias = tuple[str, tuple[Any, ...]]
"""A piece of SQL and its parameters."""

NAMED = "(SELECT id FROM names WHERE text = ?)"
"""The number of the word bound here; null, which equals nothing, for a word that is not in the log."""

MAX_ROWS_READ = 5000
"""Rows that one page goes through at most, where no index finds the requested ones."""
_DIGEST_BYTES = 12


class BadCursor(Exception):
    """The cursor was altered, or belongs to another query or tenant."""


class RowSource(NamedTuple):
    """Where a list's rows come from: `select` is SQL up to its WHERE, `order` names the columns that sort the list.

    `table`, with its alias (`families AS f`), is the one with the columns `tenant`, `client`, `sub`, `at` and `order`.
    """

    select: str
    table: str
    order: tuple[str, ...]

    @property
    def alias(self) -> str:
        """The table's alias."""
        return self.table.rsplit(" ", 1)[-1]


class PageQuery(NamedTuple):
    """The parameters that all lists have: `since` and `until` in microseconds since 1970, both included.

    `kind` names the list; `filters` holds every other parameter that distinguishes this query.
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
        """Whether it lists one person's or one client's rows, which an index finds."""
        return self.sub is not None or self.client_id is not None


def select_page(
    db: sqlite3.Connection,
    source: RowSource,
    page: PageQuery,
    indexed: Sequence[Condition] = (),
    filters: Sequence[Condition] = (),
) -> tuple[list[sqlite3.Row], str | None]:
    """The rows of a page, and the cursor of the next one.

    An index finds the rows by the conditions in `indexed`, in order. The `filters` are checked row by row: a page goes
    through `MAX_ROWS_READ` rows at most, and may have few rows, or none, and still a cursor. Raises `BadCursor`.
    """
    alias, order = source.alias, source.order
    columns, places = ", ".join(f"{alias}.{column}" for column in order), ", ".join("?" for _ in order)
    descending = ", ".join(f"{alias}.{column} DESC" for column in order)
    conditions, further = [*_conditions(alias, page), *indexed], list(filters)
    if page.sub is not None and page.client_id is not None:
        # a person has few rows, a client may have most of them: the plus keeps SQLite to the person's index
        further.append((f"+{alias}.client = {NAMED}", (page.client_id,)))
    if page.cursor is not None:
        conditions.append((f"({columns}) < ({places})", cursor_position(page, len(order))))
    horizon: tuple[int, ...] | None = None
    if further:
        where, parameters = _where(conditions)
        last = f"""SELECT {columns} FROM {source.table} {where}
            ORDER BY {descending} LIMIT 1 OFFSET {MAX_ROWS_READ - 1}"""  # noqa: S608  # names of ours
        if (row := db.execute(last, parameters).fetchone()) is not None:
            horizon = tuple(row)
            conditions.append((f"({columns}) >= ({places})", horizon))
    where, parameters = _where([*conditions, *further])
    query = f"{source.select} {where} ORDER BY {descending} LIMIT ?"
    rows = db.execute(query, (*parameters, page.limit + 1)).fetchall()
    if len(rows) > page.limit:
        rows = rows[: page.limit]
        return rows, cursor_after(page, tuple(rows[-1][column] for column in order))
    return rows, None if horizon is None else cursor_after(page, horizon)


def select_by_reason(
    db: sqlite3.Connection, source: RowSource, page: PageQuery, reason: str | None
) -> tuple[list[sqlite3.Row], str | None]:
    """As `select_page`, the rows with that reason, or with any where it is None. Raises `BadCursor`.

    An index finds everybody's rows by their reason. It finds one person's or client's by these, and then the reason is
    checked row by row: the plus keeps SQLite from the other index.
    """
    if reason is None:
        return select_page(db, source, page)
    condition = f"{source.alias}.reason = {NAMED}"
    if page.is_about_somebody:
        return select_page(db, source, page, filters=[(f"+{condition}", (reason,))])
    return select_page(db, source, page, indexed=[(condition, (reason,))])


def _conditions(alias: str, page: PageQuery) -> list[Condition]:
    """The conditions of the page that an index serves: its tenant, its person or client, its times."""
    conditions: list[Condition] = [(f"{alias}.tenant = {NAMED}", (page.tenant,))]
    if page.sub is not None:
        conditions.append((f"{alias}.sub = ?", (page.sub,)))
    elif page.client_id is not None:
        conditions.append((f"{alias}.client = {NAMED}", (page.client_id,)))
    if page.since is not None:
        conditions.append((f"{alias}.at >= ?", (page.since,)))
    if page.until is not None:
        conditions.append((f"{alias}.at <= ?", (page.until,)))
    return conditions


def _where(conditions: Sequence[Condition]) -> tuple[str, list[Any]]:
    sql = " AND ".join(sql for sql, _ in conditions)
    return f"WHERE {sql}", [parameter for _, bound in conditions for parameter in bound]


def cursor_after(page: PageQuery, position: tuple[int, ...]) -> str:
    """The cursor of the page that continues after this position."""
    text = ".".join(str(number) for number in position).encode()
    return base64url.encode(_digest(page, text) + text).decode()


def cursor_position(page: PageQuery, length: int) -> tuple[int, ...]:
    """The position in the page's cursor, `length` numbers. Raises `BadCursor`."""
    cursor = page.cursor or ""
    try:
        raw = base64url.decode_exactly(cursor.encode("ascii"))
        found = tuple(int(number) for number in raw[_DIGEST_BYTES:].split(b"."))
    except ValueError as error:
        raise BadCursor from error
    if len(found) != length or cursor_after(page, found) != cursor:
        raise BadCursor
    return found


def _digest(page: PageQuery, position: bytes) -> bytes:
    # the limit may change from page to page, the other parameters may not
    query = msgspec.json.encode(page._replace(limit=0, cursor=None))
    return hashlib.sha256(query + b"\0" + position).digest()[:_DIGEST_BYTES]
