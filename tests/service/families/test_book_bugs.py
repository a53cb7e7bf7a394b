"""Each rule of the books is needed: five seeded bugs, each caught by the order of events that it breaks (ADR 43)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from events.aggregates import aggregate_names
from events.aggregates import subject as person
from events.aggregates.aggregate_names import family
from events.aggregates.family_events import FamilyRevoked
from events.bus.connect import connect
from events.bus.connection import Connection
from events.log import stream
from events.log.appender import Conflict
from events.log.books import FIRST, Books
from events.log.closing import close_book
from events.log.direct_reader import read_direct
from events.log.log import Log
from events.verification.verifier import Verifier
from service.decide.decision import Decision, Done, Granted
from service.decide.issue import issue
from service.decide.refresh_token import redeem
from service.families.cache import LoadedFamily
from service.families.families import Families
from service.registry.blocked_subjects import BlockedSubjects
from service.registry.change_aggregate import change
from tests.broker import Broker
from tests.faults.seeded_bugs import book_bugs
from tests.service.decide.given import issuing, redeeming


class World:
    """Two replicas without leases, which do not hear of each other."""

    def __init__(self, one: Connection, other: Connection) -> None:
        self.connections = one, other
        self.logs = Log(one), Log(other)
        self.one, self.other = (Families(log, BlockedSubjects(log)) for log in self.logs)

    async def close(self) -> None:
        """Close the open book."""
        books = Books(self.connections[1])
        await books.look()
        await close_book(self.connections[1], books.newest)

    async def is_whole(self) -> bool:
        """Whether the log has each sequence once, and each commit follows from the one before it."""
        books, verifier = Books(self.connections[0]), Verifier()
        await books.look()
        try:
            await stream.ensure(self.connections[0], stream.Required())
        except stream.WeakStream:
            return False
        until = await stream.last_sequence(self.connections[0])
        async for batch in read_direct(self.connections[0], until=until):
            for stored in batch.messages:
                verifier.check(stored)
        return verifier.report().fault is None


def begun(loaded: LoadedFamily, now: Any, _id: str) -> Decision:
    """A family begins."""
    return issue(loaded.state, issuing()._replace(now=now))


def presented(loaded: LoadedFamily, now: Any, _id: str) -> Decision:
    """Its first refresh token is presented."""
    return redeem(loaded.state, redeeming(0)._replace(now=now))


def ended(*_: object) -> Decision:
    """It ends."""
    return Decision(Done(), (FamilyRevoked("operator", ""),))


async def a_cached_family_ended_elsewhere(world: World) -> bool:
    """One replica has the family cached, the other ends it, and the book closes: no refresh succeeds."""
    await world.one.decide("acme", "f", "client:web", begun, new=True)
    await world.other.decide("acme", "f", "client:web", ended)
    await world.close()
    await world.logs[0].look()
    refreshed = await world.one.decide("acme", "f", "client:web", presented)
    return not isinstance(refreshed.outcome, Granted) and await world.is_whole()


async def a_family_ended_while_a_replica_slept(world: World) -> bool:
    """It ends in the next book: the replica that has not heard of that one sees it."""
    await world.one.decide("acme", "f", "client:web", begun, new=True)
    await world.close()
    await world.other.decide("acme", "f", "client:web", ended)
    loaded = await world.one.load("acme", "f")
    return loaded.state is not None and loaded.state.revoked is not None


async def a_person_blocked_before_the_closing(world: World) -> bool:
    """No family begins for that person where the block lies in the closed book alone."""
    await change(world.logs[1], aggregate_names.subject("acme", "alice"), lambda _: (person.SubjectBlocked("alice"),))
    await world.close()
    return not isinstance((await world.one.decide("acme", "f", "client:web", begun, new=True)).outcome, Granted)


async def a_book_that_closes(world: World) -> bool:
    """No sequence is in two books."""
    await world.one.decide("acme", "f", "client:web", begun, new=True)
    await world.close()
    await world.one.decide("acme", "g", "client:web", begun, new=True)
    return await world.is_whole()


async def an_acknowledgement_lost_before_the_closing(world: World) -> bool:
    """The commit in the closed book is found: it is not decided twice."""
    log, of_family = world.logs[0], family("acme", "f")
    log.appender._inbox += "x"  # it hears of no acknowledgement
    under_way = asyncio.create_task(log.append(of_family.live, of_family.filter, b"mine", 0))
    while await stream.last_sequence(world.connections[1]) < 1:
        await asyncio.sleep(0.01)
    await close_book(world.connections[1], FIRST)
    try:
        return await under_way == 1
    except Conflict:
        return False


Scenario = Callable[[World], Awaitable[bool]]
CAUGHT_BY: dict[Callable[[], None], Scenario] = {
    book_bugs.carried_twice: a_cached_family_ended_elsewhere,
    book_bugs.closed_book_believed: a_family_ended_while_a_replica_slept,
    book_bugs.guard_forgotten: a_person_blocked_before_the_closing,
    book_bugs.sequence_reused: a_book_that_closes,
    book_bugs.lost_acknowledgement_in_the_open_book: an_acknowledgement_lost_before_the_closing,
}


@pytest.fixture
async def connections(nats_server: Broker, connection: Connection) -> AsyncIterator[tuple[Connection, Connection]]:
    """Two, to an empty log."""
    one, other = [await connect(nats_server.url, "test", echo=False) for _ in range(2)]
    yield one, other
    for each in (one, other):
        await each.close()


async def kept(connections: tuple[Connection, Connection], scenario: Scenario) -> bool:
    """Whether the scenario finds its promise kept."""
    world = World(*connections)
    for log in world.logs:
        await log.start()
    return await scenario(world)


@pytest.mark.parametrize("scenario", CAUGHT_BY.values(), ids=lambda scenario: scenario.__name__)
async def test_the_promises_hold(connections: tuple[Connection, Connection], scenario: Scenario) -> None:
    """The product keeps every one."""
    assert await kept(connections, scenario)


@pytest.mark.parametrize("bug", CAUGHT_BY, ids=lambda bug: bug.__name__)
async def test_a_bug_of_the_books_is_caught(
    connections: tuple[Connection, Connection], bug: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same scenario fails with the bug."""
    monkeypatch.setattr(book_bugs, "put", monkeypatch.setattr)
    bug()
    assert not await kept(connections, CAUGHT_BY[bug])
