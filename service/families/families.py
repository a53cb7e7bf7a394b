"""Load, decide, append: the one way anything happens to a family (ADR 0001)."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import NamedTuple, TypeAlias

from events.aggregates import subjects
from events.aggregates.commit import VERSION, Commit, digest
from events.aggregates.family import FamilyRevoked, FamilyState, codec, fold, is_of_a_person, revokes
from events.fairness.token_buckets import Buckets
from events.log.log import Conflict, Log, Unavailable
from service import clock
from service.decide.decision import Decision, Done, Granted, Outcome, Refused, blocked
from service.families.cache import FamilyCache, LoadedFamily, from_head
from service.families.counters import FamilyCounters
from service.keys.mac_tokens import new_id
from service.registry.blocked_subjects import BlockedSubjects, BlockState

PATIENCE_SECONDS = 1.9
APPROVED = "approval of a device for a blocked person"


class CommittedDecision(NamedTuple):
    """What was decided on a family, its state after that, and the commit's sequence (0: nothing had to be appended)."""

    family_id: str
    outcome: Outcome
    state: FamilyState | None
    seq: int

    def or_raise(self) -> Granted | Done:
        """The outcome. Raises the refusal, if it is one."""
        if isinstance(self.outcome, Refused):
            raise self.outcome.error
        return self.outcome


Decide: TypeAlias = Callable[[FamilyState | None, datetime, str], Decision]
"""`(state, now, id)`: `id` is the commit's, and the `jti` of the access token it may issue."""

DecideOn: TypeAlias = Callable[[LoadedFamily, datetime, str], Decision]
"""The same, for who must know when the last commit was stored."""

Publish: TypeAlias = Callable[[str, str, int, bytes], Awaitable[None]]
"""`(tenant, family id, seq, body)` of a commit that was appended: publishes it to the other replicas."""


async def _publish_nothing(_tenant: str, _family_id: str, _seq: int, _body: bytes) -> None:
    """There is no other replica."""


class Families:
    """Families by way of the log. The cache may cost a retry, never a wrong answer: it only ever serves an append."""

    def __init__(
        self, log: Log, people: BlockedSubjects, recent: FamilyCache | None = None, publish: Publish = _publish_nothing
    ) -> None:
        self._log = log
        self._people = people
        self.tally = FamilyCounters()
        self.buckets = Buckets()
        self.recent = recent or FamilyCache()
        self._publish = publish

    async def load(self, tenant: str, family_id: str) -> LoadedFamily:
        """The family as the stream's leader has it now. Raises `Unavailable`."""
        return await self._load(subjects.family(tenant, family_id), leader=True)

    async def decide(
        self, tenant: str, family_id: str, actor: str, decide: Decide, *, new: bool = False
    ) -> CommittedDecision:
        """As `decide_on`, for who needs the state alone."""

        def on(loaded: LoadedFamily, now: datetime, commit_id: str) -> Decision:
            return decide(loaded.state, now, commit_id)

        return await self.decide_on(tenant, family_id, actor, on, new=new)

    async def decide_on(
        self, tenant: str, family_id: str, actor: str, decide: DecideOn, *, new: bool = False
    ) -> CommittedDecision:
        """Decide on the family's state and make it so.

        Decides again whenever another commit came first. What writes nothing, and every refusal, is decided on what the
        stream's leader has. `new` tells that the family cannot exist yet, which saves a read. Nothing begins for a
        blocked person: that is `Refused`. Raises `Unavailable`.
        """
        aggregate = subjects.family(tenant, family_id)
        key = (tenant, family_id)
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        loaded = LoadedFamily(0, None, None, False) if new else self.recent.get(key)
        while True:
            if loaded is None:
                loaded = await self._load(aggregate, leader=False)
            now, commit_id = loaded.no_earlier(clock.now()), new_id()
            decision = decide(loaded, now, commit_id)
            if not loaded.from_leader and (not decision.events or isinstance(decision.outcome, Refused)):
                # on a replica that has not seen the newest rotations, its token looks forged: look before crying
                loaded = await self._load(aggregate, leader=True)
                continue
            if not decision.events:
                return CommittedDecision(family_id, decision.outcome, loaded.state, 0)
            state = fold(loaded.state, decision.events, now)
            person = await self._person(tenant, loaded.state, state, loaded.seq)
            if person is not None and person.blocked:
                if not _approves(loaded.state, state):
                    return CommittedDecision(family_id, blocked(), loaded.state, 0)
                # the device's request is answered, and dead for good
                decision = Decision(blocked(), (*decision.events[:-1], FamilyRevoked("subject_blocked", APPROVED)))
                state = fold(loaded.state, decision.events, now)
            name = aggregate.name if loaded.state is None else None
            body = codec.encode(
                Commit(VERSION, commit_id, now, actor, loaded.digest, loaded.seq, decision.events, state, name)
            )
            subject = aggregate.revoked if revokes(decision.events) else aggregate.live
            guard = None
            if (
                loaded.state is None and person is not None and state.device is None
            ):  # a device's family has a known name
                guard = subjects.subject(tenant, state.sub).filter, person.seq
            try:
                seq = await self._log.append(subject, aggregate.filter, body, loaded.expected, guard=guard)
            except Conflict:
                self.tally.conflicts += 1
                self.recent.forget(key)
                if person is not None:
                    await self._people.newest(tenant, state.sub)
                if asyncio.get_running_loop().time() > deadline:
                    raise Unavailable("too many requests for one family at once") from None
                loaded = await self._load(aggregate, leader=True)
                continue
            except Unavailable:
                self.recent.forget(key)
                raise
            self.tally.committed(decision.events)
            self.recent.remember(key, LoadedFamily(seq, digest(body), state, False, at=now))
            await self._publish(tenant, family_id, seq, body)
            return CommittedDecision(family_id, decision.outcome, state, seq)

    async def _person(self, tenant: str, before: FamilyState | None, after: FamilyState, seq: int) -> BlockState | None:
        """Whom something begins for; None where nothing begins. Blocked only if the log's leader says so.

        `before` is the family as of its last commit, which is at `seq`.
        """
        if not is_of_a_person(after):
            return None
        if _approves(before, after):
            return await self._people.newest(tenant, after.sub)
        if before is None and after.sub:
            person = self._people.known(tenant, after.sub)
            return await self._people.newest(tenant, after.sub) if person.blocked else person
        if before is not None and after.device is not None and after.code_redeemed and not before.code_redeemed:
            # its last commit is the approval, which may have raced with a block that has been lifted since
            return await self._people.newest(tenant, after.sub, blocked_at=seq)
        return None

    async def _load(self, aggregate: subjects.Aggregate, *, leader: bool) -> LoadedFamily:
        head = await self._log.head(aggregate, leader=leader)
        return from_head(head, from_leader=leader)


def _approves(before: FamilyState | None, after: FamilyState) -> bool:
    """Whether a person has said yes to a device, whose family began without one: no block has kept that from it."""
    approved = after.device is not None and after.device.status == "approved"
    return approved and (before is None or not before.sub)
