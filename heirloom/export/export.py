"""Exporting the log: what is wanted of it, where it goes, and going on where an export was (ADR 0010)."""

import os
import sys
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, Protocol

from events.aggregates.subjects import EVERYTHING
from events.bus.connection import Connection
from events.log.direct_reader import commit_at, read_direct
from events.log.grammar import Foreign, read_commit
from events.log.stored_commit import Stored
from heirloom.export.line_formats import ANOTHER, FORMS, BadExport, ExportPosition, Lines, last_place
from heirloom.export.records import Record, records
from heirloom.moment import Moment

PARQUET = "parquet"
FORMATS = (*FORMS, PARQUET)


class Sink(Protocol):
    """Where records go, whole commits at a time."""

    def write(self, records: list[Record], /) -> None:
        """Some more."""

    def close(self) -> None:
        """No more."""


class Wanted(NamedTuple):
    """Which of the log: from `since` to `until`, both included, of all tenants or of one, of all or of one family."""

    since: Moment | None = None
    until: Moment | None = None
    tenant: str | None = None
    family_id: str | None = None

    @property
    def filter(self) -> str:
        """The subjects."""
        if self.family_id is not None:
            return f"tokens.{self.tenant or '*'}.family.{self.family_id}.*"
        return EVERYTHING if self.tenant is None else f"tokens.{self.tenant}.>"

    def of(self, stored: Stored) -> list[Record]:
        """The commit's records, if its time is within; none of what is foreign. Raises `UnreadableCommit`."""
        found = list(records(stored))
        if not found:
            return []
        at = found[0]["at"]
        early = isinstance(self.since, datetime) and at < self.since
        late = isinstance(self.until, datetime) and at > self.until
        return [] if early or late else found


class Missing(Exception):
    """A library that is needed is not installed; the message says how to get it."""


class Resumed(NamedTuple):
    """The last commit of an export that is there, and its records."""

    place: ExportPosition
    last: list[Record]


def find_place(into: Path, form: str) -> ExportPosition | None:
    """The last commit of the export that is there, None where none is. Raises `BadExport`, `Missing`."""
    if not os.path.lexists(into):
        return None
    return _parquet().last_place(into) if form == PARQUET else last_place(into, FORMS[form])


async def resume(connection: Connection, place: ExportPosition, wanted: Wanted) -> Resumed:
    """Where to go on. Raises `BadExport` for an export of another log or of something else, and `Unavailable`."""
    if wanted.tenant not in (None, place.tenant) or wanted.family_id not in (None, place.aggregate_id):
        raise BadExport(
            "the export that is there is one of something else; "
            "name the --tenant and --family it was begun with, or another file with --into"
        )
    stored = await commit_at(connection, place.seq)
    last = [] if stored is None else list(records(stored))
    if not last or last[0]["commit_id"] != place.commit_id:
        there = f"the export that is there is one of another log: sequence {place.seq} was another commit"
        raise BadExport(there + ANOTHER)
    return Resumed(place, last)


def open_sink(into: Path | None, form: str, resumed: Resumed | None) -> Sink:
    """Where to write: a file, a directory for Parquet, None for standard output. Raises `Missing`, `BadExport`."""
    if into is None:
        return Lines(FORMS[form], sys.stdout.buffer)
    if form == PARQUET:
        parts: Sink = _parquet().ParquetParts(into)
        return parts
    return Lines.into(into, FORMS[form], *(resumed or (None, [])))


async def pour(
    connection: Connection,
    sink: Sink,
    wanted: Wanted,
    extent: tuple[int, int | None],
    advance: Callable[[int], None],
    found: Callable[[Foreign], None],
) -> None:
    """Write what comes after the first sequence of `extent`, up to the second (None: for ever).

    `advance` hears how far it is; `found` receives each foreign message that was stepped over.

    Raises `UnreadableCommit`, `Unavailable`, and `BadExport` where the file begins as another export.
    """
    after, end = extent
    start = max(wanted.since if isinstance(wanted.since, int) else 1, after + 1)
    if isinstance(wanted.until, int):
        end = min(end, wanted.until) if end is not None else wanted.until
    if end is not None and start > end:
        return
    async with aclosing(read_direct(connection, start, filter=wanted.filter, until=end)) as batches:
        async for batch in batches:
            told = [(stored, wanted.of(stored)) for stored in batch.commits]
            sink.write([record for _, records in told for record in records])
            for stored in (stored for stored, records in told if not records):
                if isinstance(foreign := read_commit(stored), Foreign):
                    found(foreign)
            advance(batch.commits[-1].seq)


def _parquet() -> ModuleType:
    try:
        from heirloom.export import parquet  # an extra: not everybody has it
    except ImportError as error:
        raise Missing("Parquet needs pyarrow: install heirloom-oauth[parquet]") from error
    return parquet
