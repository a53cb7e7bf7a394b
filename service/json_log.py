"""One structured line per decision on standard error, never a token.

Lines are collected and written a few times a second in one piece: a line costs a request about a microsecond. What a
crash loses here is in the log, which is the truth; this is for people who watch.
"""

import asyncio
import logging
import sys
import traceback
from typing import Any, Protocol

import msgspec

from service.clock import now

FLUSH_SECONDS = 0.2
MAX_WORDS = 64
"""Characters of what others have chosen: once a stranger wrote 16 MB of the log in 5 s."""


class Out(Protocol):
    """Where lines go."""

    def write(self, lines: bytes, /) -> object:
        """Whole lines, each with its end."""

    def flush(self) -> object:
        """Let go of what is held back."""


def _cut(text: str) -> str:
    """What may be a stranger's words, as far as they can be of use; what is no text is replaced."""
    return text[:MAX_WORDS].encode(errors="replace").decode()


class JsonLog(logging.Handler):
    """Decisions, and everything logged through the standard library, as JSON lines."""

    def __init__(self, out: Out | None = None) -> None:
        super().__init__()
        self._out: Out = out or sys.stderr.buffer
        self._lines: list[bytes] = []
        self._encode = msgspec.json.Encoder().encode
        self._scheduled = False

    def decision(self, endpoint: str, tenant: str, client: str, outcome: str, seconds: float) -> None:
        """A request was answered: `outcome` is `ok` or the error's code."""
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
        """A line of the standard library's logging."""
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
            # the place, not the message: an exception's text may repeat what it choked on
            line["error"] = type(record.exc_info[1]).__name__
            line["trace"] = [
                f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(record.exc_info[2])
            ]
        self._write(line)

    def flush(self) -> None:
        """Write what has been collected."""
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
        except RuntimeError:  # no loop, nobody to come back later
            self.flush()


_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def install(json_log: JsonLog) -> None:
    """Send the standard library's logging, from INFO up, through the json_log."""
    root = logging.getLogger()
    root.handlers[:] = [json_log]
    root.setLevel(logging.INFO)
