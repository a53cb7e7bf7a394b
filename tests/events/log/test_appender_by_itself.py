"""What the appender sends, and how it handles each answer: acknowledgement, error, silence, refusal."""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import msgspec
import pytest
from nats.errors import Error as NatsError

from events.bus.connection import Connection
from events.bus.parser import RawHandler
from events.log import appender as module
from events.log.appender import (
    HEADERS_BYTES,
    WRITE_IN_FLIGHT,
    WRONG_LAST_SEQUENCE,
    WRONG_STREAM,
    Appender,
    Conflict,
    Found,
    TooLarge,
)
from events.log.jetstream_api import Unavailable as UnavailableLog


class Sent(NamedTuple):
    """A publication."""

    subject: str
    body: bytes
    reply: str
    headers: dict[str, str]


class Broker:
    """Records what it receives, and answers on demand; `found` are the leader's answers to `find_next`."""

    max_payload = 10_000

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.found: list[tuple[int, bytes] | None] = []
        self.asked: list[tuple[str, int]] = []
        self.places: list[tuple[int, str]] = []
        self.late = False
        self.refuses, self.refused = False, 0
        self.take: RawHandler | None = None
        self.pace: list[tuple[int, int]] = []
        self.appender = Appender(cast("Connection", self), self.find_next)
        self.appender._batch_choice.acknowledged = lambda *counts: self.pace.append(counts)  # type: ignore[method-assign]

    def new_inbox(self) -> str:
        return "_INBOX.role.me"

    async def listen(self, subject: str, take: RawHandler) -> None:
        assert subject == "_INBOX.role.me.*"
        self.take = take

    async def publish(self, subject: str, body: bytes, reply: str = "", headers: dict[str, str] | None = None) -> None:
        if self.refuses:
            self.refused += 1
            raise NatsError
        self.sent.append(Sent(subject, body, reply, headers or {}))

    async def find_next(self, filter: str, after: int, place: tuple[int, str]) -> Found:
        """As `Log._find_next`; `late` is whether the stream of an append takes no more commits."""
        self.asked.append((filter, after))
        self.places.append(place)
        return Found(self.found.pop(0), self.late)

    def answers(self, sent: Sent, headers: bytes | None = None, **answer: Any) -> None:
        """Answer this publication."""
        assert self.take is not None and sent.reply
        self.take(sent.reply.encode(), b"", msgspec.json.encode(answer), headers)

    def fails(self, sent: Sent, code: int) -> None:
        """Answer this publication with an error."""
        self.answers(sent, error={"code": 400, "err_code": code, "description": "what it was"})

    async def sends(self, count: int) -> list[Sent]:
        """Wait for exactly this many publications, and return them."""
        async with asyncio.timeout(10):
            while len(self.sent) < count:
                await asyncio.sleep(0)
        await turns()
        assert len(self.sent) == count, "and no more"
        sent, self.sent = self.sent, []
        return sent

    def is_at_rest(self) -> None:
        """Verify that no state is left of answered appends."""
        assert not self.sent and not self.appender._unanswered and not self.appender._waiting
        assert not self.appender._tasks and self.appender._singles == 0 and not self.appender._batching
        assert self.appender._wake_up is None and self.found == []


async def turns() -> None:
    """Let the loop run until everything that can proceed has done so."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
async def broker() -> Broker:
    """A broker with a started appender."""
    made = Broker()
    await made.appender.start()
    return made


def expects(filter: str, seq: int) -> dict[str, str]:
    """The headers that make the append conditional."""
    named = {} if seq else {"Nats-Expected-Stream": "TOKENS"}
    return {
        "Nats-Expected-Last-Subject-Sequence": str(seq),
        "Nats-Expected-Last-Subject-Sequence-Subject": filter,
    } | named


def append(
    broker: Broker, name: str = "f", expected: int = 3, guard: tuple[str, int] | None = None
) -> asyncio.Task[int]:
    """Start to append a commit of this family."""
    work = broker.appender.append(f"{name}.live", f"{name}.*", name.encode(), expected, guard=guard)
    return asyncio.create_task(work)


# alone


async def test_an_append_is_one_publication(broker: Broker) -> None:
    """It has its expectation, and the acknowledgement's sequence is the commit's."""
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


async def test_appends_at_work_are_counted(broker: Broker) -> None:
    """The choice between single appends and batches depends on that number."""
    works = [append(broker, name) for name in "abc"]
    sent = await broker.sends(3)
    for each in sent:
        broker.answers(each, seq=4)
    assert await asyncio.gather(*works) == [4, 4, 4]
    assert broker.pace == [(1, 3), (1, 2), (1, 1)]
    broker.is_at_rest()


async def test_a_guards_expectation_is_sent(broker: Broker) -> None:
    """It is about another aggregate."""
    work = append(broker, expected=0, guard=("person", 7))
    (sent,) = await broker.sends(1)
    assert sent.headers == expects("person", 7)
    broker.answers(sent, seq=9)
    assert await work == 9


async def test_a_commit_too_large_is_not_sent(broker: Broker) -> None:
    """The limit leaves room for the headers."""
    most = broker.max_payload - HEADERS_BYTES
    with pytest.raises(TooLarge, match=rf"^a commit of {most + 1} bytes for f.live$"):
        await broker.appender.append("f.live", "f.*", bytes(most + 1), 0)
    work = asyncio.create_task(broker.appender.append("f.live", "f.*", bytes(most), 0))
    (sent,) = await broker.sends(1)
    broker.answers(sent, seq=1)
    assert await work == 1


@pytest.mark.parametrize("code", [WRONG_LAST_SEQUENCE, 10077, 0])
async def test_after_an_error_the_next_commit_of_the_aggregate_decides(broker: Broker, code: int) -> None:
    """For any error: another commit is a conflict, this one the result; without one it is sent again."""
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


async def test_a_write_in_flight_is_sent_again(broker: Broker) -> None:
    """The result is unknown yet, so the leader is not asked."""
    work = append(broker)
    (sent,) = await broker.sends(1)
    broker.fails(sent, WRITE_IN_FLIGHT)
    (again,) = await broker.sends(1)
    broker.fails(again, WRITE_IN_FLIGHT)
    (once_more,) = await broker.sends(1)
    broker.answers(once_more, seq=8)
    assert await work == 8 and broker.asked == [] and broker.appender.retries == 2


async def test_the_last_pause_ends_within_two_seconds(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a pause that begins just before the timeout."""
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


async def test_an_append_times_out_with_the_last_error(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then it is sent again."""
    monkeypatch.setattr(module, "APPEND_TIMEOUT_SECONDS", -1.0)
    for code, found in ((WRITE_IN_FLIGHT, []), (10077, [None])):
        work = append(broker)
        (sent,) = await broker.sends(1)
        broker.found = list(found)
        broker.fails(sent, code)
        with pytest.raises(UnavailableLog, match=r"^what it was"):
            await work
    assert broker.appender.retries == 0


async def test_a_guards_conflict_is_raised_although_no_commit_is_found(broker: Broker) -> None:
    """It is about another aggregate; after another error it is sent again."""
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
    broker.fails(sent, WRONG_LAST_SEQUENCE)  # without a guard the conflicting commit may not be there yet
    (sent,) = await broker.sends(1)
    broker.answers(sent, seq=4)
    assert await work == 4


async def test_after_silence_the_leader_is_asked(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guarded append may still arrive and is not sent again; another one is. A late answer does no harm."""
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


async def test_only_overdue_appends_time_out(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """One timer serves all; it stops when no append waits."""
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
    late = (await answers[0]).error
    assert late is not None and (late.code, late.err_code, late.description) == (408, 0, "no acknowledgement in time")
    assert [when for when, _ in later] == [100.3 + module.ATTEMPT_SECONDS], "those between have been answered"
    now = later[0][0]
    later.pop()[1]()
    assert (await answers[3]).error is not None and later == [] and broker.appender._clock is None
    assert not broker.appender._due


def _one(name: str) -> module.Append:
    return module.Append(f"{name}.live", f"{name}.*", name.encode(), (f"{name}.*", 3), asyncio.Future(), "TOKENS")


async def test_no_responders_is_an_error_and_not_an_acknowledgement(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker reports it in headers, which an acknowledgement lacks; the append is tried again."""
    monkeypatch.setattr(module, "APPEND_TIMEOUT_SECONDS", -1.0)
    work = append(broker)
    (sent,) = await broker.sends(1)
    broker.found = [None]
    broker.answers(sent, headers=b"NATS/1.0 503\r\n\r\n", seq=4)
    broker.answers(sent, seq=4)  # no longer awaited
    with pytest.raises(UnavailableLog, match=r"^no stream answers$"):
        await work


async def test_a_failing_publish_is_unavailable(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the name of the client library's error."""
    monkeypatch.setattr(module, "APPEND_TIMEOUT_SECONDS", -1.0)
    broker.refuses, broker.found = True, [None]
    with pytest.raises(UnavailableLog, match=r"^the broker takes nothing now \(Error\)$"):
        await append(broker)
    broker.is_at_rest()


async def test_an_append_whose_book_is_closed_by_then_conflicts(broker: Broker) -> None:
    """The commit can be stored no more, so it is decided again; without that certainty it is tried again."""
    work = append(broker)
    for late in (False, True):
        (sent,) = await broker.sends(1)
        broker.found, broker.late = [None], late
        broker.fails(sent, WRONG_LAST_SEQUENCE)
    with pytest.raises(Conflict):
        await work
    assert broker.places == [(3, "TOKENS")] * 2
    broker.is_at_rest()


async def test_a_guarded_append_that_another_book_refuses_may_still_be_under_way(broker: Broker) -> None:
    """It is not sent twice: nothing would reject a second one."""
    work = append(broker, expected=0, guard=("p", 0))
    (sent,) = await broker.sends(1)
    broker.found = [None]
    broker.fails(sent, WRONG_STREAM)
    with pytest.raises(UnavailableLog):
        await work
    broker.is_at_rest()


# together


@pytest.fixture
async def batching(broker: Broker) -> Broker:
    """A broker for which batches are faster."""
    broker.appender._batch_choice.together = True
    return broker


def batch_headers(sent: list[Sent]) -> list[dict[str, str]]:
    """The headers without the expectations, which are verified."""
    rest = []
    for each in sent:
        name = each.body.decode()
        expected = expects(f"{name}.*", 3)
        assert expected.items() <= each.headers.items()
        rest.append({key: value for key, value in each.headers.items() if key not in expected})
    return rest


async def test_waiting_appends_are_sent_together(batching: Broker) -> None:
    """One batch whose last message is acknowledged; each commit has its own sequence."""
    works = [append(batching, name) for name in "abc"]
    sent = await batching.sends(3)
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
    batching.answers(sent[2], seq=12)
    assert await asyncio.gather(*works) == [10, 11, 12]
    assert batching.pace == [(3, 3)] and batching.appender.sizes.sum == 3 and batching.appender.sizes.count == 1
    await turns()
    batching.is_at_rest()
    works = [append(batching, name) for name in "ab"]
    sent = await batching.sends(2)
    assert sent[0].headers["Nats-Batch-Id"] == sent[1].headers["Nats-Batch-Id"] != name
    assert name.startswith("me") and "." not in name, "no other connection uses that name"
    batching.answers(sent[1], seq=14)
    assert await asyncio.gather(*works) == [13, 14]


async def test_an_append_alone_makes_no_batch(batching: Broker) -> None:
    work = append(batching)
    (sent,) = await batching.sends(1)
    assert sent.headers == expects("f.*", 3)
    batching.answers(sent, seq=4)
    assert await work == 4
    batching.is_at_rest()


async def test_an_aggregate_is_in_a_batch_once(batching: Broker) -> None:
    """Its second commit is in the next batch, before later ones; those that come meanwhile wait too."""
    works = [append(batching, name) for name in ("a", "a", "b", "a")]
    first = await batching.sends(2)
    assert [each.body for each in first] == [b"a", b"b"]
    works += [append(batching, name) for name in "cd"]
    await turns()
    assert batching.sent == [], "one batch at a time"
    batching.answers(first[1], seq=2)
    second = await batching.sends(3)
    assert [each.body for each in second] == [b"a", b"c", b"d"]
    assert batching.pace == [(2, 6)], "those that wait behind it are counted"
    batching.answers(second[2], seq=5)
    (third,) = await batching.sends(1)
    batching.answers(third, seq=6)
    assert await asyncio.gather(*works) == [1, 3, 2, 6, 4, 5]
    await turns()
    batching.is_at_rest()


async def test_a_batch_has_a_maximum_size(batching: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is the next batch."""
    monkeypatch.setattr(module, "MAX_BATCH", 2)
    works = [append(batching, name) for name in "abcd"]
    for seq in (2, 4):
        sent = await batching.sends(2)
        batching.answers(sent[1], seq=seq)
    assert await asyncio.gather(*works) == [1, 2, 3, 4]


async def test_a_batch_with_a_conflict_is_sent_again_one_by_one(batching: Broker) -> None:
    """Only the conflicting append fails."""
    works = [append(batching, name) for name in "abc"]
    sent = await batching.sends(3)
    batching.fails(sent[2], WRONG_LAST_SEQUENCE)
    alone = await batching.sends(3)
    assert batch_headers(alone) == [{}, {}, {}]
    assert len({each.reply for each in alone}) == 3
    batching.found = [(9, b"another")]
    for each, seq in zip(alone, (4, None, 5), strict=True):
        if seq is None:
            batching.fails(each, WRONG_LAST_SEQUENCE)
        else:
            batching.answers(each, seq=seq)
    results = await asyncio.gather(*works, return_exceptions=True)
    assert results[0] == 4 and isinstance(results[1], Conflict) and results[2] == 5
    assert batching.asked == [("b.*", 3)] and [commits for commits, _ in batching.pace] == [1, 1]
    await turns()
    batching.is_at_rest()


async def test_after_a_batch_without_an_answer_the_leader_is_asked(
    batching: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its commits may be in the log."""
    monkeypatch.setattr(module, "ATTEMPT_SECONDS", 0.01)
    batching.found = [(1, b"a"), (2, b"b")]
    works = [append(batching, name) for name in "ab"]
    assert await asyncio.gather(*works) == [1, 2]
    assert batching.asked == [("a.*", 3), ("b.*", 3)] and batching.pace == [] and batching.appender.sizes.count == 0
    await batching.sends(2)
    await turns()
    batching.is_at_rest()


async def test_a_batch_that_cannot_be_sent_fails_for_all(batching: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is sent."""
    monkeypatch.setattr(module, "APPEND_TIMEOUT_SECONDS", -1.0)
    batching.refuses, batching.found = True, [None, None]
    results = await asyncio.gather(*(append(batching, name) for name in "ab"), return_exceptions=True)
    assert [str(result) for result in results] == ["the broker takes nothing now (Error)"] * 2
    assert batching.refused == 1, "no append is tried again alone"
    await turns()
    batching.is_at_rest()
    batching.refuses = False
    works = [append(batching, name) for name in "ab"]
    sent = await batching.sends(2)
    batching.answers(sent[1], seq=2)
    assert await asyncio.gather(*works) == [1, 2]


async def test_a_batch_without_a_stream_fails_for_all(batching: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no conflict, so no append is tried alone."""
    monkeypatch.setattr(module, "APPEND_TIMEOUT_SECONDS", -1.0)
    works = [append(batching, name) for name in "ab"]
    sent = await batching.sends(2)
    batching.found = [None, None]
    batching.answers(sent[1], headers=b"NATS/1.0 503\r\n\r\n")
    results = await asyncio.gather(*works, return_exceptions=True)
    assert [str(result) for result in results] == ["no stream answers"] * 2
    await turns()
    batching.is_at_rest()


async def test_the_next_batch_is_sent_before_this_ones_callers_resume(batching: Broker) -> None:
    """So the broker is at work meanwhile."""
    works = [append(batching, name) for name in "ab"]
    first = await batching.sends(2)
    works += [append(batching, name) for name in "cd"]
    await turns()
    seen: list[int] = []
    for work in works[:2]:
        work.add_done_callback(lambda _: seen.append(len(batching.sent)))
    batching.answers(first[1], seq=2)
    second = await batching.sends(2)
    assert seen == [2, 2]
    batching.answers(second[1], seq=4)
    assert await asyncio.gather(*works) == [1, 2, 3, 4]


async def test_waiting_appends_are_sent_one_by_one_once_few_are_left(batching: Broker) -> None:
    """They are sent before later ones."""
    works = [append(batching, name) for name in "ab"]
    first = await batching.sends(2)
    works += [append(batching, name) for name in "cd"]
    await turns()
    batching.appender._batch_choice.together = False
    works.append(append(batching, "e"))
    await turns()
    assert batching.sent == []
    batching.answers(first[1], seq=2)
    rest = await batching.sends(3)
    assert [each.body for each in rest] == [b"c", b"d", b"e"] and batch_headers(rest) == [{}, {}, {}]
    for seq, each in enumerate(rest, 3):
        batching.answers(each, seq=seq)
    assert await asyncio.gather(*works) == [1, 2, 3, 4, 5]
    await turns()
    batching.is_at_rest()


async def test_a_cancelled_append_affects_no_other(batching: Broker) -> None:
    """The others of its batch get their results."""
    works = [append(batching, name) for name in "abc"]
    sent = await batching.sends(3)
    works[1].cancel()
    await turns()
    batching.answers(sent[2], seq=3)
    results = await asyncio.gather(*works, return_exceptions=True)
    assert (results[0], results[2]) == (1, 3) and isinstance(results[1], asyncio.CancelledError)
