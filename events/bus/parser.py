"""Parses the broker's protocol by the broker's own grammar (ADR 0019).

nats-server separates the words of a line by spaces and tabs only, ends a line at LF, and accepts every other byte in a
subject. Python's `bytes.split()` and the white space of nats-py's regular expressions split at VT, FF and CR as well:
with them, a publisher could forge the subscription's number and the reply subject of a message. So this parser handles
every line itself, and no code behind it splits a line again.

It cuts out a message by the lengths in the message's line, and passes it to its handler at once.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec
from nats.errors import ProtocolError
from nats.protocol.parser import Parser as NatsParser

RawHandler = Callable[[bytes, bytes, bytes, bytes | None], None]
"""Receives a message as raw bytes: subject, reply subject, body, and the header block if there is one."""

MAX_LINE = 64 << 10
"""Bytes. A broker's control lines have 4 KiB by default, our own's 16; the longest lists a cluster's servers."""
MAX_MESSAGE = 64 << 20
"""Bytes, headers included: the highest `max_payload` that nats-server accepts."""
MAX_DIGITS = 36
"""Of all numbers in a line together."""


class Receiver(Protocol):
    """The connection behind a parser. A message of a subscription without a raw handler goes to `_process_msg`."""

    raw_handlers: dict[int, RawHandler]
    """By the number of their subscription."""

    def drop_malformed(self, size: int, error: Exception) -> None:
        """Note that a raw handler raised `error` for a message of `size` bytes."""

    def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None
    ) -> Awaitable[None]: ...

    def _process_info(self, info: dict[str, Any]) -> Awaitable[None]: ...

    def _process_err(self, err_msg: str) -> Awaitable[None]: ...

    def _process_ping(self) -> Awaitable[None]: ...

    def _process_pong(self) -> Awaitable[None]: ...


class Parser(NatsParser):
    """Parses the bytes that arrive, wherever they are cut into pieces."""

    nc: Receiver

    def reset(self) -> None:
        """Forget all bytes, for a new connection."""
        super().reset()
        self._held: list[bytes] = []
        self._size = 0
        self._wanted = 0

    async def parse(self, data: bytes = b"") -> None:
        """Dispatch every message that is complete by now.

        Raises `ProtocolError` for a line that no broker sends. Where the next line begins is then unknown, so nats-py
        closes the connection and reconnects.
        """
        if self._held:
            self._held.append(data)
            self._size += len(data)
            if self._size < self._wanted:
                return
            data = b"".join(self._held)
            self._held.clear()
        done = await self._dispatch(data)
        if done < len(data):
            self._held.append(data[done:])
            self._size = len(data) - done

    async def _dispatch(self, data: bytes) -> int:
        """Return how many bytes were consumed. Of the rest, `_wanted` bytes are needed to go on."""
        raw_handlers, begin = self.nc.raw_handlers, 0
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
            handler = raw_handlers.get(sid)
            if handler is None:
                await self.nc._process_msg(sid, subject, reply, data[body:stop], headers)  # noqa: SLF001  # nats-py's name
                continue
            try:
                handler(subject, reply, data[body:stop], headers)
            except Exception as error:  # a message that breaks its handler must not stop the messages after it
                self.nc.drop_malformed(size, error)
        if len(data) - begin > MAX_LINE:
            raise ProtocolError("nats: a line without an end")
        self._wanted = 0
        return begin

    async def _control(self, verb: bytes, rest: bytes) -> None:
        """Process a line that announces no message."""
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
    """Split a line (without its LF) into at least one word. Raises `ProtocolError`."""
    if not line.endswith(b"\r"):
        raise ProtocolError("nats: a line does not end with CR LF")
    words = line[:-1].split(b" ")
    if b"" in words or b"\t" in line:
        words = [word for word in line[:-1].replace(b"\t", b" ").split(b" ") if word]
    if not words:
        raise ProtocolError("nats: an empty line")
    return words


def _announced(words: list[bytes]) -> tuple[bytes, int, bytes, int, int]:
    """Read `MSG subject sid [reply] size` or `HMSG subject sid [reply] headers size`.

    Returns subject, sid, reply (`b""` if there is none), and the sizes in bytes of the headers (0 if there are none)
    and of the whole message. Only digits are numbers; `int` alone would accept signs, underscores and white space.
    Raises `ProtocolError`.
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
