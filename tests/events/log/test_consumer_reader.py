"""Following the log by a consumer: every commit once and in order, on any copy of the log."""

import asyncio

import pytest

from events.aggregates.aggregate_names import family
from events.bus.connection import Connection
from events.log import consumer_reader
from events.log.consumer_reader import read
from events.log.log import Log


@pytest.fixture
async def connection(connection: Connection) -> Connection:
    """A connection to a broker whose log has six commits."""
    await _append(connection, range(6))
    return connection


async def _append(connection: Connection, numbers: range) -> None:
    log = Log(connection)
    await log.start()
    for number in numbers:
        aggregate = family("acme", f"family{number}")
        await log.append(aggregate.live, aggregate.filter, b"%d" % number, 0)


async def _until(connection: Connection, last: int, seen: list[int]) -> None:
    async for batch in read(connection):
        seen.extend(commit.seq for commit in batch.messages)
        if seen and seen[-1] >= last:
            return


async def test_a_silent_consumer_is_replaced(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new one begins where the reader is, and later commits are seen once."""
    monkeypatch.setattr(consumer_reader, "SILENT_SECONDS", 0.1)
    monkeypatch.setattr(consumer_reader, "HEARTBEAT_SECONDS", 0.6)
    begun: list[int] = []
    begin = consumer_reader._Reader._begin

    async def counted(self: consumer_reader._Reader) -> int:
        begun.append(self._next)
        return await begin(self)

    monkeypatch.setattr(consumer_reader._Reader, "_begin", counted)
    seen: list[int] = []
    following = asyncio.create_task(_until(connection, 9, seen))
    async with asyncio.timeout(15):
        while begun.count(7) < 2:
            await asyncio.sleep(0.01)
        await _append(connection, range(6, 9))
        await following
    assert seen == list(range(1, 10))


@pytest.mark.parametrize("passing", [True, False])
async def test_a_gap_is_read_again(connection: Connection, monkeypatch: pytest.MonkeyPatch, passing: bool) -> None:
    """A message that a copy lacked for a moment is read; one that is really missing is left out."""
    monkeypatch.setattr(consumer_reader, "REREAD_SECONDS", (0.01, 0.01))
    take = consumer_reader._Reader._received
    attempts = 0

    def lossy(self: consumer_reader._Reader, subject: bytes, reply: bytes, body: bytes, headers: bytes | None) -> None:
        nonlocal attempts
        if body == b"2":
            attempts += 1
            if not passing or attempts == 1:
                return
        take(self, subject, reply, body, headers)

    monkeypatch.setattr(consumer_reader._Reader, "_received", lossy)
    seen: list[int] = []
    async with asyncio.timeout(15):
        await _until(connection, 6, seen)
    assert seen == ([1, 2, 3, 4, 5, 6] if passing else [1, 2, 4, 5, 6])
    assert attempts == (2 if passing else 3)
