"""The broker's log file, `nats.log`: bounded in what strangers can make the broker write (contract §7).

nats-server writes a line for each thing that it forbids, with all of the request, without a limit. So it writes to its
standard output, which `heirloom up` reads. If the reader dies, the broker runs on.
"""

import asyncio
import logging
import os
import re
import time
from pathlib import Path

from heirloom.broker.roles import LOG_ACCOUNT
from heirloom.process.log_file import LogFile, LogLimits

log = logging.getLogger("heirloom.up")

CONFIGURATION = 'logfile: "/dev/stdout"\n'
LINES_A_SECOND = 20
"""Lines about strangers' connections; further ones are counted."""
READ_BYTES = 1 << 16
MAX_LINE = 1 << 16
"""Bytes. A longer line is cut while it is still being read."""
FLUSH_SECONDS = 1.0

_OF_A_CONNECTION = re.compile(rb" - [a-z]+id:\d+ - |Malformed JetStream API Request")
"""nats-server quotes names and subjects, so no name can put these into another line, or begin a line."""
_OURS = re.compile(rb'[^"]* - cid:\d+ - "(?:[^"\\]|\\.)*" - "' + LOG_ACCOUNT.encode() + rb"/")
_WORD = re.compile(r'"((?:[^"\\]|\\.){0,64})((?:[^"\\]|\\.)*)(?:"|\\?$)|((?<!\S)[^\s"]\S{63})\S+')
"""A quoted text, its first 64 characters and the rest; or the first 64 characters of a longer word."""


def is_of_a_connection(line: bytes) -> bool:
    """Whether the line is about a connection, open or requested: parts of it are the peer's words."""
    return _OF_A_CONNECTION.search(line) is not None


class BrokerLog:
    """One broker's file, with every line about the broker itself and about connections of the log's account.

    `heading` is a line of ours that comes before the first one of each start.
    """

    def __init__(self, path: Path, limits: LogLimits, heading: bytes = b"") -> None:
        self._path = path
        self._limits = limits
        self._heading = heading
        self._rest = b""
        self._second = 0
        self._lines = 0
        self._left_out = 0

    async def record(self, output: asyncio.StreamReader) -> None:
        """Write the broker's output to the file until the broker has ended."""
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            log.error("cannot write %s: %s", self._path, error.strerror)
            while await output.read(READ_BYTES):
                pass  # or the broker would block for ever
            return
        file = LogFile(self._path, self._limits, descriptor)
        file.write(self._heading, reserve=0)
        try:
            while True:
                try:
                    async with asyncio.timeout(FLUSH_SECONDS):
                        data = await output.read(READ_BYTES)
                except TimeoutError:
                    self._count(file)
                    continue
                if not data:
                    break
                self.take(data, file)
            self.take(b"\n" if self._rest else b"", file)
            self._count(file)
        finally:
            os.close(descriptor)

    def take(self, data: bytes, file: LogFile) -> None:
        """Process the next output, wherever it was cut."""
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:MAX_LINE]
        for line in lines:
            if not is_of_a_connection(line):
                file.write(line + b"\n", reserve=0)  # `heirloom.broker.disk_space` reads that the disk is full
            elif _OURS.match(line) or self._may_say_more(file):
                file.write(_WORD.sub(_cut, line.decode(errors="replace")).encode() + b"\n")
            else:
                self._left_out += 1

    def _may_say_more(self, file: LogFile) -> bool:
        if (second := int(time.monotonic())) != self._second:
            self._count(file)
            self._second, self._lines = second, 0
        self._lines += 1
        return self._lines <= LINES_A_SECOND

    def _count(self, file: LogFile) -> None:
        if self._left_out:
            file.write(
                b'{"event":"lines about connections left out: more than %d a second","count":%d}\n'
                % (LINES_A_SECOND, self._left_out)
            )
            self._left_out = 0


def _cut(found: re.Match[str]) -> str:
    quoted, others, word = found.groups()
    if word is not None:
        return f"{word}…"
    return f'"{quoted}…"' if others else found.group()
