"""An export with a line for each record: JSON Lines, CSV, CloudEvents. The file itself tells how far it is."""

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
"""Bytes at the end of a file in which its last commit lies."""


ANOTHER = "; name another file with --into"
"""What to do about a file that is none of ours."""


class BadExport(Exception):
    """The file is no export of this format; the message says what to do."""


class ExportPosition(NamedTuple):
    """The last commit of an export, and where in the file its records begin."""

    seq: int
    commit_id: str
    tenant: str
    aggregate_id: str
    offset: int = 0


class Form(NamedTuple):
    """Records as lines, the record of a line, and the line that comes first."""

    encode: Callable[[Sequence[Record]], bytes]
    decode: Callable[[bytes], dict[str, Any]]
    header: bytes = b""


class Lines:
    """Records in, lines out. What is `begun` lies at the stream's end already, if it is what would be written."""

    def __init__(self, form: Form, stream: BinaryIO, *, begins: bool = True, begun: bytes = b"") -> None:
        self._form = form
        self._stream = stream
        self._begun = begun
        if begins:
            self._write(form.header)

    @classmethod
    def into(cls, path: Path, form: Form, place: ExportPosition | None, last: Sequence[Record]) -> "Lines":
        """A new file, or at the end of one: its last commit, of which a kill may have left a part, is written again.

        Without a `place`, what is in the file must be a part of the first record: nothing is taken away. Raises
        `BadExport`.
        """
        if place is None and not os.path.lexists(path):
            make_empty(path)
        stream = open_to_append(path)
        try:
            begun = b""
            if place is None:
                stream.seek(0)
                begun = stream.read()
            else:
                stream.truncate(place.offset)
            lines = cls(form, stream, begins=place is None, begun=begun)
            lines.write(last)
        except (BadExport, OSError):
            stream.close()
            raise
        return lines

    def write(self, records: Sequence[Record]) -> None:
        """The records of whole commits. Raises `BadExport` where the file begins otherwise."""
        self._write(self._form.encode(records))
        self._stream.flush()

    def _write(self, text: bytes) -> None:
        there, self._begun = self._begun[: len(text)], self._begun[len(text) :]
        if not text.startswith(there):
            raise BadExport(f"{self._stream.name} does not begin as this export does{ANOTHER}")
        self._stream.write(text[len(there) :])

    def close(self) -> None:
        """Nothing more comes."""
        if self._stream is not sys.stdout.buffer:
            self._stream.close()


def last_place(path: Path, form: Form) -> ExportPosition | None:
    """The last commit in the file, None for one without a whole record. Raises `BadExport`."""
    with open_plain(path) as file:
        size = file.seek(0, os.SEEK_END)
        begin = file.seek(max(size - TAIL, 0))
        tail = file.read()
    place = None
    end = tail.rfind(b"\n") + 1
    while end > 0:
        start = tail.rfind(b"\n", 0, end - 1) + 1
        line = tail[start:end]
        if begin + start == 0 and line == form.header:
            break
        found = _place(path, form, line, begin + start)
        if place is not None and found.seq != place.seq:
            return place
        place, end = found, start
    if begin > 0:
        raise BadExport(f"{path} is no export of this format{ANOTHER}")
    return place


def _place(path: Path, form: Form, line: bytes, offset: int) -> ExportPosition:
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
    """The envelope of CloudEvents 1.0; `sequence` is the extension of that name, in the order of its text."""
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
