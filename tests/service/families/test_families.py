"""Loading and deciding on a real log: a stale cache may cost time, and never a wrong answer."""

from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from events.aggregates import aggregate_names
from events.aggregates import subject as person
from events.aggregates.aggregate_names import Aggregate
from events.aggregates.book import BookState
from events.aggregates.commit import digest
from events.aggregates.family_events import DeviceAuthorizationStarted, FamilyRevoked, TokenReuseDetected
from events.bus.connect import connect
from events.bus.connection import Connection
from events.log import stream
from events.log.appender import Appender, Conflict
from events.log.books import FIRST, Book
from events.log.closing import close_book
from events.log.jetstream_api import Unavailable
from events.log.log import Head, Log
from service import clock
from service.decide.authorization_code import redeem_device_code
from service.decide.decision import Decision, Done, Granted, Refused
from service.decide.device_authorization import answer_device
from service.decide.issue import issue
from service.decide.refresh_token import redeem
from service.decide.revocation import Revoke, revoke
from service.families import families as families_module
from service.families.cache import FamilyCache, LoadedFamily
from service.families.families import CommittedDecision, Decide, Families
from service.keys.keyring import Keyring
from service.keys.seal import Seal
from service.registry.blocked_subjects import BlockedSubjects, BlockState
from service.registry.change_aggregate import change
from service.replicas.appended import AppendedCommits
from tests.broker import Broker
from tests.service.decide.given import RULES, answering, issuing, redeeming, redeeming_device_code

SEAL = Seal(Keyring({1: bytes(32)}))


class Replica(NamedTuple):
    """A replica's families, its connection, and the conflicts and reads of its log."""

    families: Families
    connection: Connection
    conflicts: list[Conflict]
    reads: list[Aggregate]
    log: Log

    async def decide(self, decide: Decide, *, new: bool = False, actor: str = "client:web") -> CommittedDecision:
        """Decide on the family `f1`."""
        return await self.families.decide("acme", "f1", actor, decide, new=new)


@pytest.fixture
async def replicas(nats_server: Broker) -> AsyncIterator[tuple[Replica, Replica]]:
    """Two, which do not receive each other's commits yet."""
    one, other = await _replica(nats_server.url), await _replica(nats_server.url)
    yield one, other
    await one.connection.close()
    await other.connection.close()


async def _replica(url: str) -> Replica:
    connection = await connect(url, "test", echo=False)
    await stream.ensure(connection, stream.Required())
    conflicts: list[Conflict] = []
    reads: list[Aggregate] = []

    class Watched(Log):
        async def head(self, aggregate: Aggregate, *, leader: bool = True) -> Head:
            reads.append(aggregate)
            return await super().head(aggregate, leader=leader)

    class Counting(Appender):
        async def append(self, *arguments: Any, **guard: Any) -> int:
            try:
                return await super().append(*arguments, **guard)
            except Conflict as conflict:
                conflicts.append(conflict)
                raise

    log = Watched(connection, appender=Counting)
    await log.start()
    return Replica(Families(log, BlockedSubjects(log)), connection, conflicts, reads, log)


async def _publishing(replica: Replica, is_alone: Callable[[], bool]) -> Replica:
    """The same, publishing what it appends to the other replicas, and receiving what they append."""
    recent = FamilyCache()
    news = AppendedCommits(replica.connection, recent, is_alone, SEAL)
    await news.start()
    await replica.connection.flush()
    return replica._replace(families=Families(replica.log, BlockedSubjects(replica.log), recent, news.publish))


def _begun(loaded: LoadedFamily, now: datetime, _id: str) -> Decision:
    return issue(loaded.state, issuing()._replace(now=now))


def _presented(loaded: LoadedFamily, now: datetime, _id: str) -> Decision:
    return redeem(loaded.state, redeeming(0)._replace(now=now))


def _polled(loaded: LoadedFamily, now: datetime, jti: str) -> Decision:
    return redeem_device_code(loaded.state, redeeming_device_code(now=now, jti=jti))


async def _person(log: Log, *events: person.SubjectEvent) -> None:
    aggregate = aggregate_names.subject("acme", "alice")
    await change(log, aggregate, lambda _: events)


async def _in_turn(replicas: tuple[Replica, Replica]) -> None:
    """One replica begins a family, and both refresh it in turn."""
    one, other = replicas

    def present(generation: int) -> Decide:
        return lambda loaded, *_: redeem(loaded.state, redeeming(generation))

    await one.decide(_begun, new=True)
    for generation, replica in enumerate((other, one, other, one)):
        for each in (*replicas, *replicas):  # a reply would go the same way: first one replica, then the other
            await each.connection.flush()
        concluded = await replica.decide(present(generation))
        assert isinstance(concluded.outcome, Granted)


async def test_a_newer_token_than_in_the_cache_is_no_race(replicas: tuple[Replica, Replica]) -> None:
    """After another replica's rotation the family is read first, instead of a forgery appended in vain."""
    await _in_turn(replicas)
    for replica in replicas:
        assert replica.conflicts == []
        assert replica.reads


@pytest.mark.parametrize("which", ["the one that wrote it", "one that knows nothing"])
async def test_the_grace_time_begins_when_the_redemption_is_stored(
    replicas: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """CONTRACT §3.3: the broker stored it long after the decision, and then its reply was lost."""
    one, other = replicas
    rules = replace(RULES, refresh_token_grace=30)
    now = clock.now
    decided: list[Decision] = []

    def present(loaded: LoadedFamily, now: datetime, _id: str) -> Decision:
        presented = redeeming(0, rules=rules, answered_at=loaded.answered_at)
        decided.append(redeem(loaded.state, presented._replace(now=now)))
        return decided[-1]

    async def presented(replica: Replica, when: timedelta) -> Decision:
        monkeypatch.setattr(clock, "now", lambda: now() + when)
        await replica.decide(present)
        return decided[-1]

    monkeypatch.setattr(clock, "now", lambda: now() - timedelta(seconds=40))
    await one.decide(_begun, new=True)
    first = await presented(one, -timedelta(seconds=40))
    again = one if which == "the one that wrote it" else other
    assert await presented(again, timedelta()) == Decision(first.outcome, ())
    assert [type(event) for event in (await presented(again, timedelta(seconds=30))).events] == [
        TokenReuseDetected,
        FamilyRevoked,
    ]


@pytest.mark.parametrize("which", ["the one that wrote it", "one that received it", "one that knows nothing"])
async def test_no_family_goes_back_in_time(
    replicas: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """No commit has an earlier time than the one before it; `audit verify` would report the log as BAD.

    The broker's clock was ahead for a while: what had expired by it stays dead, although its revocation was forgotten.
    """
    one, other = replicas
    now = clock.now
    monkeypatch.setattr(clock, "now", lambda: now() + timedelta(hours=6))
    first = await _at(one, _begun, new=True)
    again = one if which == "the one that wrote it" else other
    if which == "one that received it":
        stored = (await one.log.head(aggregate_names.family("acme", "f1"))).stored
        assert stored is not None
        other.families.cache.put_remote(("acme", "f1"), stored.seq, stored.body)
    monkeypatch.setattr(clock, "now", now)
    second = await _at(again, _presented)
    assert second == first
    head = await one.log.head(aggregate_names.family("acme", "f1"))
    assert head.commit is not None and head.commit.at == first


async def test_no_settings_go_back_in_time(replicas: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch) -> None:
    """The commits of clients, keys, roles and people have no decreasing times either, at any replica."""
    one, other = replicas
    now, aggregate = clock.now, aggregate_names.subject("acme", "alice")
    monkeypatch.setattr(clock, "now", lambda: now() + timedelta(hours=6))
    blocked, unblocked = person.SubjectBlocked("alice", "lost"), person.SubjectUnblocked("alice")
    written = [await change(one.log, aggregate, lambda _: (blocked,))]
    monkeypatch.setattr(clock, "now", now)
    written += [await change(other.log, aggregate, lambda _: (unblocked,))]
    first, second = (person.codec.decode(each.stored.body).at for each in written)
    assert second == first


async def _at(replica: Replica, decide: Decide, *, new: bool = False) -> datetime:
    """Decide, and return the time of the decision."""
    times: list[datetime] = []

    def decided(loaded: LoadedFamily, now: datetime, commit_id: str) -> Decision:
        times.append(now)
        return decide(loaded, now, commit_id)

    await replica.decide(decided, new=new)
    return times[-1]


async def test_replicas_that_receive_each_others_commits_need_not_read(replicas: tuple[Replica, Replica]) -> None:
    """A commit reaches the other replicas before the client can send its next request."""
    one, other = [await _publishing(replica, lambda: False) for replica in replicas]
    await _in_turn((one, other))
    for replica in (one, other):
        assert (replica.conflicts, replica.reads) == ([], [])


async def test_forged_news_of_commits_revive_no_family(replicas: tuple[Replica, Replica]) -> None:
    """CONTRACT §3.5: an old commit under the newest sequence would pass the log's comparison."""
    one, other = replicas
    await AppendedCommits(other.connection, other.families.cache, lambda: False, SEAL).start()
    await other.connection.flush()

    def end(loaded: LoadedFamily, _now: datetime, _id: str) -> Decision:
        return revoke(loaded.state, Revoke("operator", "a test"))

    aggregate = aggregate_names.family("acme", "f1")
    await one.decide(_begun, new=True)
    alive = (await one.families._log.head(aggregate)).stored
    assert alive is not None
    ended = (await one.decide(end, actor="operator")).seq
    for seq in (ended + 1, ended + 2, ended):
        subject = f"heirloom.appended.acme.f1.{seq}"
        for body in (alive.body, bytes(32) + alive.body, SEAL.close("heirloom.appended.acme.f1.1", alive.body)):
            await one.connection.publish(subject, body)
        await one.connection.flush()
        await other.connection.flush()
        concluded = await other.decide(_presented)
        assert isinstance(concluded.outcome, Refused)
    last = (await one.families._log.head(aggregate)).stored
    assert last is not None and last.seq == ended


async def test_a_single_replica_publishes_no_commits(replicas: tuple[Replica, Replica]) -> None:
    """It sends nothing over the bus."""
    one, other = replicas
    subjects_seen: list[bytes] = []
    await other.connection.listen("heirloom.>", lambda subject, *_: subjects_seen.append(subject))
    await other.connection.flush()
    one = await _publishing(one, lambda: True)
    await _in_turn((one, one))
    await one.connection.flush()
    await other.connection.flush()
    assert subjects_seen == []


def test_news_older_than_the_cache_are_ignored() -> None:
    """In whatever order they arrive."""
    recent, key = FamilyCache(), ("acme", "f1")
    recent.put_remote(key, 1, b"not read, or it would be refused")
    from_here = LoadedFamily(2, digest(b""), None, False)
    recent.remember(key, from_here)
    assert recent.get(key) == from_here


@pytest.mark.parametrize("in_the_log", [False, True])
@pytest.mark.parametrize("raced", [False, True])
async def test_a_device_approved_while_its_person_is_blocked_is_dead_for_good(
    replicas: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch, raced: bool, in_the_log: bool
) -> None:
    """RFC 8628 §3.3: also if the block was stored between its check and the approval, and lifted since."""
    one, other = replicas

    asked = DeviceAuthorizationStarted("web", "read", ("aud",), "seed", clock.now() + timedelta(minutes=10))

    def started(_loaded: LoadedFamily, _now: datetime, _id: str) -> Decision:
        return Decision(Done(), (asked,))

    def approved(loaded: LoadedFamily, now: datetime, _id: str) -> Decision:
        return answer_device(loaded.state, answering(now=now, waiting=None if in_the_log else asked))

    if in_the_log:
        await one.decide(started)
    await _person(one.log, person.SubjectBlocked("alice"))
    if raced:
        monkeypatch.setattr(BlockedSubjects, "newest", _nobody_is_blocked)
    concluded = await one.decide(approved, actor="client:login")
    monkeypatch.undo()
    assert isinstance(concluded.outcome, Done if raced else Refused)
    await _person(one.log, person.SubjectUnblocked("alice"))
    for replica in (one, other):
        concluded = await replica.decide(_polled)
        assert isinstance(concluded.outcome, Refused) and concluded.outcome.error.code == "invalid_grant"
    in_the_log = False
    await one.families.decide("acme", "f2", "client:login", approved)
    assert isinstance((await other.families.decide("acme", "f2", "client:web", _polled)).outcome, Granted)


async def _nobody_is_blocked(*_: object) -> BlockState:
    return BlockState(0, False)


async def test_a_decision_and_its_commit_agree(replicas: tuple[Replica, Replica]) -> None:
    """The first commit names its family, the second follows it by digest and sequence; the cache holds the result."""
    one, _ = replicas
    aggregate = aggregate_names.family("acme", "f1")
    first = await one.decide(_begun, new=True)
    begun = await one.log.head(aggregate)
    second = await one.decide(_presented, actor="client:tv")
    refreshed = await one.log.head(aggregate)
    assert begun.stored is not None and refreshed.stored is not None
    assert begun.commit is not None and refreshed.commit is not None
    assert begun.commit.aggregate == aggregate.name and refreshed.commit.aggregate is None
    assert (begun.commit.prev, begun.commit.prev_seq) == (None, 0)
    assert (refreshed.commit.prev, refreshed.commit.prev_seq) == (digest(begun.stored.body), begun.stored.seq)
    assert (begun.commit.actor, refreshed.commit.actor) == ("client:web", "client:tv")
    for concluded, head in ((first, begun), (second, refreshed)):
        assert head.commit is not None and head.stored is not None
        assert (concluded.state, concluded.seq) == (head.commit.state, head.stored.seq)
        assert isinstance(concluded.outcome, Granted) and concluded.outcome.access == head.commit.state.access
    body, at = refreshed.stored.body, refreshed.commit.at
    remembered = LoadedFamily(refreshed.expected, digest(body), second.state, False, at=at, size=len(body))
    assert one.families.cache.get(("acme", "f1")) == remembered
    assert one.families.counters.conflicts == 0 and one.families.counters.rotated == 1
    assert one.reads == [aggregate, aggregate], "only the test reads: new and cached families are not read"


async def test_a_decision_without_events_has_no_sequence(replicas: tuple[Replica, Replica]) -> None:
    """It is made on the leader's state, and returns that."""
    one, _ = replicas
    begun = await one.decide(_begun, new=True)
    looked = await one.decide(lambda *_: Decision(Done(), ()))
    assert looked == CommittedDecision("f1", Done(), begun.state, 0)


async def test_no_family_begins_for_a_person_blocked_meanwhile(replicas: tuple[Replica, Replica]) -> None:
    """CONTRACT §3.6: the log refuses an append if the block was stored after the check of the person."""
    one, other = replicas
    await _person(other.log, person.SubjectBlocked("alice"))
    concluded = await one.decide(_begun, new=True)
    assert isinstance(concluded.outcome, Refused) and concluded.outcome.error.code == "invalid_grant"
    assert (concluded.state, concluded.seq) == (None, 0)
    assert (await one.log.head(aggregate_names.family("acme", "f1"))).commit is None
    assert len(one.conflicts) == one.families.counters.conflicts == 1


async def test_a_person_blocked_after_the_approval_gets_no_tokens(
    replicas: tuple[Replica, Replica],
) -> None:
    """The cut-off ends the family; the device's poll appends nothing."""
    one, other = replicas
    asked = DeviceAuthorizationStarted("web", "read", ("aud",), "seed", clock.now() + timedelta(minutes=10))
    answer = answering(now=clock.now(), waiting=asked)
    await one.decide(lambda loaded, *_: answer_device(loaded.state, answer), actor="client:login")
    await _person(other.log, person.SubjectBlocked("alice"))
    before = await one.log.head(aggregate_names.family("acme", "f1"))

    for replica in replicas:
        concluded = await replica.decide(_polled)
        assert isinstance(concluded.outcome, Refused) and concluded.seq == 0
        assert before.commit is not None and concluded.state == before.commit.state
    assert await one.log.head(aggregate_names.family("acme", "f1")) == before


async def test_a_family_that_always_conflicts_is_unavailable(
    replicas: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while; until then each attempt is decided on the leader's state."""
    one, _ = replicas
    await one.decide(_begun, new=True)
    refused, read = 0, list[bool]()
    half_seconds = SimpleNamespace(time=lambda: refused / 2)
    monkeypatch.setattr(families_module, "asyncio", SimpleNamespace(get_running_loop=lambda: half_seconds))

    async def too_late(*_: object, **__: object) -> int:
        nonlocal refused
        refused += 1
        raise Conflict

    async def head(_log: Log, aggregate: Aggregate, *, leader: bool = True) -> Head:
        read.append(leader)
        return await Log.head(one.log, aggregate, leader=leader)

    monkeypatch.setattr(one.log, "append", too_late)
    monkeypatch.setattr(type(one.log), "head", head)
    with pytest.raises(Unavailable, match="one family at once"):
        await one.decide(_presented)
    assert refused == one.families.counters.conflicts == 4, "half a second each, for CONFLICT_TIMEOUT_SECONDS"
    assert set(read) == {True} and len(read) == refused - 1
    assert one.families.cache.get(("acme", "f1")) is None


async def test_an_unacknowledged_append_is_not_cached(
    replicas: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next request reads the family from the log."""
    one, _ = replicas
    await one.decide(_begun, new=True)

    async def lost(*_: object, **__: object) -> int:
        raise Unavailable("no answer")

    monkeypatch.setattr(one.log, "append", lost)
    with pytest.raises(Unavailable, match="no answer"):
        await one.decide(_presented)
    assert one.families.cache.get(("acme", "f1")) is None


async def test_a_family_that_is_not_cached_is_read_from_any_replica_first(
    replicas: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is enough for an append; a refusal is decided again on the leader's state."""
    one, other = replicas
    await one.decide(_begun, new=True)
    read = list[bool]()

    async def head(_log: Log, aggregate: Aggregate, *, leader: bool = True) -> Head:
        read.append(leader)
        return await Log.head(other.log, aggregate, leader=leader)

    monkeypatch.setattr(type(other.log), "head", head)
    assert isinstance((await other.decide(_presented)).outcome, Granted)
    assert read == [False]
    other.families.cache.forget(("acme", "f1"))
    await other.decide(lambda *_: Decision(Done(), ()))
    assert read == [False, False, True]


async def test_a_family_goes_on_in_the_next_book(replicas: tuple[Replica, Replica]) -> None:
    """Its first commit there continues the chain; a token from before is a reuse, found across books."""
    one, other = replicas
    await one.decide(_begun, new=True)
    await close_book(one.connection, FIRST)
    committed = await other.decide(_presented)
    assert isinstance(committed.outcome, Granted) and committed.seq == 2
    head = await one.log.head(aggregate_names.family("acme", "f1"))
    assert head.commit is not None and (head.commit.prev_seq, head.stream, head.expected) == (1, "TOKENS_2", 2)
    stolen = await one.decide(lambda loaded, *_: redeem(loaded.state, redeeming(0)._replace(now=clock.now())))
    assert isinstance(stolen.outcome, Refused) and stolen.state is not None and stolen.state.revoked is not None


async def test_a_cached_family_of_a_closed_book_is_read_again(replicas: tuple[Replica, Replica]) -> None:
    """What is cached may be old, and an expectation of 0 in the next book would not show that."""
    one, other = replicas
    await one.decide(_begun, new=True)
    await other.decide(lambda *_: Decision(Done(), (FamilyRevoked("operator", ""),)))  # one does not hear of it
    await close_book(other.connection, FIRST)
    await one.log.look()
    refused = await one.decide(_presented)
    assert isinstance(refused.outcome, Refused) and refused.seq == 0
    assert await stream.last_sequence(one.connection) == 2


async def test_a_replica_that_slept_through_closings_sees_what_ended(replicas: tuple[Replica, Replica]) -> None:
    """Without certainty it looks for the newest book before it answers; two have closed meanwhile."""
    one, other = replicas
    await one.decide(_begun, new=True)
    await close_book(other.connection, FIRST)
    await other.decide(_presented)
    await close_book(other.connection, (await _newest_book(other)))
    await other.decide(lambda *_: Decision(Done(), (FamilyRevoked("operator", ""),)))
    assert one.log.books.newest == FIRST
    loaded = await one.families.load("acme", "f1")
    assert loaded.state is not None and loaded.state.revoked is not None and loaded.seq == 3


async def _newest_book(replica: Replica) -> Book:
    await replica.log.look()
    return replica.log.books.newest


async def test_a_person_blocked_in_a_closed_book_gets_no_family(replicas: tuple[Replica, Replica]) -> None:
    """The guard of a family's first commit names the book of which the replica knows."""
    one, other = replicas
    await _person(other.log, person.SubjectBlocked("alice"))
    await close_book(other.connection, FIRST)
    refused = await one.decide(_begun, new=True)
    assert isinstance(refused.outcome, Refused)
    one.log.announced = BookState(2, 2)
    await _person(other.log, person.SubjectUnblocked("alice"))
    assert isinstance((await one.decide(_begun, new=True)).outcome, Granted)
