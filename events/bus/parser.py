"""What a broker sends, taken apart by the broker's own grammar (ADR 0019).

nats-server separates the words of a line by spaces and tabs alone, ends a line at LF, and takes every other byte into
a subject. Python's `bytes.split()` and the white space of nats-py's regular expressions split at VT, FF and CR as well:
whoever may publish could then write the subscription's number and the reply subject of the message himself. So no line
is left to nats-py's parser, and nothing behind this one splits a line again.

A message is cut out by the lengths that its own line announces, and handed at once to whoever listens for it.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec
from nats.errors import ProtocolError
from nats.protocol.parser import Parser as NatsParser

Taker = Callable[[bytes, bytes, bytes, bytes | None], None]
"""Takes a message as it came: subject, reply subject, body, and headers if it has any."""

MAX_LINE = 64 << 10
"""Bytes. A broker's control lines are of 4 KiB, our own's of 16; the longest names a cluster's servers."""
MAX_MESSAGE = 64 << 20
"""Bytes. The most that nats-server can be told to let through (`max_payload`), headers included."""
MAX_DIGITS = 36
"""Of the numbers in a line together."""


class Receiver(Protocol):
    """Who gets what is taken apart: the `takers`, by the number of their subscription, and for all others itself."""

    takers: dict[int, Taker]

    def malformed(self, size: int, error: Exception) -> None:
        """A taker could make nothing of a message of so many bytes."""

    def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None
    ) -> Awaitable[None]: ...

    def _process_info(self, info: dict[str, Any]) -> Awaitable[None]: ...

    def _process_err(self, err_msg: str) -> Awaitable[None]: ...

    def _process_ping(self) -> Awaitable[None]: ...

    def _process_pong(self) -> Awaitable[None]: ...


class Parser(NatsParser):
    """Fed with what arrives, however it is cut into pieces."""

    nc: Receiver

    def reset(self) -> None:
        """Forget what has arrived: another connection begins."""
        super().reset()
        self._held: list[bytes] = []
        self._size = 0
        self._wanted = 0

    async def parse(self, data: bytes = b"") -> None:
        """Hand over every message that is whole by now.

        Raises `ProtocolError` for what no broker sends: behind such a line nobody knows where the next one begins, so
        the connection ends, and begins anew.
        """
        if self._held:
            self._held.append(data)
            self._size += len(data)
            if self._size < self._wanted:
                return
            data = b"".join(self._held)
            self._held.clear()
        done = await self._hand_over(data)
        if done < len(data):
            self._held.append(data[done:])
            self._size = len(data) - done

    async def _hand_over(self, data: bytes) -> int:
        """How many bytes are done with. To go on, so many as `_wanted` must be there of the rest."""
        takers, begin = self.nc.takers, 0
        while (end := data.find(b"\n", begin)) >= 0:
            words, start = _words(data[begin:end]), end + 1
            if words[0] != b"MSG" and words[0] != b"HMSG":
                await self._control(words[0], data[begin + len(words[0]) : end - 1])
                begin = start
                continue
            subject, sid, reply, head, size = _announced(words)
            body, stop = start + head, start + size
            if stop + 2 > len(data):
                self._wanted = stop + 2 - begin
                return begin
            if not data.startswith(b"\r\n", stop):
                raise ProtocolError("nats: a message is longer than its line announced")
            headers = data[start:body] if head else None
            begin = stop + 2
            take = takers.get(sid)
            if take is None:
                await self.nc._process_msg(sid, subject, reply, data[body:stop], headers)  # noqa: SLF001  # its name
                continue
            try:
                take(subject, reply, data[body:stop], headers)
            except Exception as error:  # whatever a message does to its taker, the next ones are others'
                self.nc.malformed(size, error)
        if len(data) - begin > MAX_LINE:
            raise ProtocolError("nats: a line without an end")
        self._wanted = 0
        return begin

    async def _control(self, verb: bytes, rest: bytes) -> None:
        """A line that is no message."""
        match verb:
            case b"PING":
                await self.nc._process_ping()  # noqa: SLF001  # nats-py's names, here and below
            case b"PONG":
                await self.nc._process_pong()  # noqa: SLF001
            case b"+OK":
                pass
            case b"-ERR":
                await self.nc._process_err(rest.strip(b" \t").decode("utf-8", "replace").lower())  # noqa: SLF001
            case b"INFO":
                await self.nc._process_info(_info(rest))  # noqa: SLF001
            case _:
                raise ProtocolError("nats: unknown protocol")


def _words(line: bytes) -> list[bytes]:
    """Of a line without its LF, at least one. Raises `ProtocolError`."""
    if not line.endswith(b"\r"):
        raise ProtocolError("nats: a line does not end with CR LF")
    words = line[:-1].split(b" ")
    if b"" in words or b"\t" in line:
        words = [word for word in line[:-1].replace(b"\t", b" ").split(b" ") if word]
    if not words:
        raise ProtocolError("nats: an empty line")
    return words


def _announced(words: list[bytes]) -> tuple[bytes, int, bytes, int, int]:
    """`MSG subject sid [reply] size` and `HMSG subject sid [reply] headers size`, where a reply is left out as `b""`.

    Gives subject, sid, reply, and how many bytes headers and message have, the headers' 0 where there are none.
    Numbers are digits and nothing else: `int` alone takes signs, underscores and white space too. Raises
    `ProtocolError`.
    """
    match words:
        case [b"MSG", subject, sid, size]:
            reply, head = b"", b"0"
        case [b"MSG", subject, sid, reply, size]:
            head = b"0"
        case [b"HMSG", subject, sid, head, size]:
            reply = b""
        case [b"HMSG", subject, sid, reply, head, size]:
            pass
        case _:
            raise ProtocolError("nats: malformed MSG")
    digits = sid + head + size
    if not (sid and head and size and digits.isdigit()) or len(digits) > MAX_DIGITS:
        raise ProtocolError("nats: malformed MSG")
    headers, whole = int(head), int(size)
    if headers > whole or whole > MAX_MESSAGE:
        raise ProtocolError("nats: malformed MSG")
    return subject, int(sid), reply, headers, whole


def _info(text: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError("nats: malformed INFO") from error
