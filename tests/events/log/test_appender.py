"""Appending: exactly one of any racing writers wins, singly or in a batch, and lost answers are resolved."""

import asyncio
import itertools

import pytest
from nats.errors import MaxPayloadError

from events.aggregates.aggregate_names import Aggregate, family, subject
from events.bus.connect import connect
from events.bus.connection import Connection
from events.log import stream
from events.log.appender import HEADERS_BYTES, Append, Appender, Conflict, Found, TooLarge
from events.log.consumer_reader import read
from events.log.jetstream_api import Unavailable
from events.log.log import Log
from tests.broker import Broker

_numbers = itertools.count()


def fresh() -> Aggregate:
    return family("acme", f"family{next(_numbers)}")


async def append(log: Log, aggregate: Aggregate, body: bytes, expected: int) -> int:
    return await log.append(aggregate.live, aggregate.filter, body, expected)


async def append_once_it_is_back(log: Log, aggregate: Aggregate, body: bytes, expected: int) -> int:
    """Append as soon as the broker is available."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await append(log, aggregate, body, expected)
            except Unavailable:
                await asyncio.sleep(0.05)


async def test_only_one_of_many_writers_wins(log: Log) -> None:
    """Sixteen appends with one expectation: one succeeds, fifteen conflict, on both subjects of the aggregate."""
    aggregate = fresh()
    first = await append(log, aggregate, b"0", 0)
    results = await asyncio.gather(
        *(
            log.append((aggregate.live, aggregate.revoked)[n % 2], aggregate.filter, b"%d" % n, first)
            for n in range(1, 17)
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(result, int) for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 15


@pytest.mark.parametrize("batched", [False, True])
async def test_a_conflict_among_many_affects_no_other_append(
    log: Log, connection: Connection, monkeypatch: pytest.MonkeyPatch, batched: bool
) -> None:
    """Of two hundred families every tenth has a stale expectation: exactly those conflict."""
    monkeypatch.setattr(log.appender._batch_choice, "together", batched)
    monkeypatch.setattr("events.log.batch_choice.BatchChoice.acknowledged", lambda *_: None)
    batches = 0
    send_batch = Appender._send_batch

    async def counted(self: Appender, batch: list[Append]) -> None:
        nonlocal batches
        batches += 1
        await send_batch(self, batch)

    monkeypatch.setattr(Appender, "_send_batch", counted)
    aggregates = [fresh() for _ in range(200)]
    for aggregate in aggregates[::10]:
        await append(log, aggregate, b"there already", 0)
    results = await asyncio.gather(
        *(append(log, aggregate, aggregate.live.encode(), 0) for aggregate in aggregates), return_exceptions=True
    )
    assert [isinstance(result, Conflict) for result in results] == [n % 10 == 0 for n in range(200)]
    assert (batches > 0) == batched
    stored = {}
    async for batch in read(connection, until=await stream.last_sequence(connection)):
        stored.update({commit.seq: commit for commit in batch.messages})
    for aggregate, result in zip(aggregates, results, strict=True):
        if isinstance(result, int):
            assert stored[result].body == aggregate.live.encode()
    assert len(stored) == 200


async def test_a_lost_acknowledgement_is_resolved(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """The leader has the commit, and its sequence is the result."""
    monkeypatch.setattr("events.log.appender.ATTEMPT_SECONDS", 0.05)

    log.appender._inbox = log.appender._inbox + "x"
    aggregate = fresh()
    assert await append(log, aggregate, b"mine", 0) == 1
    with pytest.raises(Conflict):
        await append(log, aggregate, b"another's", 0)


async def test_a_missing_broker_is_unavailable_within_two_seconds(nats_server: Broker, log: Log) -> None:
    """Once it is back, the same append succeeds, once."""
    aggregate = fresh()
    first = await append(log, aggregate, b"before", 0)
    nats_server.kill()
    with pytest.raises(Unavailable):
        async with asyncio.timeout(2):
            await append(log, aggregate, b"meanwhile", first)
    nats_server.start()
    second = await append_once_it_is_back(log, aggregate, b"after", first)
    last = await log.newest(aggregate.filter)
    assert last is not None and (last.seq, last.body) == (second, b"after")


async def test_reading_continues_after_a_crash_of_the_broker(nats_server: Broker, log: Log) -> None:
    """A following reader sees every commit once and in order."""
    connection = await connect(nats_server.url, "reader")
    seen: list[int] = []

    async def follow() -> None:
        async for batch in read(connection):
            seen.extend(commit.seq for commit in batch.messages)
            if len(seen) >= 40:
                return

    following = asyncio.create_task(follow())
    for number in range(40):
        if number == 20:
            nats_server.kill()
            nats_server.start()
        await append_once_it_is_back(log, fresh(), b"%d" % number, 0)
    async with asyncio.timeout(15):
        await following
    await connection.close()
    assert seen == list(range(1, 41))


async def test_a_weaker_stream_is_refused_with_its_differences(connection: Connection) -> None:
    """A second start on a correct stream changes nothing."""
    await stream.ensure(connection, stream.Required())
    with pytest.raises(stream.WeakStream, match="num_replicas is 1, must be at least 3"):
        await stream.ensure(connection, stream.Required(copies=3))


@pytest.mark.parametrize("batched", [False, True])
async def test_a_guard_replaces_the_expectation(log: Log, monkeypatch: pytest.MonkeyPatch, batched: bool) -> None:
    """New aggregates that expect the newest commit of another one succeed; those with an older view conflict."""
    monkeypatch.setattr(log.appender._batch_choice, "together", batched)
    monkeypatch.setattr("events.log.batch_choice.BatchChoice.acknowledged", lambda *_: None)
    person = subject("acme", "alice")
    first = await append(log, person, b"blocked", 0)
    results = await asyncio.gather(
        *(
            log.append(new.live, new.filter, new.live.encode(), 0, guard=(person.filter, 0 if n % 5 == 0 else first))
            for n, new in enumerate(fresh() for _ in range(50))
        ),
        return_exceptions=True,
    )
    assert [isinstance(result, Conflict) for result in results] == [n % 5 == 0 for n in range(50)]


async def test_a_guarded_append_is_never_sent_twice(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an answer the leader is asked; a commit that it lacks is not sent again."""
    monkeypatch.setattr("events.log.appender.ATTEMPT_SECONDS", 0.05)
    log.appender._inbox = log.appender._inbox + "x"
    new, person = fresh(), subject("acme", "alice")
    assert await log.append(new.live, new.filter, b"mine", 0, guard=(person.filter, 0)) == 1

    async def nothing_yet(*_: object) -> Found:
        return Found()

    monkeypatch.setattr(log.appender, "_find_next", nothing_yet)
    new = fresh()
    with pytest.raises(Unavailable):
        await log.append(new.live, new.filter, b"mine", 0, guard=(person.filter, 0))
    last = await log.newest(new.filter)
    assert last is not None and await log.next_after(new, last.seq) is None


async def test_a_commit_too_large_affects_no_other_append(log: Log, connection: Connection) -> None:
    """Nor the connection, which the broker would otherwise close for good."""
    limit = connection.max_payload
    for size in (limit - HEADERS_BYTES + 1, limit - 1, limit + 1):
        aggregates = [fresh() for _ in range(8)]
        beside = [append(log, aggregate, b"small", 0) for aggregate in aggregates]
        too_large, *appended = await asyncio.gather(
            append(log, fresh(), bytes(size), 0), *beside, return_exceptions=True
        )
        assert isinstance(too_large, TooLarge) and all(isinstance(seq, int) for seq in appended)
    assert await append(log, fresh(), bytes(limit - HEADERS_BYTES), 0)
    with pytest.raises(MaxPayloadError):
        await connection.publish("elsewhere", bytes(limit - 10), headers={"A": "b"})
    assert connection.is_connected
