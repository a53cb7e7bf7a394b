"""The `*.log` files of the processes of `heirloom up`: bounded, and never written to the disk's last gigabyte.

A process writes to its standard error, which `heirloom up` has opened as a file (HEIRLOOM_LOG). When the file is full,
the process moves on to another one; when the disk has little space left, it drops lines, because the log of tokens
needs that space. `heirloom up` itself writes the broker's file (`heirloom.broker.broker_log`).
"""

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

ERRORS = 2
"""The descriptor of standard error, to which Python itself also writes."""
RESERVE = 1 << 30
"""Bytes that stay free on the disk."""


class LogLimits(NamedTuple):
    """For each process, the size of a log file in bytes, and the number of files."""

    bytes: int = 64 << 20
    files: int = 5

    def environment(self) -> dict[str, str]:
        """The environment variables that pass these limits to a service process."""
        return {"HEIRLOOM_LOG_BYTES": str(self.bytes), "HEIRLOOM_LOG_FILES": str(self.files)}


DEFAULT_LIMITS = LogLimits()


class LogFile:
    """Standard error, which is a file, or another descriptor of such a file."""

    def __init__(self, path: Path, limits: LogLimits, descriptor: int = ERRORS) -> None:
        self._path = path
        self._limits = limits
        self._descriptor = descriptor
        self._dropped = 0

    def write(self, lines: bytes, reserve: int | None = None) -> None:
        """Append whole lines, or count them where there is no space; the next lines written report the count.

        `reserve` is how many bytes must stay free on the disk, by default `RESERVE`; 0 tries to write in any case.
        """
        try:
            there, kept = os.fstatvfs(self._descriptor), RESERVE if reserve is None else reserve
            if kept and there.f_bavail * there.f_frsize < kept + len(lines):
                self._dropped += lines.count(b"\n")
                return
            if self._dropped:
                lines = b'{"event":"log lines dropped: the disk is nearly full","count":%d}\n' % self._dropped + lines
            if os.fstat(self._descriptor).st_size + len(lines) > self._limits.bytes:
                self._begin_another()
            while lines:
                lines = lines[os.write(self._descriptor, lines) :]
            self._dropped = 0
        except OSError:  # the disk is full, or the directory was removed
            self._dropped += lines.count(b"\n")

    def flush(self) -> None:
        """Do nothing: no line is buffered."""

    def _begin_another(self) -> None:
        """Rename `name.log` to `name.log.1` and that to `name.log.2`; the oldest file is replaced."""
        for number in range(self._limits.files - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                self._numbered(number - 1).replace(self._numbered(number))
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | (os.O_TRUNC if self._limits.files == 1 else 0)
        another = os.open(self._path, flags, 0o600)
        os.dup2(another, self._descriptor, inheritable=self._descriptor == ERRORS)
        os.close(another)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path


def log_file() -> LogFile | None:
    """The log file of the running process, if `heirloom up` gave it one."""
    path = os.environ.get("HEIRLOOM_LOG")
    if path is None:
        return None
    size, files = (os.environ.get(f"HEIRLOOM_LOG_{what}") for what in ("BYTES", "FILES"))
    return LogFile(Path(path), LogLimits(int(size or DEFAULT_LIMITS.bytes), int(files or DEFAULT_LIMITS.files)))
