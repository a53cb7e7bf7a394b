"""TCP links that can be disturbed, between every process and its brokers."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from typing import Literal, TypeAlias

Mode: TypeAlias = Literal["open", "drop", "delay", "half-open"]
DELAY_SECONDS = 2.0
CHUNK = 65536


class Link:
    """Forwards between the clients of `host` and the broker at `target`.

    `drop` loses everything both ways, `half-open` what the broker sends, `delay` delivers it two seconds later. Lost
    bytes are not repeated: such connections are reset when the link opens again.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._mode: Mode = "open"
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.host = ""

    async def start(self) -> None:
        """Listen on any free port."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        address, port = self._server.sockets[0].getsockname()
        self.host = f"{address}:{port}"

    async def stop(self) -> None:
        """Close every connection, and accept no more."""
        self._server.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def disturb(self, mode: Mode) -> None:
        """Disturb the link from now on; `open` ends that."""
        lost = self._mode in ("drop", "half-open")
        self._mode = mode
        if lost and mode == "open":
            self.reset()

    def reset(self) -> None:
        """Send RST to both sides of every connection."""
        for writer in self._writers:
            with contextlib.suppress(OSError):
                plug: socket.socket = writer.get_extra_info("socket")
                plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self._target.split(":")
        try:
            from_broker, to_broker = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, to_broker}
        ways = (
            asyncio.create_task(self._carry(reader, to_broker, upstream=True)),
            asyncio.create_task(self._carry(from_broker, writer, upstream=False)),
        )
        self._tasks |= set(ways)
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        self._tasks -= set(ways)
        self._writers -= {writer, to_broker}
        writer.transport.abort()
        to_broker.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, upstream: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                if self._mode == "delay":
                    await asyncio.sleep(DELAY_SECONDS)
                if self._mode == "drop" or (self._mode == "half-open" and not upstream):
                    continue
                writer.write(data)
                await writer.drain()


class Links:
    """One link from each party to each broker."""

    def __init__(self, parties: Iterable[str], brokers: Iterable[str]) -> None:
        targets = list(brokers)
        self.of: dict[str, dict[str, Link]] = {party: {host: Link(host) for host in targets} for party in parties}

    def hosts(self, party: str) -> list[str]:
        """The addresses at which the party reaches the brokers."""
        return [link.host for link in self.of[party].values()]

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Start all links, and stop them at the end."""
        links = [link for brokers in self.of.values() for link in brokers.values()]
        for link in links:
            await link.start()
        try:
            yield
        finally:
            await asyncio.gather(*(link.stop() for link in links))
