"""The broker's protocol byte by byte, without a library: exactly what is sent and received."""

import asyncio
import contextlib
import json
from typing import NamedTuple
from urllib.parse import urlsplit

PATIENCE_SECONDS = 10


class Received(NamedTuple):
    """A message, split by the lengths in its line."""

    subject: bytes
    sid: int
    reply: bytes
    headers: bytes
    body: bytes


def pub(subject: bytes, reply: bytes, body: bytes) -> bytes:
    """The bytes of a PUB."""
    return b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, len(body), body)


def hpub(subject: bytes, reply: bytes, headers: bytes, body: bytes) -> bytes:
    """The bytes of an HPUB; `headers` are complete, with their first line and the empty last one."""
    return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (subject, reply, len(headers), len(headers) + len(body), headers, body)


class Socket:
    """A connection after the broker's greeting. `sent` holds all bytes received since."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.sent = bytearray()

    async def send(self, data: bytes) -> bool:
        """Send these bytes; returns whether the broker keeps the connection, which is closed otherwise."""
        self._writer.write(data + b"PING\r\n")
        try:
            await self._until(b"PONG\r\n", len(self.sent))
        except (asyncio.IncompleteReadError, ConnectionError):
            await self.close()
            return False
        return True

    async def received_until(self, last: bytes) -> list[Received]:
        """The messages up to the first one whose body ends with `last`."""
        await self._until(last + b"\r\n", 0)
        return messages(bytes(self.sent))

    async def _until(self, end: bytes, begin: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.sent.find(end, begin) < 0:
                data = await self._reader.read(1 << 16)
                if not data:
                    raise asyncio.IncompleteReadError(b"", None)
                self.sent += data

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


async def connected(url: str) -> Socket:
    """A connection to the broker at `url`, with the credentials in it."""
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    await reader.readline()
    options = {"verbose": False, "pedantic": False, "headers": True, "user": where.username, "pass": where.password}
    writer.write(b"CONNECT " + json.dumps(options).encode() + b"\r\n")
    socket = Socket(reader, writer)
    if not await socket.send(b""):
        raise ConnectionError(bytes(socket.sent))
    socket.sent.clear()
    return socket


def messages(stream: bytes) -> list[Received]:
    """The complete messages in the broker's bytes. Only spaces and tabs separate fields."""
    found, begin = [], 0
    while (end := stream.find(b"\r\n", begin)) >= 0:
        words = [word for word in stream[begin:end].replace(b"\t", b" ").split(b" ") if word]
        begin = end + 2
        if words[0] not in (b"MSG", b"HMSG"):
            continue
        sizes = [int(word) for word in words[-2 if words[0] == b"HMSG" else -1 :]]
        head, stop = begin + (sizes[0] if len(sizes) == 2 else 0), begin + sizes[-1]
        if stop + 2 > len(stream):
            break
        reply = words[3] if len(words) == 4 + len(sizes) else b""
        found.append(Received(words[1], int(words[2]), reply, stream[begin:head], stream[head:stop]))
        begin = stop + 2
    return found
