"""A feed on a real broker: its stream, a log to be published, what was stored, and what was heard."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from events.bus.connection import Connection
from events.log.direct_reader import read_direct
from events.log.stored_message import StoredMessage
from events.task_cancellation import end
from service.revocations.entries import Entry, Progress, decode
from service.revocations.publisher import Publisher
from service.revocations.stream import STREAM, ensure, read_info, tolerance

TOLERANCE = tolerance(0)
KEPT_SECONDS = 3600
PATIENCE_SECONDS = 60


async def made(connection: Connection, seconds: int = KEPT_SECONDS) -> None:
    """Make the stream."""
    await ensure(connection, 1, seconds)


async def store(connection: Connection, log: Sequence[StoredMessage]) -> None:
    """Append these to the log, as they are."""
    jetstream = connection.jetstream()
    for stored in log:
        await jetstream.publish(stored.subject, stored.body)


async def stored(connection: Connection) -> list[tuple[str, Entry]]:
    """The entries in the stream, with their tenants."""
    last = (await read_info(connection)).state.last_seq
    found: list[tuple[str, Entry]] = []
    async for batch in read_direct(connection, stream=STREAM, until=last):
        for message in batch.messages:
            entry = decode(message.body)
            if not isinstance(entry, Progress):
                assert entry.n == message.seq
                found.append((message.subject.removeprefix("feed.entries."), entry))
    return found


@asynccontextmanager
async def publishing(connection: Connection) -> AsyncIterator[Publisher]:
    """A publisher at work."""
    publisher = Publisher(connection, TOLERANCE)
    working = asyncio.create_task(publisher.run())
    try:
        yield publisher
    finally:
        await end((working,))


async def until_processed(publisher: Publisher, seq: int) -> None:
    """Wait until the publisher has gone so far."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while publisher.processed < seq:
            await asyncio.sleep(0.01)


class Heard:
    """What was heard of one tenant, in order: entries as they are stored, and heartbeats."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, dict[str, Any]]] = []
        self.heartbeats: list[dict[str, Any]] = []

    async def start(self, connection: Connection, tenant: str) -> None:
        """Subscribe as a resource server does."""
        for subject in (f"revocations.{tenant}", f"revocations.{tenant}.>", f"keys.{tenant}"):
            await connection.listen(subject, self._hear)
        await connection.flush()

    def _hear(self, subject: bytes, _reply: bytes, body: bytes, _headers: bytes | None) -> None:
        found = msgspec.json.decode(body)
        if "type" in found:
            self.entries.append((subject.decode(), found))
        else:
            self.heartbeats.append(found)
