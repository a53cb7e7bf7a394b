"""Families on a log in memory: what is read of the log and of the people, and exactly what is appended."""

from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from events.aggregates import aggregate_names
from events.aggregates.aggregate_names import Aggregate
from events.aggregates.family import MAX_LATE_DUPLICATES, AccessToken, FamilyState
from events.aggregates.family_commit import codec
from events.aggregates.family_events import (
    DeviceAuthorizationStarted,
    FamilyEvent,
    FamilyRevoked,
    GrantAuthorized,
    LateDuplicateRefused,
    Retry,
    TokenRedeemed,
    TokenReuseDetected,
)
from events.fairness.token_buckets import Buckets
from events.log.appender import Conflict
from events.log.books import FIRST
from events.log.log import NOTHING, Head, Log
from events.log.stored_message import StoredMessage
from service import clock
from service.decide.authorization_code import redeem_device_code
from service.decide.decision import Decision, Done, Granted, Refused
from service.decide.device_authorization import answer_device
from service.decide.issue import issue
from service.decide.policy import Rules
from service.decide.refresh_token import redeem
from service.errors import OAuthError
from service.families.cache import LoadedFamily
from service.families.earlier_keys import MAX_COMMITS_BACK, keys_of
from service.families.families import APPROVED, CommittedDecision, Decide, Families
from service.registry.blocked_subjects import BlockedSubjects, BlockState
from tests.service.decide.given import RULES, answering, issuing, redeeming, redeeming_device_code


class World:
    """The commits of one family, and one person; `asked` are the reads and appends, in order."""

    def __init__(self) -> None:
        self.commits: list[StoredMessage] = []
        self.person, self.remembered = BlockState(7, False), BlockState(7, False)
        self.asked: list[Any] = []
        self.books = SimpleNamespace(newest=FIRST)

    async def head(self, aggregate: Aggregate, *, leader: bool = True) -> Head:
        self.asked.append(("head", leader))
        if not self.commits:
            return NOTHING
        return Head(self.commits[-1], codec.decode(self.commits[-1].body), self.commits[-1].seq)

    async def append(self, place: str, filter: str, body: bytes, expected: int, **more: Any) -> int:
        self.asked.append(("append", more["guard"]))
        if expected != (self.commits[-1].seq if self.commits else 0):
            raise Conflict
        self.commits.append(StoredMessage(expected + 1, place, body))
        return expected + 1

    async def commit_at(self, aggregate: Aggregate, seq: int) -> Any:
        self.asked.append(("commit", seq))
        return codec.decode(self.commits[seq - 1].body) if seq else None

    def known(self, tenant: str, sub: str) -> BlockState:
        self.asked.append(("known", tenant, sub))
        return self.remembered

    async def newest(self, tenant: str, sub: str, blocked_at: int | None = None) -> BlockState:
        self.asked.append(("newest", tenant, sub, blocked_at))
        return self.person

    def replica(self) -> Families:
        """A replica with an empty cache."""
        return Families(cast("Log", self), cast("BlockedSubjects", self))

    def newest_events(self) -> tuple[FamilyEvent, ...]:
        """The events of the last commit."""
        return codec.decode(self.commits[-1].body).events

    async def rotate(self, times: int) -> None:
        """Begin a family, and rotate it; generation n is redeemed with the key `key n`."""
        one = self.replica()
        await one.decide("acme", "f1", "client:web", begun, new=True)
        for generation in range(times):
            await one.decide("acme", "f1", "client:web", presenting(generation))
        self.asked.clear()


ALICE = "acme", "alice"
ASKED = DeviceAuthorizationStarted("web", RULES.scope, ("aud",), "seed", clock.now() + timedelta(hours=1))


def begun(loaded: LoadedFamily, now: datetime, _id: str) -> Decision:
    """An issue."""
    return issue(loaded.state, issuing()._replace(now=now))


def presented(loaded: LoadedFamily, now: datetime, _id: str) -> Decision:
    """The redemption of the first refresh token."""
    return redeem(loaded.state, redeeming(0)._replace(now=now))


def presenting(generation: int, key: str | None = None) -> Decide:
    """The presentation of that generation, with its own key if no other is given."""
    retry = Retry(key or f"key {generation}", "body")

    def presented(loaded: LoadedFamily, now: datetime, jti: str) -> Decision:
        command = redeeming(generation, retry=retry, jti=jti, redeemed_with=loaded.redeemed_with)
        return redeem(loaded.state, command._replace(now=now))

    return presented


def started(_loaded: LoadedFamily, _now: datetime, _id: str) -> Decision:
    """The request of a device."""
    return Decision(Done(), (ASKED,))


def polled(loaded: LoadedFamily, now: datetime, jti: str) -> Decision:
    """The redemption of the device code."""
    return redeem_device_code(loaded.state, redeeming_device_code(now=now, jti=jti))


def approval(waiting: DeviceAuthorizationStarted | None = None) -> Decide:
    """Alice's approval of a device that waits in the log, or of this one."""

    def approved(loaded: LoadedFamily, now: datetime, _id: str) -> Decision:
        return answer_device(loaded.state, answering(now=now, waiting=waiting))

    return approved


async def test_a_new_family_is_appended_with_the_persons_guard_and_without_a_read() -> None:
    """Later commits have no guard; a replica without the family reads it first, and causes no conflict."""
    world = World()
    one, other = world.replica(), world.replica()
    assert isinstance(one.buckets, Buckets) and one.buckets is not other.buckets, "each replica has its own"
    await one.decide("acme", "f1", "client:web", begun, new=True)
    guard = aggregate_names.subject(*ALICE).filter, 7
    assert world.asked == [("known", *ALICE), ("append", guard)]
    world.asked.clear()
    concluded = await other.decide("acme", "f1", "client:web", presented)
    assert isinstance(concluded.outcome, Granted)
    assert world.asked == [("head", False), ("append", None)] and other.counters.conflicts == 0


@pytest.mark.parametrize("refuses", [True, False])
async def test_a_family_taken_for_new_is_read_before_a_refusal(refuses: bool) -> None:
    """A refusal, or a decision without events, is made on the log's state, for the family may exist."""
    world = World()
    concluded = await world.replica().decide("acme", "f1", "client:web", begun, new=True)
    seen: list[FamilyState | None] = []

    def look(loaded: LoadedFamily, _now: datetime, _id: str) -> Decision:
        seen.append(loaded.state)
        events = (FamilyRevoked("operator", "a test"),) if refuses else ()
        return Decision(cast("Any", Refused(cast("Any", None)) if refuses else Done()), events)

    await world.replica().decide("acme", "f1", "client:web", look, new=True)
    assert seen == [None, concluded.state]


def test_a_refusal_is_raised_and_any_other_outcome_is_returned() -> None:
    """The error is the one that was decided, whatever was appended."""
    access = AccessToken("jti", "read", ("aud",), clock.now(), clock.now())
    for outcome in (Done(), Granted(access, 0, 1)):
        assert CommittedDecision("f1", outcome, None, 5).or_raise() is outcome
    refused = Refused(OAuthError("invalid_scope", "more than was granted"))
    with pytest.raises(OAuthError) as raised:
        CommittedDecision("f1", refused, None, 5).or_raise()
    assert raised.value is refused.error


@pytest.mark.parametrize("waits_in_the_log", [True, False])
async def test_an_approval_by_a_blocked_person_ends_the_device(waits_in_the_log: bool) -> None:
    """Nothing that the person would have granted is appended, so no token ever follows."""
    world = World()
    one = world.replica()
    if waits_in_the_log:
        await one.decide("acme", "f1", "client:web", started, new=True)
    world.person = BlockState(8, True)
    waiting = None if waits_in_the_log else ASKED
    answer = await one.decide("acme", "f1", "client:login", approval(waiting))
    assert isinstance(answer.outcome, Refused)
    end = FamilyRevoked("subject_blocked", APPROVED)
    assert world.newest_events() == ((end,) if waits_in_the_log else (ASKED, end))
    assert answer.state is not None and answer.state.sub == ""
    assert not any(isinstance(event, GrantAuthorized) for event in world.newest_events())
    assert world.commits[-1].subject == aggregate_names.family("acme", "f1").revoked


async def test_the_person_is_looked_up_only_when_something_begins() -> None:
    """At the approval, and when the device redeems its code; a refresh looks up nobody."""
    world = World()
    one = world.replica()
    await one.decide("acme", "f1", "client:web", started, new=True)
    assert world.asked == [("append", None)]
    world.asked.clear()
    await one.decide("acme", "f1", "client:login", approval())
    assert world.asked == [("newest", *ALICE, None), ("append", None)]
    world.asked.clear()
    await one.decide("acme", "f1", "client:web", polled)
    assert world.asked == [("newest", *ALICE, 2), ("append", None)]
    world.asked.clear()
    world.person = BlockState(8, True)
    refreshed = await one.decide("acme", "f1", "client:web", presented)
    assert world.asked == [("append", None)] and refreshed.seq == 4


async def test_the_keys_of_an_older_generation_are_read_back() -> None:
    """From the leader's last commit down to the generation before it; together they count once, before the first."""
    world = World()
    await world.rotate(4)
    counted: list[int] = []
    one = world.replica()
    late = await one.decide("acme", "f1", "client:web", presenting(1), count=lambda: counted.append(len(world.asked)))
    assert isinstance(late.outcome, Refused) and late.state is not None and late.state.revoked is None
    assert world.newest_events() == (LateDuplicateRefused(1, 4, "web", Retry("key 1", "body")),)
    heads = [("head", False), ("head", True)]
    assert world.asked == [*heads, *(("commit", seq) for seq in (5, 4, 3, 2)), ("append", None)]
    assert counted == [2]
    assert (one.counters.late_duplicates, one.counters.reused) == (1, 0)


async def test_another_key_than_that_generations_ends_the_family() -> None:
    """Also the key of a generation beside it."""
    world = World()
    await world.rotate(4)
    await world.replica().decide("acme", "f1", "client:web", presenting(1, "key 2"))
    assert [type(event) for event in world.newest_events()] == [TokenReuseDetected, FamilyRevoked]


async def test_every_redemption_of_a_generation_counts() -> None:
    """A client that did not rotate has redeemed it several times, and each time with another key."""
    world, keep = World(), replace(RULES, refresh_token_rotation="reuse")
    one = world.replica()
    await one.decide("acme", "f1", "client:web", begun, new=True)
    for number, rules in enumerate((keep, keep, RULES)):

        def used(loaded: LoadedFamily, now: datetime, jti: str, number: int = number, rules: Rules = rules) -> Decision:
            command = redeeming(0, rules=rules, retry=Retry(f"use {number}", "body"), jti=jti)
            return redeem(loaded.state, command._replace(now=now))

        await one.decide("acme", "f1", "client:web", used)
    keys = await keys_of(cast("Log", world), aggregate_names.family("acme", "f1"), 4, 0)
    assert keys == ("use 2", "use 1", "use 0")


async def test_only_the_keys_of_refreshes_count() -> None:
    """The code's key redeemed no refresh token, and a redemption without a key has none. It ends at the beginning."""
    redeemed = {
        3: TokenRedeemed(0),
        2: TokenRedeemed(0, "refresh_token", Retry("refresh", "body")),
        1: TokenRedeemed(0, "authorization_code", Retry("code", "body")),
    }
    read: list[int] = []

    async def commit_at(_family: Aggregate, seq: int) -> Any:
        read.append(seq)
        return SimpleNamespace(events=(redeemed[seq],), prev_seq=seq - 1) if seq else None

    log = cast("Log", SimpleNamespace(commit_at=commit_at))
    keys = await keys_of(log, aggregate_names.family("acme", "f1"), 3, 0)
    assert (keys, read) == (("refresh",), [3, 2, 1, 0])


async def test_few_commits_are_read_back() -> None:
    """The last one in which a key is found is the oldest that is read; beyond it the presentation is a reuse."""
    world = World()
    await world.rotate(MAX_COMMITS_BACK + 1)
    await world.replica().decide("acme", "f1", "client:web", presenting(1))
    assert sum(kind == "commit" for kind, _ in world.asked) == MAX_COMMITS_BACK
    assert [type(event) for event in world.newest_events()] == [LateDuplicateRefused]
    world = World()
    await world.rotate(MAX_COMMITS_BACK + 1)
    await world.replica().decide("acme", "f1", "client:web", presenting(0))
    assert sum(kind == "commit" for kind, _ in world.asked) == MAX_COMMITS_BACK
    assert [type(event) for event in world.newest_events()] == [TokenReuseDetected, FamilyRevoked]


async def test_what_is_recorded_of_late_duplicates_does_not_shorten_the_search() -> None:
    """CONTRACT §3.8: however often the same request comes late, the family lives; reads stay bounded and exact."""
    world = World()
    await world.rotate(MAX_COMMITS_BACK + 1)
    for sent in range(MAX_LATE_DUPLICATES + 2):
        world.asked.clear()
        late = await world.replica().decide("acme", "f1", "client:web", presenting(1))
        assert isinstance(late.outcome, Refused) and late.state is not None and late.state.revoked is None
        read = sum(kind == "commit" for kind, _ in world.asked)
        assert read == MAX_COMMITS_BACK + min(sent, MAX_LATE_DUPLICATES)
    await world.replica().decide("acme", "f1", "client:web", presenting(0))
    assert [type(event) for event in world.newest_events()] == [TokenReuseDetected, FamilyRevoked]


async def test_a_log_full_of_such_records_is_not_read_without_bound() -> None:
    """The service writes few of them; what else may lie in the log makes no search longer."""
    world = World()
    await world.rotate(2)

    def recorded(_loaded: LoadedFamily, _now: datetime, _id: str) -> Decision:
        return Decision(Done(), (LateDuplicateRefused(0, 2, "web", Retry("key 0", "body")),))

    for _ in range(MAX_COMMITS_BACK + MAX_LATE_DUPLICATES + 1):
        await world.replica().decide("acme", "f1", "client:web", recorded)
    world.asked.clear()
    await world.replica().decide("acme", "f1", "client:web", presenting(0))
    assert sum(kind == "commit" for kind, _ in world.asked) == MAX_COMMITS_BACK + MAX_LATE_DUPLICATES


async def test_a_conflict_reads_no_key_again() -> None:
    """A key that redeemed a generation stays that, whatever commit comes first; nor is the request counted again."""
    world = World()
    await world.rotate(4)

    class Busy(World):
        async def append(self, place: str, filter: str, body: bytes, expected: int, **more: Any) -> int:
            if len(world.commits) < 8:
                await world.replica().decide("acme", "f1", "client:web", presenting(len(world.commits) - 1))
            return await super().append(place, filter, body, expected, **more)

    busy = Busy()
    busy.commits = world.commits
    counted: list[None] = []
    one = busy.replica()
    await one.decide("acme", "f1", "client:web", presenting(1), count=lambda: counted.append(None))
    assert world.newest_events() == (LateDuplicateRefused(1, 7, "web", Retry("key 1", "body")),)
    assert [asked for asked in busy.asked if asked[0] == "commit"] == [("commit", seq) for seq in (5, 4, 3, 2)]
    assert (one.counters.conflicts, len(counted)) == (3, 1)


async def test_a_late_duplicate_is_decided_on_the_newest_commit() -> None:
    """What comes first decides: here the family ends while its keys are read, and stays as it is."""
    world = World()
    await world.rotate(3)

    def end(_loaded: LoadedFamily, _now: datetime, _id: str) -> Decision:
        return Decision(Done(), (FamilyRevoked("operator", "a test"),))

    class Racing(World):
        async def commit_at(self, aggregate: Aggregate, seq: int) -> Any:
            if len(world.commits) == 4:
                await world.replica().decide("acme", "f1", "operator", end)
            return await world.commit_at(aggregate, seq)

    racing = Racing()
    racing.commits = world.commits
    late = await racing.replica().decide("acme", "f1", "client:web", presenting(0))
    assert isinstance(late.outcome, Refused) and late.state is not None and late.state.revoked is not None
    assert [type(event) for event in world.newest_events()] == [TokenReuseDetected], "as after every end"
    assert ("append", None) in racing.asked and len(world.commits) == 6
