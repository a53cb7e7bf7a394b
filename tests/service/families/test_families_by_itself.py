"""Families on a log in memory: what is read of the log and of the people, and exactly what is appended."""

from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from events.aggregates import aggregate_names
from events.aggregates.aggregate_names import Aggregate
from events.aggregates.family import FamilyState
from events.aggregates.family_commit import codec
from events.aggregates.family_events import DeviceAuthorizationStarted, FamilyEvent, FamilyRevoked, GrantAuthorized
from events.fairness.token_buckets import Buckets
from events.log.appender import Conflict
from events.log.log import NOTHING, Head, Log
from events.log.stored_message import StoredMessage
from service import clock
from service.decide.authorization_code import redeem_device_code
from service.decide.decision import Decision, Done, Granted, Refused
from service.decide.device_authorization import answer_device
from service.decide.issue import issue
from service.decide.refresh_token import redeem
from service.families.cache import LoadedFamily
from service.families.families import APPROVED, Decide, Families
from service.registry.blocked_subjects import BlockedSubjects, BlockState
from tests.service.decide.given import RULES, answering, issuing, redeeming, redeeming_device_code


class World:
    """The commits of one family, and one person; `asked` are the reads and appends, in order."""

    def __init__(self) -> None:
        self.commits: list[StoredMessage] = []
        self.person, self.remembered = BlockState(7, False), BlockState(7, False)
        self.asked: list[Any] = []

    async def head(self, aggregate: Aggregate, *, leader: bool = True) -> Head:
        self.asked.append(("head", leader))
        if not self.commits:
            return NOTHING
        return Head(self.commits[-1], codec.decode(self.commits[-1].body), self.commits[-1].seq)

    async def append(self, place: str, filter: str, body: bytes, expected: int, *, guard: Any = None) -> int:
        self.asked.append(("append", guard))
        if expected != (self.commits[-1].seq if self.commits else 0):
            raise Conflict
        self.commits.append(StoredMessage(expected + 1, place, body))
        return expected + 1

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


ALICE = "acme", "alice"
ASKED = DeviceAuthorizationStarted("web", RULES.scope, ("aud",), "seed", clock.now() + timedelta(hours=1))


def begun(loaded: LoadedFamily, now: datetime, _id: str) -> Decision:
    """An issue."""
    return issue(loaded.state, issuing()._replace(now=now))


def presented(loaded: LoadedFamily, now: datetime, _id: str) -> Decision:
    """The redemption of the first refresh token."""
    return redeem(loaded.state, redeeming(0)._replace(now=now))


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
