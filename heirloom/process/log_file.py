"""The `*.log` files that `heirloom up` has its processes write: bounded, and never on the disk's last gigabyte.

A process writes to its standard error, which `heirloom up` has made a file (HEIRLOOM_LOG); here it goes on to another
one when that is full, and drops lines where the disk has little room left: the log of tokens needs it more. What the
broker says is written by `heirloom up` (`heirloom.broker.broker_log`).
"""

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

ERRORS = 2
"""The descriptor of standard error; what Python itself says goes there too."""
RESERVE = 1 << 30
"""Bytes that are left free on the disk."""


class LogLimits(NamedTuple):
    """Of each process: so many files of so many bytes."""

    bytes: int = 64 << 20
    files: int = 5

    def environment(self) -> dict[str, str]:
        """For the processes of the service."""
        return {"HEIRLOOM_LOG_BYTES": str(self.bytes), "HEIRLOOM_LOG_FILES": str(self.files)}


DEFAULT_LIMITS = LogLimits()


class LogFile:
    """Standard error, as the file that it is, or another descriptor of such a file."""

    def __init__(self, path: Path, limits: LogLimits, descriptor: int = ERRORS) -> None:
        self._path = path
        self._limits = limits
        self._descriptor = descriptor
        self._dropped = 0

    def write(self, lines: bytes, reserve: int | None = None) -> None:
        """Append whole lines, or count them where there is no room; the first ones after that say how many.

        `reserve` is how many bytes are left free on the disk, if not as many as by default; 0 tries in any case.
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
        except OSError:  # the disk is full, or somebody took the directory away
            self._dropped += lines.count(b"\n")

    def flush(self) -> None:
        """Nothing is held back."""

    def _begin_another(self) -> None:
        """`name.log` becomes `name.log.1`, that one `name.log.2`, and the oldest is gone."""
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
    """This process's, if `heirloom up` has made it one."""
    path = os.environ.get("HEIRLOOM_LOG")
    if path is None:
        return None
    size, files = (os.environ.get(f"HEIRLOOM_LOG_{what}") for what in ("BYTES", "FILES"))
    return LogFile(Path(path), LogLimits(int(size or DEFAULT_LIMITS.bytes), int(files or DEFAULT_LIMITS.files)))
