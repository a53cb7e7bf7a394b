"""An export to Parquet: a directory of parts, each of one row group, named by their sequences.

A Parquet file is complete or unreadable. So a part is written beside its place and moved there when it is complete: an
interrupted export leaves no broken file.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from events.files import new_file
from heirloom.export.line_formats import ANOTHER, BadExport, ExportPosition
from heirloom.export.records import ALWAYS, COLUMNS, LISTS, NUMBERS, OBJECTS, TIMES, Record

ROWS = 50_000
"""Rows of a part, which are kept in memory; a part ends with a whole commit."""

LAST = b"heirloom.last"


def _type(column: str) -> Any:
    if column in NUMBERS:
        return pa.int64()
    if column in TIMES:
        return pa.timestamp("us", tz="UTC")
    return pa.list_(pa.string()) if column in LISTS else pa.string()


SCHEMA = pa.schema([pa.field(column, _type(column), nullable=column not in ALWAYS) for column in COLUMNS])


class ParquetParts:
    """Writes records as parts."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._rows: list[Record] = []

    def write(self, records: Sequence[Record]) -> None:
        """Add the records of whole commits."""
        self._rows += records
        if len(self._rows) >= ROWS:
            self.close()

    def close(self) -> None:
        """Write the remaining records as a part."""
        rows, self._rows = self._rows, []
        if not rows:
            return
        last = rows[-1]
        position = ExportPosition(last["seq"], last["commit_id"], last["tenant"], last["aggregate_id"])
        schema = SCHEMA.with_metadata({LAST: msgspec.json.encode(position)})
        table = pa.Table.from_pylist([_row(record) for record in rows], schema=schema)
        path = self._directory / f"part-{rows[0]['seq']:020}-{last['seq']:020}.parquet"
        with new_file(path, replaces=True) as file:
            pq.write_table(table, file, row_group_size=len(rows), compression="zstd")


def last_position(directory: Path) -> ExportPosition | None:
    """The last commit in the parts, None where there are none. Raises `BadExport`."""
    parts = sorted(directory.glob("part-*.parquet"))
    if not parts:
        return None
    try:
        return msgspec.json.decode(pq.read_schema(parts[-1]).metadata[LAST], type=ExportPosition)
    except (pa.ArrowException, KeyError, TypeError, msgspec.DecodeError) as error:
        raise BadExport(f"{parts[-1]} is no part of an export{ANOTHER}") from error


def _row(record: Record) -> Record:
    texts = {column: msgspec.json.encode(record[column]).decode() for column in OBJECTS if column in record}
    return record | texts
