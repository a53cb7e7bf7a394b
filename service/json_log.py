"""A structured line for each decision, on standard error; it never contains a token.

Lines are collected and written together a few times a second, so that a line costs a request about a microsecond. Lines
that a crash loses are no loss for the audit, which reads the event log.
"""

import asyncio
import logging
import sys
import traceback
from typing import Any, Protocol

import msgspec

from service.clock import now

FLUSH_SECONDS = 0.2
MAX_TEXT_CHARACTERS = 64
"""Of a text that others choose: a stranger could write 16 MB of lines in 5 s before this limit."""


class Out(Protocol):
    """Where the lines are written."""

    def write(self, lines: bytes, /) -> object:
        """Write whole lines, each with its newline."""

    def flush(self) -> object:
        """Flush what is buffered."""


def _cut(text: str) -> str:
    """The beginning of a text that others chose; characters that cannot be encoded are replaced."""
    return text[:MAX_TEXT_CHARACTERS].encode(errors="replace").decode()


class JsonLog(logging.Handler):
    """Writes decisions, and the records of the standard library's logging, as JSON lines."""

    def __init__(self, out: Out | None = None) -> None:
        super().__init__()
        self._out: Out = out or sys.stderr.buffer
        self._lines: list[bytes] = []
        self._encode = msgspec.json.Encoder().encode
        self._scheduled = False

    def decision(self, endpoint: str, tenant: str, client: str, outcome: str, seconds: float) -> None:
        """Write a line about an answered request; `outcome` is `ok` or the error's code."""
        self._write(
            {
                "at": now(),
                "event": "decision",
                "endpoint": endpoint,
                "tenant": _cut(tenant),
                "client": _cut(client),
                "outcome": outcome,
                "ms": round(seconds * 1000, 3),
            }
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record of the standard library's logging."""
        line: dict[str, Any] = {
            "at": now(),
            "event": record.getMessage().encode(errors="replace").decode(),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        line |= {
            name: _cut(value) if isinstance(value, str) else value
            for name, value in record.__dict__.items()
            if name not in _STANDARD
        }
        if record.exc_info and record.exc_info[1]:
            # the place, not the message: an exception's text may repeat a secret that it failed on
            line["error"] = type(record.exc_info[1]).__name__
            line["trace"] = [
                f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(record.exc_info[2])
            ]
        self._write(line)

    def flush(self) -> None:
        """Write the collected lines."""
        self._scheduled = False
        lines, self._lines = self._lines, []
        if lines:
            self._out.write(b"\n".join(lines) + b"\n")
            self._out.flush()

    def _write(self, line: dict[str, Any]) -> None:
        self._lines.append(self._encode(line))
        if self._scheduled:
            return
        try:
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
            self._scheduled = True
        except RuntimeError:  # there is no event loop to call `flush` later
            self.flush()


_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def install(json_log: JsonLog) -> None:
    """Write the standard library's logging, from INFO up, through `json_log`."""
    root = logging.getLogger()
    root.handlers[:] = [json_log]
    root.setLevel(logging.INFO)
