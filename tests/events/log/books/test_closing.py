"""Books on a real broker: how one closes, and what reads and appends go across books."""

import asyncio
from contextlib import aclosing

import pytest

from events.aggregates.aggregate_names import CHECKPOINT, EVERYTHING, Aggregate, family, subject
from events.bus.connection import Connection
from events.log import closing, stream
from events.log.appender import Conflict
from events.log.books import FIRST, Book, Books, books_of
from events.log.closing import close_book
from events.log.consumer_reader import read
from events.log.direct_reader import message_at, read_direct
from events.log.jetstream_api import JetStreamMissing, request_json
from events.log.log import Log
from events.log.stream import WeakStream
from tests.projections.logs import LogMaker


async def append(log: Log, aggregate: Aggregate, body: bytes, expected: int, stream: str | None = None) -> int:
    return await log.append(aggregate.live, aggregate.filter, body, expected, stream=stream)


async def closed(connection: Connection, *, times: int = 1, commits: int = 3) -> Books:
    """A log whose book was closed so often; some commits of families are in each."""
    log = Log(connection)
    await log.start()
    books = books_of(connection)
    for number in range(times + 1):
        await books.look()
        for family_number in range(commits):
            new = family("acme", f"b{number}n{family_number}")
            await append(log, new, b"%d" % family_number, 0, books.newest.stream)
        if number < times:
            await close_book(connection, books.newest)
    return books


async def test_a_closed_book_is_sealed_and_the_next_one_goes_on_with_its_sequences(connection: Connection) -> None:
    """The books are found again by any connection; their streams are as the code has them."""
    books = await closed(connection, times=2)
    expected = [Book(1, "TOKENS", 1, 3), Book(2, "TOKENS_2", 4, 6), Book(3, "TOKENS_3", 7)]
    assert books.in_order() == expected and await stream.last_sequence(connection) == 9
    again = Books(connection)
    await again.look()
    assert again.in_order() == expected
    first = await connection.jetstream().stream_info("TOKENS")
    assert (first.config.subjects, first.config.sealed) == (["heirloom.book.1"], True)
    await stream.ensure(connection, stream.Required())
    assert await stream.size(connection) == (9, 3, (await stream.size(connection)).bytes)


async def test_many_look_at_once(connection: Connection) -> None:
    """Each book is found once: one that is found twice would pass for closed, and what it holds for unchanging."""
    expected = (await closed(connection, times=2)).in_order()
    books = Books(connection)
    await asyncio.gather(*(books.look() for _ in range(8)))
    assert books.in_order() == expected


async def test_a_book_that_is_gone_is_missed(connection: Connection) -> None:
    """The newest one, by whoever knew it; one in the middle, by everybody. No older state is taken for the newest."""
    books = await closed(connection, times=2)
    manager = connection.jetstream()
    await manager.delete_stream("TOKENS_2")
    with pytest.raises(JetStreamMissing, match="TOKENS_2"):
        await Books(connection).look()
    await manager.delete_stream("TOKENS_3")
    with pytest.raises(JetStreamMissing, match="TOKENS_3"):
        await books.look()


async def test_reading_goes_across_books(connection: Connection) -> None:
    """Direct gets and consumers give every message once, in order, from any place to any other."""
    await closed(connection, times=2)
    for start, until in ((1, 9), (2, 5), (4, 6), (3, 4), (9, 9), (1, 3), (5, 100)):
        wanted = list(range(start, min(until, 9) + 1))
        assert [
            stored.seq async for each in read_direct(connection, start, until=until) for stored in each.messages
        ] == (wanted)
        one = read_direct(connection, start, filter="tokens.acme.family.*.live", until=until)
        assert [stored.seq async for each in one for stored in each.messages] == wanted
        assert [stored.seq async for each in read(connection, start, until=until) for stored in each.messages] == wanted
    for seq in range(1, 10):
        found = await message_at(connection, seq)
        assert found is not None and found.seq == seq
    assert await message_at(connection, 10) is None


@pytest.mark.parametrize("direct", [True, False])
async def test_a_reader_without_an_end_goes_on_in_the_next_book(connection: Connection, direct: bool) -> None:
    """It was at the end of a book when that was closed."""
    log = Log(connection)
    await log.start()
    seen: asyncio.Queue[int] = asyncio.Queue()

    async def follow() -> None:
        batches = read_direct(connection) if direct else read(connection, filters=("tokens.*.family.*.*",))
        async with aclosing(batches):
            async for batch in batches:
                for stored in batch.messages:
                    seen.put_nowait(stored.seq)

    following = asyncio.create_task(follow())
    for number in range(1, 4):
        book = Books(connection)
        await book.look()
        assert await append(log, family("acme", f"f{number}"), b"", 0, book.newest.stream) == number
        async with asyncio.timeout(15):
            assert await seen.get() == number
        await close_book(connection, book.newest)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_a_head_is_carried_over_by_the_first_append(connection: Connection) -> None:
    """It is read from the closed book; the append expects 0 in the new one, and then the new one's sequence."""
    made = LogMaker()
    made.open("f")
    made.rotate("f")
    made.rotate("f")
    of_family = family("acme", "f")
    log = Log(connection)
    await log.start()
    assert await append(log, of_family, made.log[0].body, 0) == 1
    assert await append(log, of_family, made.log[1].body, 1) == 2
    await close_book(connection, FIRST)
    for leader in (True, False):
        head = await log.head(of_family, leader=leader)
        assert head.stored is not None and head.stored.seq == 2 and head.commit is not None
    assert (head.expected, head.stream) == (0, "TOKENS_2")
    with pytest.raises(Conflict):
        await append(log, of_family, b"stale", 2)  # the sequence is one of the closed book
    with pytest.raises(Conflict):
        await append(log, of_family, b"stale", 0)  # nothing was there when its book was TOKENS
    assert await append(log, of_family, made.log[2].body, head.expected, head.stream) == 3
    with pytest.raises(Conflict):
        await append(log, of_family, b"carried twice", head.expected, head.stream)
    head = await log.head(of_family)
    assert (head.stored and head.stored.seq, head.expected, head.stream) == (3, 3, "TOKENS_2")
    assert [found and found.seq for found in [await log.at(seq) for seq in (1, 2, 3, 4)]] == [1, 2, 3, None]
    found = await log.next_after(of_family, 1)
    assert found is not None and found.seq == 2
    found = await log.next_after(of_family, 2)
    assert found is not None and found.seq == 3
    assert await log.expected_of(of_family.filter) == (3, "TOKENS_2")
    assert await log.expected_of("tokens.acme.key.*") == (0, "TOKENS_2")


async def test_a_person_blocked_in_a_closed_book_refuses_a_family(connection: Connection) -> None:
    """The guard of a family that begins names the book in which nothing was said about the person."""
    log = Log(connection)
    await log.start()
    person, new = subject("acme", "alice"), family("acme", "f")
    await append(log, person, b"blocked", 0)
    await close_book(connection, FIRST)
    with pytest.raises(Conflict):
        await log.append(new.live, new.filter, b"", 0, guard=(person.filter, 0), stream="TOKENS")
    assert await log.append(new.live, new.filter, b"", 0, guard=(person.filter, 0), stream="TOKENS_2") == 2


async def test_batches_name_their_book_too(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those for the closed book conflict, the others are stored."""
    log = Log(connection)
    await log.start()
    await append(log, family("acme", "before"), b"", 0)
    await close_book(connection, FIRST)
    monkeypatch.setattr(log.appender._batch_choice, "together", True)
    monkeypatch.setattr("events.log.batch_choice.BatchChoice.acknowledged", lambda *_: None)
    results = await asyncio.gather(
        *(
            append(log, family("acme", f"f{number}"), b"%d" % number, 0, ("TOKENS", "TOKENS_2")[number % 2])
            for number in range(20)
        ),
        return_exceptions=True,
    )
    assert [isinstance(result, Conflict) for result in results] == [number % 2 == 0 for number in range(20)]
    assert await stream.last_sequence(connection) == 11


async def test_an_acknowledgement_lost_across_a_closing_is_found(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked for in the book that the commit was sent to; one that is not there was not stored."""
    monkeypatch.setattr("events.log.appender.ATTEMPT_SECONDS", 0.2)
    log, other = Log(connection), Log(connection)
    await log.start()
    await other.start()
    first, second = family("acme", "f"), family("acme", "g")
    assert await append(other, first, b"first", 0) == 1
    log.appender._inbox = log.appender._inbox + "x"  # it hears of nothing
    under_way = asyncio.create_task(append(log, first, b"second", 1))
    while await stream.last_sequence(connection) < 2:
        await asyncio.sleep(0.01)
    await close_book(connection, FIRST)
    assert await append(other, second, b"another", 0, "TOKENS_2") == 3
    assert await under_way == 2
    with pytest.raises(Conflict):
        await append(log, first, b"third", 2)


@pytest.mark.parametrize("step", ["_fence", "_change", "_every_copy_has", "request_json"])
async def test_a_closing_goes_on_after_a_crash_at_any_step(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whoever comes next does what is not done yet; nothing is done twice."""
    log = Log(connection)
    await log.start()
    await append(log, family("acme", "f"), b"", 0)
    for number in range(1, 8):  # the crash is after the call of that number
        book = books_of(connection)
        await book.look()
        crash = Crash(getattr(closing, step), number)
        with monkeypatch.context() as patch:
            patch.setattr(closing, step, crash)
            try:
                await close_book(connection, book.newest)
            except Crashed:
                made = await close_book(connection, book.newest)
                assert made.first == await stream.last_sequence(connection) + 1
            else:
                break
        books = books_of(connection)
        await books.look()
        await append(log, family("acme", f"f{number}"), b"", 0, books.newest.stream)
    assert crash.calls < number and number > 1
    read_again = [stored.seq async for each in read_direct(connection, until=100) for stored in each.messages]
    assert read_again == list(range(1, number + 1))
    await stream.ensure(connection, stream.Required())


class Crashed(Exception):
    """The closer ended."""


class Crash:
    """Calls through, and raises `Crashed` after the call of that number."""

    def __init__(self, real: object, number: int) -> None:
        self.real, self.number, self.calls = real, number, 0

    async def __call__(self, *arguments: object, **named: object) -> object:
        answer = await self.real(*arguments, **named)  # type: ignore[operator]  # whatever it is
        self.calls += 1
        if self.calls == self.number:
            raise Crashed
        return answer


async def test_nothing_is_lost_while_books_close_under_load(connection: Connection) -> None:
    """Writers append as fast as they can; every acknowledged commit is there once, and no sequence twice."""
    log = Log(connection)
    await log.start()
    stop = asyncio.Event()
    acknowledged: dict[int, bytes] = {}

    async def write(writer: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            new = family("acme", f"w{writer}n{number}")
            body = new.name.encode()
            try:
                seq = await append(log, new, body, 0, log.books.newest.stream)
            except Conflict:
                await log.look()
                continue
            assert seq not in acknowledged
            acknowledged[seq] = body

    writers = [asyncio.create_task(write(number)) for number in range(16)]
    for _ in range(5):
        before = len(acknowledged)
        while len(acknowledged) < before + 200:
            await asyncio.sleep(0.01)
        await log.look()
        await close_book(connection, log.books.newest)
    stop.set()
    await asyncio.gather(*writers)
    last = await stream.last_sequence(connection)
    stored = {each.seq: each.body async for batch in read_direct(connection, until=last) for each in batch.messages}
    assert list(stored) == list(range(1, last + 1))
    assert acknowledged.items() <= stored.items()


async def test_a_log_with_a_bad_book_is_refused(connection: Connection) -> None:
    """A book that somebody sealed, that is missing, or that begins elsewhere."""
    await closed(connection, times=2)
    config = (await request_json(connection, "STREAM.INFO.TOKENS_3", {}))["config"]
    sealed = await request_json(connection, "STREAM.UPDATE.TOKENS_3", config | {"sealed": True})
    assert "error" not in sealed
    with pytest.raises(WeakStream, match=r"stream TOKENS_3 .*: sealed is set"):
        await stream.ensure(connection, stream.Required())
    with pytest.raises(WeakStream, match="sealed is set"):
        await close_book(connection, books_of(connection).newest)
    await request_json(connection, "STREAM.DELETE.TOKENS_2", {})
    with pytest.raises(WeakStream, match=r"TOKENS_2 .*: it is missing, and TOKENS_3 is there"):
        await stream.ensure(connection, stream.Required())
    await request_json(connection, "STREAM.DELETE.TOKENS_3", {})
    begins = stream.configuration(stream.Required(), "TOKENS_2", 6)
    assert "error" not in await request_json(connection, "STREAM.CREATE.TOKENS_2", begins)
    with pytest.raises(WeakStream, match=r"TOKENS_2 .*: first_seq is 6, must be 4"):
        await stream.ensure(connection, stream.Required())


async def test_a_book_that_lacks_messages_is_refused(connection: Connection) -> None:
    """The broker counts what was removed by other means than the log's."""
    await request_json(connection, "STREAM.DELETE.TOKENS", {})
    loose = stream.configuration(stream.Required()) | {"deny_delete": False}
    await request_json(connection, "STREAM.CREATE.TOKENS", loose)
    jetstream = connection.jetstream()
    for number in range(3):
        await jetstream.publish(f"tokens.acme.family.f{number}.live", b"")
    await jetstream.delete_msg("TOKENS", 2)
    await request_json(connection, "STREAM.UPDATE.TOKENS", loose | {"deny_delete": True})
    await close_book(connection, FIRST)
    with pytest.raises(WeakStream, match=r"stream TOKENS .*it lacks 1 of its messages"):
        await stream.ensure(connection, stream.Required())


async def test_no_book_is_closed_onto_a_stream_of_that_name(connection: Connection) -> None:
    """The open book goes on."""
    strange = {"name": "TOKENS_2", "subjects": ["elsewhere"]}
    await request_json(connection, "STREAM.CREATE.TOKENS_2", strange)
    with pytest.raises(WeakStream, match="the book before it is open"):
        await close_book(connection, FIRST)
    await connection.jetstream().publish("tokens.acme.family.f.live", b"")


def test_the_subjects_of_the_log_are_those_of_the_open_book() -> None:
    """No other stream has them."""
    wanted = stream.configuration(stream.Required(), "TOKENS_7", 100)
    assert (wanted["subjects"], wanted["first_seq"], wanted["republish"]) == ([EVERYTHING], 100, stream.FEED)
    assert stream.configuration(stream.Required(), "CHECKPOINTS")["subjects"] == [CHECKPOINT]
