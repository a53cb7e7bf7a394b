"""Exports with one line for each record (JSON Lines, CSV, CloudEvents); the file itself shows how far it is."""

import csv
import io
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from events.files import make_empty, open_plain, open_to_append
from heirloom.export.csv_cell import cell
from heirloom.export.records import COLUMNS, Record

TAIL = 4 * 1024 * 1024
"""Bytes at the end of a file that contain its last commit."""


ANOTHER = "; name another file with --into"
"""What to do about a file that is no export of ours."""


class BadExport(Exception):
    """The file is no export of this format; the message says what to do."""


class ExportPosition(NamedTuple):
    """The last commit of an export, and the offset of its first record in the file."""

    seq: int
    commit_id: str
    tenant: str
    aggregate_id: str
    offset: int = 0


class Form(NamedTuple):
    """Encodes records as lines, decodes a line, and has the first line of a file."""

    encode: Callable[[Sequence[Record]], bytes]
    decode: Callable[[bytes], dict[str, Any]]
    header: bytes = b""


class Lines:
    """Writes records as lines. `begun` is the stream's present content, which must agree with what would be written."""

    def __init__(self, form: Form, stream: BinaryIO, *, begins: bool = True, begun: bytes = b"") -> None:
        self._form = form
        self._stream = stream
        self._begun = begun
        if begins:
            self._write(form.header)

    @classmethod
    def into(cls, path: Path, form: Form, position: ExportPosition | None, last: Sequence[Record]) -> "Lines":
        """Open a new file, or continue one: its last commit, of which a kill may have left a part, is written again.

        Without a `position`, the file's content must be a part of the first record: nothing is removed. Raises
        `BadExport`.
        """
        if position is None and not os.path.lexists(path):
            make_empty(path)
        stream = open_to_append(path)
        try:
            begun = b""
            if position is None:
                stream.seek(0)
                begun = stream.read()
            else:
                stream.truncate(position.offset)
            lines = cls(form, stream, begins=position is None, begun=begun)
            lines.write(last)
        except (BadExport, OSError):
            stream.close()
            raise
        return lines

    def write(self, records: Sequence[Record]) -> None:
        """Write the records of whole commits. Raises `BadExport` where the file begins otherwise."""
        self._write(self._form.encode(records))
        self._stream.flush()

    def _write(self, text: bytes) -> None:
        there, self._begun = self._begun[: len(text)], self._begun[len(text) :]
        if not text.startswith(there):
            raise BadExport(f"{self._stream.name} does not begin as this export does{ANOTHER}")
        self._stream.write(text[len(there) :])

    def close(self) -> None:
        """Close the file; standard output stays open."""
        if self._stream is not sys.stdout.buffer:
            self._stream.close()


def last_position(path: Path, form: Form) -> ExportPosition | None:
    """The last commit in the file, None where it has no whole record. Raises `BadExport`."""
    with open_plain(path) as file:
        size = file.seek(0, os.SEEK_END)
        begin = file.seek(max(size - TAIL, 0))
        tail = file.read()
    position = None
    end = tail.rfind(b"\n") + 1
    while end > 0:
        start = tail.rfind(b"\n", 0, end - 1) + 1
        line = tail[start:end]
        if begin + start == 0 and line == form.header:
            break
        found = _position(path, form, line, begin + start)
        if position is not None and found.seq != position.seq:
            return position
        position, end = found, start
    if begin > 0:
        raise BadExport(f"{path} is no export of this format{ANOTHER}")
    return position


def _position(path: Path, form: Form, line: bytes, offset: int) -> ExportPosition:
    try:
        record = form.decode(line)
        return ExportPosition(int(record["seq"]), record["commit_id"], record["tenant"], record["aggregate_id"], offset)
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise BadExport(f"{path} is no export of this format{ANOTHER}") from error


def _csv_lines(rows: Iterable[Sequence[Any]]) -> bytes:
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows(rows)
    return lines.getvalue().encode()


def _csv_row(record: Record) -> list[Any]:
    return [cell(record[column]) if column in record else None for column in COLUMNS]


def _csv_record(line: bytes) -> dict[str, Any]:
    return dict(zip(COLUMNS, next(csv.reader([line.decode()])), strict=True))


def cloud_event(record: Record) -> dict[str, Any]:
    """The record in an envelope of CloudEvents 1.0; the text order of the extension `sequence` is the log's order."""
    return {
        "specversion": "1.0",
        "id": f"{record['commit_id']}.{record['index']}",
        "source": f"urn:heirloom:{record['tenant']}",
        "type": f"dev.heirloom.{record['type']}",
        "subject": f"{record['aggregate']}/{record['aggregate_id']}",
        "time": record["at"],
        "datacontenttype": "application/json",
        "sequence": f"{record['seq']:020}.{record['index']:04}",
        "data": record,
    }


_json_lines = msgspec.json.Encoder().encode_lines

FORMS = {
    "jsonl": Form(_json_lines, msgspec.json.decode),
    "csv": Form(lambda records: _csv_lines(map(_csv_row, records)), _csv_record, _csv_lines([COLUMNS])),
    "cloudevents": Form(
        lambda records: _json_lines(map(cloud_event, records)), lambda line: dict(msgspec.json.decode(line)["data"])
    ),
}
