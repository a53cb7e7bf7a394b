"""Exporting the log: which part of it, where to, and how an interrupted export continues (ADR 0010)."""

import os
import sys
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, Protocol

from events.aggregates.aggregate_names import EVERYTHING
from events.bus.connection import Connection
from events.log.direct_reader import message_at, read_direct
from events.log.grammar import Foreign, read_commit
from events.log.stored_message import StoredMessage
from heirloom.export.line_formats import ANOTHER, FORMS, BadExport, ExportPosition, Lines, last_position
from heirloom.export.records import Record, records
from heirloom.moment import Moment

PARQUET = "parquet"
FORMATS = (*FORMS, PARQUET)


class Sink(Protocol):
    """A destination of records, which receives whole commits."""

    def write(self, records: list[Record], /) -> None:
        """Write some more records."""

    def close(self) -> None:
        """Finish: no more records follow."""


class Selection(NamedTuple):
    """A part of the log: from `since` to `until`, both included, of one tenant or all, of one family or all."""

    since: Moment | None = None
    until: Moment | None = None
    tenant: str | None = None
    family_id: str | None = None

    @property
    def filter(self) -> str:
        """The filter of the part's subjects."""
        if self.family_id is not None:
            return f"tokens.{self.tenant or '*'}.family.{self.family_id}.*"
        return EVERYTHING if self.tenant is None else f"tokens.{self.tenant}.>"

    def of(self, stored: StoredMessage) -> list[Record]:
        """The commit's records, if its time is in the part; a foreign message has none. Raises `UnreadableCommit`."""
        found = list(records(stored))
        if not found:
            return []
        at = found[0]["at"]
        early = isinstance(self.since, datetime) and at < self.since
        late = isinstance(self.until, datetime) and at > self.until
        return [] if early or late else found


class Remainder(NamedTuple):
    """The sequences of the log that are still to be exported: after `after`, up to `until` (None: without end)."""

    after: int
    until: int | None


class Missing(Exception):
    """A required library is not installed; the message says how to install it."""


class Resumed(NamedTuple):
    """The last commit of the existing export, and its records."""

    position: ExportPosition
    last: list[Record]


def find_position(into: Path, form: str) -> ExportPosition | None:
    """The last commit of the existing export, None where there is none. Raises `BadExport`, `Missing`."""
    if not os.path.lexists(into):
        return None
    return _parquet().last_position(into) if form == PARQUET else last_position(into, FORMS[form])


async def resume(connection: Connection, position: ExportPosition, selection: Selection) -> Resumed:
    """Where to continue. Raises `Unavailable`, and `BadExport` where the existing export is of something else."""
    if selection.tenant not in (None, position.tenant) or selection.family_id not in (None, position.aggregate_id):
        raise BadExport(
            "the export that is there is one of something else; "
            "name the --tenant and --family it was begun with, or another file with --into"
        )
    stored = await message_at(connection, position.seq)
    last = [] if stored is None else list(records(stored))
    if not last or last[0]["commit_id"] != position.commit_id:
        there = f"the export that is there is one of another log: sequence {position.seq} was another commit"
        raise BadExport(there + ANOTHER)
    return Resumed(position, last)


def open_sink(into: Path | None, form: str, resumed: Resumed | None) -> Sink:
    """The destination: a file, a directory for Parquet, None for standard output. Raises `Missing`, `BadExport`."""
    if into is None:
        return Lines(FORMS[form], sys.stdout.buffer)
    if form == PARQUET:
        parts: Sink = _parquet().ParquetParts(into)
        return parts
    return Lines.into(into, FORMS[form], *(resumed or (None, [])))


async def write_records(
    connection: Connection,
    sink: Sink,
    selection: Selection,
    remainder: Remainder,
    advance: Callable[[int], None],
    found: Callable[[Foreign], None],
) -> None:
    """Write the records of the selection that remain.

    `advance` receives the sequence reached, `found` each foreign message that was stepped over. Raises
    `UnreadableCommit`, `Unavailable`, and `BadExport` where the file begins as another export.
    """
    after, end = remainder
    start = max(selection.since if isinstance(selection.since, int) else 1, after + 1)
    if isinstance(selection.until, int):
        end = min(end, selection.until) if end is not None else selection.until
    if end is not None and start > end:
        return
    async with aclosing(read_direct(connection, start, filter=selection.filter, until=end)) as batches:
        async for batch in batches:
            exported = [(stored, selection.of(stored)) for stored in batch.messages]
            sink.write([record for _, records in exported for record in records])
            for stored in (stored for stored, records in exported if not records):
                if isinstance(foreign := read_commit(stored), Foreign):
                    found(foreign)
            advance(batch.messages[-1].seq)


def _parquet() -> ModuleType:
    try:
        from heirloom.export import parquet  # an extra: not everybody has it
    except ImportError as error:
        raise Missing("Parquet needs pyarrow: install heirloom-oauth[parquet]") from error
    return parquet
