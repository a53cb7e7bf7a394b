"""No reader stops at a foreign message with any headers, or reads them as the broker's."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import pytest

from events.aggregates.aggregate_names import STREAM, family
from events.bus.connection import Connection
from events.log.consumer_reader import Batch, read
from events.log.direct_reader import message_at, read_direct
from events.log.log import Log
from tests.broker import Broker
from tests.events.log.foreign_headers import HEADERS, store
from tests.projections.logs import LogMaker

FAMILY = family("acme", "f")
SUBJECT = FAMILY.live
MADE = LogMaker()
MADE.open("f")
BODY = MADE.log[0].body
END = 3
"""A commit and two foreign messages."""

Found = list[tuple[int, bytes]]


async def _all(batches: AsyncIterator[Batch]) -> Found:
    return [(stored.seq, stored.body) async for batch in batches for stored in batch.messages]


async def _read(connection: Connection) -> Found:
    async with aclosing(read(connection, until=END)) as batches:
        return await _all(batches)


async def _read_direct(connection: Connection) -> Found:
    async with aclosing(read_direct(connection, until=END)) as batches:
        return await _all(batches)


async def _read_in_part(connection: Connection) -> Found:
    async with aclosing(read_direct(connection, filter=FAMILY.filter, until=END)) as batches:
        return await _all(batches)


async def _one_by_one(connection: Connection) -> Found:
    found = [await message_at(connection, seq) for seq in range(1, END + 1)]
    return [(stored.seq, stored.body) for stored in found if stored is not None]


async def _from_the_leader(connection: Connection) -> Found:
    log = Log(connection)
    found = [await log.at(seq) for seq in range(1, END + 1)]
    return [(stored.seq, stored.body) for stored in found if stored is not None]


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize("reading", [_read, _read_direct, _read_in_part, _one_by_one, _from_the_leader])
async def test_every_reader_passes_a_foreign_message(
    nats_server: Broker,
    connection: Connection,
    headers: bytes,
    reading: Callable[[Connection], Awaitable[Found]],
) -> None:
    """It is delivered with its body, in its place."""
    for body, before in ((BODY, b"NATS/1.0\r\n\r\n"), (b"{}", headers), (b"{}", headers)):
        await store(connection, nats_server.url, SUBJECT, before, body)
    assert await reading(connection) == [(1, BODY), (2, b"{}"), (3, b"{}")]


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
async def test_the_head_of_an_aggregate_is_below_a_foreign_message(
    nats_server: Broker, connection: Connection, headers: bytes
) -> None:
    """From any replica and from the leader; the next append expects the foreign message's sequence."""
    log = Log(connection)
    await log.start()
    await log.append(SUBJECT, FAMILY.filter, BODY, 0)
    newest = await store(connection, nats_server.url, SUBJECT, headers)
    for leader in (False, True):
        head = await log.head(FAMILY, leader=leader)
        assert head.stored is not None and (head.stored.seq, head.stored.body) == (1, BODY)
        assert head.expected == newest
    under = await log.newest(f"{STREAM.lower()}.>")
    assert under is not None and (under.seq, under.body) == (newest, b"{}")
