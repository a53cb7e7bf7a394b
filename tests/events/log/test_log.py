"""The log's requests to the broker, and how it handles each answer: nothing, an error, a message, silence."""

import asyncio
import base64
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from nats.errors import NoRespondersError, OutboundBufferLimitError, TimeoutError

from events.aggregates.aggregate_names import SETTINGS, family
from events.aggregates.book import BookState
from events.bus.connection import Connection
from events.bus.parser import RawHandler
from events.log.appender import Found
from events.log.books import FIRST
from events.log.consumer_reader import Batch
from events.log.jetstream_api import JetStreamMissing, Unavailable
from events.log.log import Head, Log
from events.log.newest_message import READ_SECONDS
from events.log.stored_message import StoredMessage
from tests.projections.logs import LogMaker

MADE = LogMaker()
MADE.open("f")
BODY, SUBJECT = MADE.log[0].body, MADE.log[0].subject
AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
FAMILY = family("acme", "f")
LEADER = "$JS.API.STREAM.MSG.GET.TOKENS"
DIRECT = "$JS.API.DIRECT.GET.TOKENS"
SILENCE = object()
SILENT: tuple[type[Exception], ...] = (NoRespondersError, TimeoutError, OutboundBufferLimitError)


class Broker:
    """Answers each request with the next of `answers`, and records the requests."""

    jetstream_api = "$JS.API"

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, Any]] = []
        self.looks = 0
        self._ids = itertools.count()
        self._raw_handlers: dict[str, RawHandler] = {}

    def new_inbox(self) -> str:
        """As `bus.Connection.new_inbox`, also for the appender."""
        return f"_INBOX.{next(self._ids)}"

    async def request(self, subject: str, body: bytes, **options: float) -> Any:
        if subject.startswith("$JS.API.STREAM.INFO."):  # the only book is open
            self.looks += 1
            return response({"config": {"name": subject.rpartition(".")[2], "subjects": ["tokens.*.>"]}})
        assert options == {"timeout": READ_SECONDS} and isinstance(body, bytes)
        self.asked.append((subject, msgspec.json.decode(body) if body else None))
        answer = self.answers.pop(0)
        if isinstance(answer, type):
            raise answer
        return answer

    async def listen(self, subject: str, take: RawHandler) -> None:
        self._raw_handlers[subject] = take

    async def publish(self, subject: str, body: bytes, reply: str) -> None:
        """As `bus.Connection.publish`, with the answer by the raw handler; `SILENCE` gives none."""
        self.asked.append((subject, msgspec.json.decode(body)))
        answer = self.answers.pop(0)
        if isinstance(answer, type):
            raise answer
        if answer is not SILENCE:
            self._raw_handlers[f"{reply.rpartition('.')[0]}.*"](reply.encode(), b"", answer.data, answer.headers)


def log_of(*answers: Any, stream: str = "TOKENS") -> tuple[Log, Broker]:
    """A log and its broker with these answers."""
    broker = Broker(*answers)
    log = Log(cast("Connection", broker), stream)
    log.certain_until = float("inf")
    return log, broker


def response(value: Any) -> Any:
    """A response of the JetStream API."""
    return SimpleNamespace(headers=None, data=msgspec.json.encode(value))


def message(seq: int, subject: str = SUBJECT, body: bytes = BODY) -> Any:
    """A message from the leader."""
    data = base64.b64encode(body).decode()
    return response({"message": {"subject": subject, "seq": seq, "data": data, "time": AT}})


def direct(seq: int) -> Any:
    """A message from any replica."""
    place = f"Nats-Subject: {SUBJECT}\r\nNats-Sequence: {seq}\r\nNats-Time-Stamp: 2026-11-20T12:00:00Z"
    return SimpleNamespace(headers=f"NATS/1.0\r\nNats-Stream: TOKENS\r\n{place}\r\n\r\n".encode(), data=BODY)


def status(line: bytes | None) -> Any:
    """A status from any replica, without a message."""
    return SimpleNamespace(headers=line, data=b"")


def error(code: int) -> Any:
    """An error of the API."""
    return response({"error": {"code": 404, "err_code": code, "description": "what it was"}})


NOTHING = error(10037)


async def test_what_is_not_certain_is_looked_at_first() -> None:
    """Without a lease, while a book closes, and where a later book was announced, the books are looked at (ADR 43)."""
    now = asyncio.get_running_loop().time()
    for until, announced, looks in (
        (now - 1, BookState(), 1),
        (now + 60, BookState(), 0),
        (now + 60, BookState(closing=True), 1),
        (now + 60, BookState(2, 5), 1),
    ):
        log, broker = log_of(message(7), message(7), message(7), message(7), message(7))
        log.certain_until, log.announced = until, announced
        await log.head(FAMILY)
        assert broker.looks == looks
        for ask in (log.newest("tokens.>"), log.at(7), log.next_after(FAMILY, 6), log.expected_of("tokens.>")):
            await ask
        assert broker.looks == 5 * looks


async def test_the_head_comes_from_the_leader() -> None:
    """It is the whole commit, its sequence, and the time at which the broker stored it."""
    log, broker = log_of(message(7))
    stored = StoredMessage(7, SUBJECT, BODY, AT)
    head = await log.head(FAMILY)
    assert (head.stored, head.expected) == (stored, 7)
    assert head.commit is not None and head.commit.id == "commit1"
    assert broker.asked == [(LEADER, {"last_by_subj": "tokens.acme.family.f.*"})]


async def test_an_expected_sequence_may_come_from_any_replica() -> None:
    """No answer depends on that read."""
    log, broker = log_of(direct(7), status(b"NATS/1.0 404 Message Not Found\r\n\r\n"))
    await log.start()
    head = await log.head(FAMILY, leader=False)
    assert (head.stored, head.expected) == (StoredMessage(7, SUBJECT, BODY, AT), 7)
    assert await log.head(FAMILY, leader=False) == Head(None, None, 0)
    assert broker.asked == [(DIRECT, {"last_by_subj": "tokens.acme.family.f.*"})] * 2


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (None, ""),
        (b"NATS/1.0 408\r\n\r\n", "408"),
        (b"NATS/1.0 503\r\n\r\n", "503"),
        (b"NATS/1.0 \xff\xfe5\r\n\r\n", "\ufffd\ufffd5"),
    ],
)
async def test_a_status_other_than_404_is_unavailable(line: bytes | None, named: str) -> None:
    """Only 404 means that there is no message."""
    log, _ = log_of(status(line))
    await log.start()
    with pytest.raises(Unavailable, match=f"status {named}$"):
        await log.head(FAMILY, leader=False)


async def test_only_one_error_means_no_message() -> None:
    """It is 10037; after another one, such as 10008 (no leader), nothing is known."""
    log, _ = log_of(NOTHING)
    assert await log.head(FAMILY) == Head(None, None, 0)
    for code in (10008, 10059, 0):
        log, _ = log_of(error(code))
        with pytest.raises(Unavailable, match="what it was"):
            await log.head(FAMILY)
    log, _ = log_of(response({}))
    with pytest.raises(Unavailable, match="gave no answer"):
        await log.head(FAMILY)


@pytest.mark.parametrize("silent", SILENT, ids=lambda error: error.__name__)
async def test_silence_is_unavailable(silent: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """From leader, replica and consumer; the appender reads again instead."""
    monkeypatch.setattr("events.log.newest_message.READ_SECONDS", 0)
    log, _ = log_of(silent, silent, SILENCE, silent, silent)
    await log.start()
    with pytest.raises(Unavailable, match="leader cannot be read now"):
        await log.head(FAMILY)
    with pytest.raises(Unavailable, match="log cannot be read now"):
        await log.head(FAMILY, leader=False)
    with pytest.raises(Unavailable, match="log cannot be read now"):
        await log.head(FAMILY, leader=False)
    with pytest.raises(Unavailable, match="leader cannot be read now"):
        await log.finished("reactor", 3)
    assert await log._find_next("tokens.>", 1, (1, "TOKENS")) == Found()


async def test_messages_are_found_by_sequence_and_subject() -> None:
    """Each request goes to the leader of that stream, in the broker's own form."""
    found = StoredMessage(7, SUBJECT, BODY, AT)
    log, broker = log_of(message(7), message(7), message(7), message(7), NOTHING, stream="OTHER")
    assert await log.newest("tokens.acme.key.*") == found
    assert await log.at(7) == found
    assert await log.next_after(FAMILY, 6) == found
    assert log.append == log.appender.append
    assert await log.appender._find_next("tokens.acme.>", 6, (6, "OTHER")) == Found((7, BODY))
    assert await log.appender._find_next("tokens.acme.>", 7, (7, "OTHER")) == Found()
    assert {subject for subject, _ in broker.asked} == {"$JS.API.STREAM.MSG.GET.OTHER"}
    assert [question for _, question in broker.asked] == [
        {"last_by_subj": "tokens.acme.key.*"},
        {"seq": 7},
        {"next_by_subj": "tokens.acme.family.f.*", "seq": 7},
        {"next_by_subj": "tokens.acme.>", "seq": 7},
        {"next_by_subj": "tokens.acme.>", "seq": 8},
    ]


async def test_a_familys_commit_is_found_by_its_sequence() -> None:
    """Of another family, or no commit, it is none; without a sequence nobody is asked."""
    made = LogMaker()
    made.open("g")
    made.rotate("g")
    elsewhere = made.log[1]  # a second commit does not name its family
    others = message(7, elsewhere.subject, elsewhere.body), message(7, body=b"{}"), NOTHING
    log, broker = log_of(message(7), *others)
    commit = await log.commit_at(FAMILY, 7)
    assert commit is not None and commit.id == "commit1"
    for _ in range(3):
        assert await log.commit_at(FAMILY, 7) is None
    assert await log.commit_at(FAMILY, 0) is None
    assert broker.asked == [(LEADER, {"seq": 7})] * 4


async def test_the_newest_setting_is_of_a_tenant_client_or_key() -> None:
    """0 if there is none."""
    for newest in range(len(SETTINGS)):
        log, broker = log_of(*(message(9 if place == newest else 3) for place in range(len(SETTINGS))))
        assert await log.last_setting() == 9
        assert [question for _, question in broker.asked] == [{"last_by_subj": filter} for filter in SETTINGS]
    log, _ = log_of(*[NOTHING] * len(SETTINGS))
    assert await log.last_setting() == 0
    log, _ = log_of(*[NOTHING] * (len(SETTINGS) - 1), message(3))
    assert await log.last_setting() == 3


async def test_a_consumer_has_finished_up_to_its_acknowledgement_floor() -> None:
    """A missing consumer is an error."""
    log, broker = log_of(response({"ack_floor": {"stream_seq": 12, "consumer_seq": 5}}), response({}), error(10014))
    assert await log.finished("reactor", 12)
    assert broker.asked == [("$JS.API.CONSUMER.INFO.TOKENS.reactor", None)]
    assert not await log.finished("reactor", 1)
    with pytest.raises(Unavailable, match="what it was"):
        await log.finished("reactor", 1)


async def test_the_last_sequence_is_that_of_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without JetStream it is an error, and not 0."""
    log, broker = log_of(stream="OTHER")

    async def last_sequence(connection: Any, name: str) -> int:
        assert connection is broker
        if name != "OTHER":
            raise JetStreamMissing("what it was")
        return 7

    monkeypatch.setattr("events.log.log.last_sequence", last_sequence)
    assert await log.last_sequence() == 7
    log, broker = log_of()
    with pytest.raises(Unavailable, match="what it was"):
        await log.last_sequence()


class Direct:
    """`read_direct` on a replica with these batches; `closed` once the reading has ended."""

    def __init__(self, *batches: list[StoredMessage], hangs: bool = False) -> None:
        self.batches, self.hangs = batches, hangs
        self.asked: list[tuple[Any, tuple[Any, ...]]] = []
        self.closed = False

    async def read(self, connection: Any, *place: Any, **asked: Any) -> AsyncIterator[Batch]:
        """Yield each batch."""
        self.asked.append((connection, (*place, asked)))
        try:
            for commits in self.batches:
                yield Batch(commits, 1)
            if self.hangs:
                await asyncio.Event().wait()
        finally:
            self.closed = True


def at(seq: int, body: bytes = BODY) -> StoredMessage:
    """A first commit of the family, at any sequence."""
    return StoredMessage(seq, SUBJECT, body, AT)


def foreign(seq: int) -> StoredMessage:
    """A foreign message."""
    return at(seq, b"{}")


def from_leader(stored: StoredMessage) -> Any:
    """The leader's reply with this message."""
    return message(stored.seq, body=stored.body)


@pytest.mark.parametrize(
    ("batches", "leader", "found"),
    [
        ([], [NOTHING], 0),
        ([], [from_leader(at(9))], 0),
        ([], [from_leader(at(8)), NOTHING], 8),
        ([[at(1), foreign(2)]], [NOTHING], 1),
        ([[at(1), foreign(2), at(3)], [foreign(4)]], [NOTHING], 3),
        ([[foreign(1)], [at(3)]], [NOTHING], 3),
        ([[foreign(1)]], [NOTHING], 0),
        ([[at(1)]], [from_leader(at(4)), from_leader(foreign(5)), from_leader(foreign(9))], 4),
        ([[at(1)]], [from_leader(foreign(5)), from_leader(foreign(9))], 1),
        ([[at(1)]], [from_leader(at(3)), from_leader(at(5)), from_leader(at(8)), from_leader(at(10))], 8),
    ],
)
async def test_the_last_commit_below_foreign_messages_is_found(
    monkeypatch: pytest.MonkeyPatch, batches: list[list[StoredMessage]], leader: list[Any], found: int
) -> None:
    """A replica is read first, and the leader for the rest; an append expects the newest foreign message."""
    log, broker = log_of(from_leader(foreign(9)), *leader, stream="OTHER")
    replica = Direct(*batches)
    monkeypatch.setattr("events.log.log.read_stream", replica.read)
    head = await log.head(FAMILY)
    assert head.expected == 9 and broker.answers == [] and replica.closed
    assert head.stored == (at(found) if found else None)
    assert (head.commit.id if head.commit else None) == ("commit1" if found else None)
    assert replica.asked == [(broker, (1, "OTHER", {"filter": FAMILY.filter, "until": 8}))]
    read = batches[-1][-1].seq if batches else 0
    known = [read, *(msgspec.json.decode(answer.data)["message"]["seq"] for answer in leader[:-1])]
    assert [question for _, question in broker.asked[1:]] == [
        {"next_by_subj": FAMILY.filter, "seq": seq + 1} for seq in known
    ]


async def test_a_silent_replica_below_foreign_messages_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known of the aggregate then; the reading is closed."""
    log, _ = log_of()
    replica = Direct([at(1)], hangs=True)
    monkeypatch.setattr("events.log.log.read_stream", replica.read)
    monkeypatch.setattr("events.log.log.READ_SECONDS", 0.01)
    with pytest.raises(Unavailable, match=r"^the log cannot be read now"):
        await log._last_before(FAMILY, 9, FIRST)
    assert replica.closed


async def test_an_unawaited_answer_is_ignored() -> None:
    """It is late or repeated; each request has an inbox of its own below the connection's."""
    log, broker = log_of()
    await log.start()
    (inbox,) = (subject for subject, take in broker._raw_handlers.items() if take == log._newest._received)
    assert inbox.startswith("_INBOX.") and inbox.endswith(".*")
    log._newest._received(inbox.replace("*", "9").encode(), b"", BODY, direct(7).headers)
    first = log._newest._unanswered[b"x"] = asyncio.get_running_loop().create_future()
    for body in (b"one", b"other"):
        log._newest._received(b"x", b"", body, None)
    assert await first == (b"", b"one")
