"""What the appender sends, and what it makes of each answer: an acknowledgement, an error, silence, a refusal."""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import msgspec
import pytest
from nats.errors import Error as NatsError

from events.bus.connection import Connection
from events.bus.parser import RawHandler
from events.log import appender as module
from events.log.appender import HEADERS_BYTES, WRITE_IN_FLIGHT, WRONG_LAST_SEQUENCE, Appender, Conflict, TooLarge
from events.log.appender import Unavailable as UnavailableLog


class Sent(NamedTuple):
    """What was published."""

    subject: str
    body: bytes
    reply: str
    headers: dict[str, str]


class Broker:
    """Keeps what it is sent, and answers when it is told to. `found` is what the leader gives for `find_next`."""

    max_payload = 10_000

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.found: list[tuple[int, bytes] | None] = []
        self.asked: list[tuple[str, int]] = []
        self.refuses, self.refused = False, 0
        self.take: RawHandler | None = None
        self.pace: list[tuple[int, int]] = []
        self.appender = Appender(cast("Connection", self), self.find_next)
        self.appender._batch_choice.acknowledged = lambda *told: self.pace.append(told)  # type: ignore[method-assign]

    def new_inbox(self) -> str:
        """As `Connection.new_inbox`."""
        return "_INBOX.role.me"

    async def listen(self, subject: str, take: RawHandler) -> None:
        """As `Connection.listen`."""
        assert subject == "_INBOX.role.me.*"
        self.take = take

    async def publish(self, subject: str, body: bytes, reply: str = "", headers: dict[str, str] | None = None) -> None:
        """As `Connection.publish`."""
        if self.refuses:
            self.refused += 1
            raise NatsError
        self.sent.append(Sent(subject, body, reply, headers or {}))

    async def find_next(self, filter: str, after: int) -> tuple[int, bytes] | None:
        """As `Log._next_after`."""
        self.asked.append((filter, after))
        return self.found.pop(0)

    def answers(self, sent: Sent, headers: bytes | None = None, **answer: Any) -> None:
        """To that publication."""
        assert self.take is not None and sent.reply
        self.take(sent.reply.encode(), b"", msgspec.json.encode(answer), headers)

    def fails(self, sent: Sent, code: int) -> None:
        """That publication."""
        self.answers(sent, error={"code": 400, "err_code": code, "description": "what it was"})

    async def sends(self, count: int) -> list[Sent]:
        """The next so many publications."""
        async with asyncio.timeout(10):
            while len(self.sent) < count:
                await asyncio.sleep(0)
        await turns()
        assert len(self.sent) == count, "and no more"
        sent, self.sent = self.sent, []
        return sent

    def is_at_rest(self) -> None:
        """Nothing is remembered of what was answered."""
        assert not self.sent and not self.appender._unanswered and not self.appender._waiting
        assert not self.appender._tasks and self.appender._singles == 0 and not self.appender._batching
        assert self.appender._wake_up is None and self.found == []


async def turns() -> None:
    """Of the loop, as many as anything needs that nobody waits for."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
async def broker() -> Broker:
    """One that is listened to."""
    made = Broker()
    await made.appender.start()
    return made


def expects(filter: str, seq: int) -> dict[str, str]:
    """The headers of a compare-and-swap."""
    return {
        "Nats-Expected-Last-Subject-Sequence": str(seq),
        "Nats-Expected-Last-Subject-Sequence-Subject": filter,
    }


def append(
    broker: Broker, name: str = "f", expected: int = 3, guard: tuple[str, int] | None = None
) -> asyncio.Task[int]:
    """A commit of that family is on its way."""
    work = broker.appender.append(f"{name}.live", f"{name}.*", name.encode(), expected, guard=guard)
    return asyncio.create_task(work)


# alone


async def test_an_append_is_one_publication(broker: Broker) -> None:
    """On what it expects; the acknowledgement's sequence is the commit's."""
    for seq in (4, 5):
        work = append(broker)
        (sent,) = await broker.sends(1)
        assert (sent.subject, sent.body, sent.headers) == ("f.live", b"f", expects("f.*", 3))
        assert sent.reply.startswith("_INBOX.role.me.")
        broker.answers(sent, seq=seq)
        assert await work == seq
    assert broker.pace == [(1, 1), (1, 1)] and broker.appender.retries == 0
    assert (broker.appender.sizes.count, broker.appender.sizes.counts[0]) == (2, 2)
    await turns()
    broker.is_at_rest()


async def test_how_many_are_under_way_is_counted(broker: Broker) -> None:
    """For the pace, which knows by it whether there is a crowd."""
    works = [append(broker, name) for name in "abc"]
    sent = await broker.sends(3)
    for each in sent:
        broker.answers(each, seq=4)
    assert await asyncio.gather(*works) == [4, 4, 4]
    assert broker.pace == [(1, 3), (1, 2), (1, 1)]
    broker.is_at_rest()


async def test_a_guard_stands_in_the_place_of_the_expectation(broker: Broker) -> None:
    """What must hold is about another aggregate."""
    work = append(broker, expected=0, guard=("person", 7))
    (sent,) = await broker.sends(1)
    assert sent.headers == expects("person", 7)
    broker.answers(sent, seq=9)
    assert await work == 9


async def test_what_no_broker_takes_is_not_sent(broker: Broker) -> None:
    """The headers' room is kept free of what it takes."""
    most = broker.max_payload - HEADERS_BYTES
    with pytest.raises(TooLarge, match=rf"^a commit of {most + 1} bytes for f.live$"):
        await broker.appender.append("f.live", "f.*", bytes(most + 1), 0)
    work = asyncio.create_task(broker.appender.append("f.live", "f.*", bytes(most), 0))
    (sent,) = await broker.sends(1)
    broker.answers(sent, seq=1)
    assert await work == 1


@pytest.mark.parametrize("code", [WRONG_LAST_SEQUENCE, 10077, 0])
async def test_what_came_first_after_what_was_expected_tells(broker: Broker, code: int) -> None:
    """Whatever the broker says: another commit is a conflict, this one is the answer, and nothing is tried again."""
    work = append(broker)
    (sent,) = await broker.sends(1)
    broker.found = [None, (5, b"f")]
    broker.fails(sent, code)
    (again,) = await broker.sends(1)
    assert again[:2] == sent[:2] and again.headers == sent.headers and again.reply != sent.reply
    broker.fails(again, code)
    assert await work == 5
    assert broker.asked == [("f.*", 3), ("f.*", 3)] and broker.appender.retries == 1
    work = append(broker)
    (sent,) = await broker.sends(1)
    broker.found = [(5, b"another")]
    broker.fails(sent, code)
    with pytest.raises(Conflict, match=r"^f\.\*$"):
        await work
    assert broker.pace == [], "nothing was acknowledged"
    broker.is_at_rest()


async def test_a_write_in_flight_is_waited_for(broker: Broker) -> None:
    """Nothing is known of it yet, so nobody is asked."""
    work = append(broker)
    (sent,) = await broker.sends(1)
    broker.fails(sent, WRITE_IN_FLIGHT)
    (again,) = await broker.sends(1)
    broker.fails(again, WRITE_IN_FLIGHT)
    (once_more,) = await broker.sends(1)
    broker.answers(once_more, seq=8)
    assert await work == 8 and broker.asked == [] and broker.appender.retries == 2


async def test_who_tries_again_pauses_for_less_than_patience_leaves(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patience may be all but over when a pause begins: two seconds are not over when it ends."""
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noting(delay: float) -> None:
        pauses.append(delay)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", noting)
    work = append(broker)
    for _ in range(3):
        (sent,) = await broker.sends(1)
        broker.fails(sent, WRITE_IN_FLIGHT)
    (sent,) = await broker.sends(1)
    broker.answers(sent, seq=8)
    assert await work == 8
    waited = [delay for delay in pauses if delay > 0]
    assert len(waited) == 3 and module.APPEND_TIMEOUT_SECONDS + max(waited) < 2


async def test_patience_ends(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what the broker said last; until then it is tried again."""
    monkeypatch.setattr(module, "APPEND_TIMEOUT_SECONDS", -1.0)
    for code, found in ((WRITE_IN_FLIGHT, []), (10077, [None])):
        work = append(broker)
        (sent,) = await broker.sends(1)
        broker.found = list(found)
        broker.fails(sent, code)
        with pytest.raises(UnavailableLog, match=r"^what it was"):
            await work
    assert broker.appender.retries == 0


async def test_a_guards_conflict_is_told_though_nothing_is_found(broker: Broker) -> None:
    """It is about another aggregate; another error is tried again."""
    work = append(broker, expected=0, guard=("person", 7))
    (sent,) = await broker.sends(1)
    broker.found = [None]
    broker.fails(sent, 10077)
    (sent,) = await broker.sends(1)
    broker.found = [None]
    broker.fails(sent, WRONG_LAST_SEQUENCE)
    with pytest.raises(Conflict):
        await work
    work = append(broker)
    (sent,) = await broker.sends(1)
    broker.found = [None]
    broker.fails(sent, WRONG_LAST_SEQUENCE)  # of one without a guard: the one that came first may not be there yet
    (sent,) = await broker.sends(1)
    broker.answers(sent, seq=4)
    assert await work == 4


async def test_silence_is_asked_about(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guarded append may still be on its way, and is not sent again; another one is. A late answer harms nobody."""
    monkeypatch.setattr(module, "ATTEMPT_SECONDS", 0.01)
    work = append(broker, expected=0, guard=("person", 7))
    broker.found = [None]
    with pytest.raises(UnavailableLog, match=r"^no acknowledgement in time$"):
        await work
    (late,) = await broker.sends(1)
    broker.answers(late, seq=4)
    broker.found = [None, (6, b"f")]
    assert await append(broker) == 6
    assert [each.headers for each in await broker.sends(2)] == [expects("f.*", 3)] * 2
    assert broker.asked == [("f.*", 0), ("f.*", 3), ("f.*", 3)]
    broker.is_at_rest()


async def test_whoever_has_waited_for_too_long_is_told_and_nobody_else(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One timer for all; it stops when nobody waits any more."""
    loop, now = asyncio.get_running_loop(), 100.0
    later: list[tuple[float, Callable[[], None]]] = []

    def call_at(when: float, what: Callable[[], None]) -> object:
        later.append((when, what))
        return object()

    monkeypatch.setattr(loop, "time", lambda: now)
    monkeypatch.setattr(loop, "call_later", lambda delay, what: call_at(now + delay, what))
    monkeypatch.setattr(loop, "call_at", call_at)
    answers = []
    for number, now in enumerate((100.0, 100.1, 100.2, 100.3)):  # noqa: B007  # the loop's clock
        answers.append(asyncio.ensure_future(broker.appender._publish(_one(f"f{number}"), {})))
        await turns()
    sent = broker.sent
    assert len(sent) == 4 and [when for when, _ in later] == [100.0 + module.ATTEMPT_SECONDS]
    broker.answers(sent[1], seq=2)
    broker.answers(sent[2], seq=3)
    now = 100.0 + module.ATTEMPT_SECONDS
    later.pop()[1]()
    await turns()
    assert [answer.done() for answer in answers] == [True, True, True, False]
    told = (await answers[0]).error
    assert told is not None and (told.code, told.err_code, told.description) == (408, 0, "no acknowledgement in time")
    assert [when for when, _ in later] == [100.3 + module.ATTEMPT_SECONDS], "the ones between are answered already"
    now = later[0][0]
    later.pop()[1]()
    assert (await answers[3]).error is not None and later == [] and broker.appender._clock is None
    assert not broker.appender._due


def _one(name: str) -> module.Append:
    return module.Append(f"{name}.live", f"{name}.*", name.encode(), (f"{name}.*", 3), asyncio.Future())


async def test_nobody_listens(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker says so in headers, which an acknowledgement has not; that is no silence, so it is tried again."""
    monkeypatch.setattr(module, "APPEND_TIMEOUT_SECONDS", -1.0)
    work = append(broker)
    (sent,) = await broker.sends(1)
    broker.found = [None]
    broker.answers(sent, headers=b"NATS/1.0 503\r\n\r\n", seq=4)
    broker.answers(sent, seq=4)  # nobody waits for it any more
    with pytest.raises(UnavailableLog, match=r"^no stream answers$"):
        await work


async def test_what_cannot_be_sent_is_told(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what the client library calls it."""
    monkeypatch.setattr(module, "APPEND_TIMEOUT_SECONDS", -1.0)
    broker.refuses, broker.found = True, [None]
    with pytest.raises(UnavailableLog, match=r"^the broker takes nothing now \(Error\)$"):
        await append(broker)
    broker.is_at_rest()


# together


@pytest.fixture
async def crowded(broker: Broker) -> Broker:
    """Where going together is faster."""
    broker.appender._batch_choice.together = True
    return broker


def batch_headers(sent: list[Sent]) -> list[dict[str, str]]:
    """Without the expectations, which are looked at."""
    rest = []
    for each in sent:
        name = each.body.decode()
        expected = expects(f"{name}.*", 3)
        assert expected.items() <= each.headers.items()
        rest.append({key: value for key, value in each.headers.items() if key not in expected})
    return rest


async def test_what_waits_together_goes_together(crowded: Broker) -> None:
    """One batch, its last message the one that is answered; each commit has its own place in it."""
    works = [append(crowded, name) for name in "abc"]
    sent = await crowded.sends(3)
    assert [(each.subject, each.body, bool(each.reply)) for each in sent] == [
        ("a.live", b"a", False),
        ("b.live", b"b", False),
        ("c.live", b"c", True),
    ]
    name = sent[0].headers["Nats-Batch-Id"]
    assert batch_headers(sent) == [
        {"Nats-Batch-Id": name, "Nats-Batch-Sequence": "1"},
        {"Nats-Batch-Id": name, "Nats-Batch-Sequence": "2"},
        {"Nats-Batch-Id": name, "Nats-Batch-Sequence": "3", "Nats-Batch-Commit": "1"},
    ]
    crowded.answers(sent[2], seq=12)
    assert await asyncio.gather(*works) == [10, 11, 12]
    assert crowded.pace == [(3, 3)] and crowded.appender.sizes.sum == 3 and crowded.appender.sizes.count == 1
    await turns()
    crowded.is_at_rest()
    works = [append(crowded, name) for name in "ab"]
    sent = await crowded.sends(2)
    assert sent[0].headers["Nats-Batch-Id"] == sent[1].headers["Nats-Batch-Id"] != name
    assert name.startswith("me") and "." not in name, "no other connection has such a name"
    crowded.answers(sent[1], seq=14)
    assert await asyncio.gather(*works) == [13, 14]


async def test_one_goes_alone_also_then(crowded: Broker) -> None:
    """There is nobody to go with."""
    work = append(crowded)
    (sent,) = await crowded.sends(1)
    assert sent.headers == expects("f.*", 3)
    crowded.answers(sent, seq=4)
    assert await work == 4
    crowded.is_at_rest()


async def test_an_aggregate_is_in_a_batch_once(crowded: Broker) -> None:
    """Its second commit waits for the next one, before those that came later; as do those that come meanwhile."""
    works = [append(crowded, name) for name in ("a", "a", "b", "a")]
    first = await crowded.sends(2)
    assert [each.body for each in first] == [b"a", b"b"]
    works += [append(crowded, name) for name in "cd"]
    await turns()
    assert crowded.sent == [], "one batch at a time"
    crowded.answers(first[1], seq=2)
    second = await crowded.sends(3)
    assert [each.body for each in second] == [b"a", b"c", b"d"]
    assert crowded.pace == [(2, 6)], "those that wait behind it are of the crowd"
    crowded.answers(second[2], seq=5)
    (third,) = await crowded.sends(1)
    crowded.answers(third, seq=6)
    assert await asyncio.gather(*works) == [1, 3, 2, 6, 4, 5]
    await turns()
    crowded.is_at_rest()


async def test_a_batch_is_no_larger_than_may_be(crowded: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is the next one."""
    monkeypatch.setattr(module, "BATCH_LIMIT", 2)
    works = [append(crowded, name) for name in "abcd"]
    for seq in (2, 4):
        sent = await crowded.sends(2)
        crowded.answers(sent[1], seq=seq)
    assert await asyncio.gather(*works) == [1, 2, 3, 4]


async def test_a_batch_that_one_race_has_spoilt_goes_again_one_by_one(crowded: Broker) -> None:
    """Nobody else is hurt by whoever lost it."""
    works = [append(crowded, name) for name in "abc"]
    sent = await crowded.sends(3)
    crowded.fails(sent[2], WRONG_LAST_SEQUENCE)
    alone = await crowded.sends(3)
    assert batch_headers(alone) == [{}, {}, {}]
    assert len({each.reply for each in alone}) == 3
    crowded.found = [(9, b"another")]
    for each, seq in zip(alone, (4, None, 5), strict=True):
        if seq is None:
            crowded.fails(each, WRONG_LAST_SEQUENCE)
        else:
            crowded.answers(each, seq=seq)
    results = await asyncio.gather(*works, return_exceptions=True)
    assert results[0] == 4 and isinstance(results[1], Conflict) and results[2] == 5
    assert crowded.asked == [("b.*", 3)] and [commits for commits, _ in crowded.pace] == [1, 1]
    await turns()
    crowded.is_at_rest()


async def test_a_batch_that_nobody_answers_is_asked_about(crowded: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its commits may be in the log."""
    monkeypatch.setattr(module, "ATTEMPT_SECONDS", 0.01)
    crowded.found = [(1, b"a"), (2, b"b")]
    works = [append(crowded, name) for name in "ab"]
    assert await asyncio.gather(*works) == [1, 2]
    assert crowded.asked == [("a.*", 3), ("b.*", 3)] and crowded.pace == [] and crowded.appender.sizes.count == 0
    await crowded.sends(2)
    await turns()
    crowded.is_at_rest()


async def test_a_batch_that_cannot_be_sent_is_told_to_all(crowded: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next one goes."""
    monkeypatch.setattr(module, "APPEND_TIMEOUT_SECONDS", -1.0)
    crowded.refuses, crowded.found = True, [None, None]
    results = await asyncio.gather(*(append(crowded, name) for name in "ab"), return_exceptions=True)
    assert [str(result) for result in results] == ["the broker takes nothing now (Error)"] * 2
    assert crowded.refused == 1, "nobody tries once more alone"
    await turns()
    crowded.is_at_rest()
    crowded.refuses = False
    works = [append(crowded, name) for name in "ab"]
    sent = await crowded.sends(2)
    crowded.answers(sent[1], seq=2)
    assert await asyncio.gather(*works) == [1, 2]


async def test_a_batch_that_no_stream_takes_is_told_to_all(crowded: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is no race, so nobody goes again alone."""
    monkeypatch.setattr(module, "APPEND_TIMEOUT_SECONDS", -1.0)
    works = [append(crowded, name) for name in "ab"]
    sent = await crowded.sends(2)
    crowded.found = [None, None]
    crowded.answers(sent[1], headers=b"NATS/1.0 503\r\n\r\n")
    results = await asyncio.gather(*works, return_exceptions=True)
    assert [str(result) for result in results] == ["no stream answers"] * 2
    await turns()
    crowded.is_at_rest()


async def test_the_next_batch_is_sent_before_the_answers_to_this_one_are_given(crowded: Broker) -> None:
    """So that the broker is at work meanwhile."""
    works = [append(crowded, name) for name in "ab"]
    first = await crowded.sends(2)
    works += [append(crowded, name) for name in "cd"]
    await turns()
    seen: list[int] = []
    for work in works[:2]:
        work.add_done_callback(lambda _: seen.append(len(crowded.sent)))
    crowded.answers(first[1], seq=2)
    second = await crowded.sends(2)
    assert seen == [2, 2]
    crowded.answers(second[1], seq=4)
    assert await asyncio.gather(*works) == [1, 2, 3, 4]


async def test_what_waits_when_the_crowd_is_gone_goes_one_by_one(crowded: Broker) -> None:
    """Before whatever comes then: who has waited is not overtaken."""
    works = [append(crowded, name) for name in "ab"]
    first = await crowded.sends(2)
    works += [append(crowded, name) for name in "cd"]
    await turns()
    crowded.appender._batch_choice.together = False
    works.append(append(crowded, "e"))
    await turns()
    assert crowded.sent == []
    crowded.answers(first[1], seq=2)
    rest = await crowded.sends(3)
    assert [each.body for each in rest] == [b"c", b"d", b"e"] and batch_headers(rest) == [{}, {}, {}]
    for seq, each in enumerate(rest, 3):
        crowded.answers(each, seq=seq)
    assert await asyncio.gather(*works) == [1, 2, 3, 4, 5]
    await turns()
    crowded.is_at_rest()


async def test_whoever_gave_up_waiting_harms_nobody(crowded: Broker) -> None:
    """Its request was ended; the others of its batch hear of theirs."""
    works = [append(crowded, name) for name in "abc"]
    sent = await crowded.sends(3)
    works[1].cancel()
    await turns()
    crowded.answers(sent[2], seq=3)
    results = await asyncio.gather(*works, return_exceptions=True)
    assert (results[0], results[2]) == (1, 3) and isinstance(results[1], asyncio.CancelledError)
