"""Closing the log's book: once, whoever does it and however often they crash, when all replicas know (ADR 43)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from events.aggregates.aggregate_names import BOOK, family
from events.aggregates.book import BookClosing, BookEvent, BookOpened, BookState
from events.bus.connect import connect
from events.bus.connection import Connection
from events.log import stream
from events.log.books import is_put_away, stream_info
from events.log.closing import close_book
from events.log.direct_reader import read_direct
from events.log.grammar import read_commit
from events.log.jetstream_api import Unavailable, request_json
from events.log.log import Log
from events.log.stored_message import StoredMessage
from events.verification.verifier import Verifier
from service.keys.keyring import Keyring
from service.registry.registry import Registry
from service.replicas import book_keeper
from service.replicas.book_keeper import BookKeeper, BookLimits
from service.replicas.leases import Replicas
from tests.broker import Broker
from tests.projections.logs import LogMaker

ONE_STREAM_MORE = """
accounts { A { jetstream: {max_streams: 2}, users: [{user: a, password: a}] }, SYS {} }
no_auth_user: a
system_account: SYS
"""


class Barrier:
    """Passes at once, and records what it was asked, and whether the book was open then; or is closed."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.passed: list[tuple[int, bool]] = []
        self.shut = False

    async def barrier(self, seq: int, *, of_every_version: bool = False) -> None:
        assert of_every_version
        if self.shut:
            raise Unavailable("a replica does not answer")
        info = await stream_info(self.connection, "TOKENS")
        self.passed.append((seq, info is not None and not is_put_away(info["config"])))


class World:
    """A log with one family, and closers with connections of their own."""

    def __init__(self, url: str, connection: Connection, log: Log) -> None:
        self.url, self.connection, self.log = url, connection, log
        self.barrier = Barrier(connection)
        self.others: list[Connection] = []

    async def keeper(self, limits: BookLimits = BookLimits()) -> BookKeeper:  # noqa: B008  # a value
        """One more replica's."""
        connection = await connect(self.url, "test", echo=False)
        self.others.append(connection)
        log = Log(connection)
        await log.start()
        return BookKeeper(connection, log, cast("Replicas", self.barrier), limits)

    async def book_events(self) -> list[BookEvent]:
        """What the log says about its books."""
        return [event for stored in await self.stored() if stored.subject == BOOK for event in _events(stored)]

    async def stored(self) -> list[StoredMessage]:
        """The whole log, verified."""
        until = await stream.last_sequence(self.connection)
        found = [each async for batch in read_direct(self.connection, until=until) for each in batch.messages]
        verifier = Verifier()
        for each in found:
            verifier.check(each)
        assert verifier.report().fault is None and verifier.report().foreign_count == 0
        return found


def _events(stored: StoredMessage) -> tuple[BookEvent, ...]:
    return cast("Any", read_commit(stored)).events  # type: ignore[no-any-return]  # of a book


@pytest.fixture
async def world(nats_server: Broker, connection: Connection, log: Log) -> AsyncIterator[World]:
    """A log with a commit."""
    made = LogMaker()
    made.open("f")
    of_family = family("acme", "f")
    await log.append(of_family.live, of_family.filter, made.log[0].body, 0)
    world = World(nats_server.url, connection, log)
    yield world
    for other in world.others:
        await other.close()


CLOSED_ONCE: list[BookEvent] = [BookClosing(1), BookOpened(2, 3)]


async def test_a_book_is_closed_behind_the_barrier(world: World) -> None:
    """The order is in the closed book, and the next book's first commit says that it is open."""
    keeper = await world.keeper()
    assert await keeper.close() == BookState(2, 3)
    assert world.barrier.passed == [(2, True)]
    assert await world.book_events() == CLOSED_ONCE
    assert await keeper.go_on() == BookState(2, 3) and await keeper.close() == BookState(3, 5)
    assert await world.book_events() == [*CLOSED_ONCE, BookClosing(2), BookOpened(3, 5)]


async def test_of_many_closers_one_closes(world: World) -> None:
    """The others do the same steps, which are done already, or are refused."""
    keepers = [await world.keeper() for _ in range(5)]
    results = await asyncio.gather(*(keeper.close() for keeper in keepers), return_exceptions=True)
    assert BookState(2, 3) in results
    assert {type(result) for result in results} <= {BookState, Unavailable}
    assert await world.book_events() == CLOSED_ONCE


async def test_nothing_is_taken_away_before_the_barrier(world: World) -> None:
    """The order stands, appends go on, and somebody completes it once the barrier can be passed."""
    keeper = await world.keeper()
    world.barrier.shut = True
    with pytest.raises(Unavailable, match="does not answer"):
        await keeper.close()
    another = family("acme", "g")
    assert await world.log.append(another.live, another.filter, b"", 0) == 3
    world.barrier.shut = False
    assert await (await world.keeper()).go_on() == BookState(2, 4)


@pytest.mark.parametrize("after", ["the order", "the barrier", "the next book"])
async def test_whoever_comes_next_goes_on_after_a_crash(
    world: World, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    """Only the barrier is passed again, and only as long as the book takes commits."""
    keeper = await world.keeper()
    crashed = asyncio.Event()

    async def crash(*arguments: Any, **_: Any) -> None:
        if after == "the next book":
            await close_book(*arguments)
        crashed.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        if after == "the order":
            patch.setattr(world.barrier, "barrier", crash)
        patch.setattr(book_keeper, "close_book", crash)
        closing = asyncio.create_task(keeper.close())
        await crashed.wait()
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
    assert await (await world.keeper()).go_on() == BookState(2, 3)
    assert await world.book_events() == CLOSED_ONCE
    assert len(world.barrier.passed) == {"the order": 1, "the barrier": 2, "the next book": 1}[after]


async def test_a_large_book_is_closed_and_a_forgotten_closing_completed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each replica looks now and then."""
    monkeypatch.setattr(book_keeper, "CHECK_SECONDS", 0.01)
    monkeypatch.setattr(book_keeper, "TAKE_OVER_SECONDS", 0)
    assert not await (await world.keeper()).is_due()
    assert await (await world.keeper(BookLimits(subjects=1))).is_due()
    assert await (await world.keeper(BookLimits(bytes=100))).is_due()
    keeper = await world.keeper(BookLimits(subjects=1))
    world.barrier.shut = True
    watching = asyncio.create_task(keeper.watch())
    async with asyncio.timeout(20):
        while not await world.book_events():
            await asyncio.sleep(0.02)
        world.barrier.shut = False
        keeper._log.announced = BookState(closing=True)  # as the registry would
        while await world.book_events() != CLOSED_ONCE:
            await asyncio.sleep(0.02)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_a_stream_in_the_way_is_named(world: World) -> None:
    """The order stands, and the open book takes commits."""
    strange = {"name": "TOKENS_2", "subjects": ["elsewhere"]}
    await request_json(world.connection, "STREAM.CREATE.TOKENS_2", strange)
    with pytest.raises(Unavailable, match=r"stream TOKENS_2 .*the book before it is open"):
        await (await world.keeper()).close()


async def test_a_registry_announces_each_book_in_its_turn(world: World) -> None:
    """What it has applied by then, persons too, is all that the books before hold."""
    registry = Registry(world.log, Keyring({1: bytes(32)}))
    failures: list[BaseException] = []
    following = asyncio.create_task(registry.follow(world.connection, failures.append))
    try:
        async with asyncio.timeout(20):
            await registry.ready.wait()
            keeper = await world.keeper()
            for number in (2, 3):
                opened = await keeper.close()
                await registry.wait_until_applied(opened.first)
                assert world.log.announced == opened and opened.number == number
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    assert failures == []


async def test_what_cannot_be_completed_is_not_begun(tmp_path: Path) -> None:
    """No room for one more stream: a sealed book without a next one would be the end of all appends."""
    broker = Broker(tmp_path / "broker")
    broker.configure(ONE_STREAM_MORE)
    broker.start()
    try:
        connection = await connect(broker.url, "test", echo=False)
        await stream.ensure(connection, stream.Required())
        log = Log(connection)
        await log.start()
        keeper = BookKeeper(connection, log, cast("Replicas", Barrier(connection)), BookLimits())
        with pytest.raises(Unavailable, match="may have no more streams"):
            await keeper.close()
        assert await log.last_sequence() == 0
        info = await stream_info(connection, "TOKENS")
        assert info is not None and not is_put_away(info["config"])
        await connection.close()
    finally:
        broker.stop()


async def test_a_stranger_in_the_place_of_the_next_book_prevents_the_order(world: World) -> None:
    """Nothing is written that cannot be carried out."""
    await request_json(
        world.connection, "STREAM.CREATE.TOKENS_2", {"name": "TOKENS_2", "subjects": ["made.by.another"]}
    )
    before = await world.log.last_sequence()
    with pytest.raises(Unavailable, match="TOKENS_2"):
        await (await world.keeper()).close()
    assert await world.log.last_sequence() == before
