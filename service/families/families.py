"""Load, decide, append: the only way in which a family changes (ADR 0001)."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import NamedTuple, TypeAlias

from msgspec.structs import replace

from events.aggregates import aggregate_names
from events.aggregates.commit import VERSION, Commit, digest
from events.aggregates.family import FamilyState, fold, is_of_a_person
from events.aggregates.family_commit import codec
from events.aggregates.family_events import FamilyRevoked, revokes
from events.fairness.token_buckets import Buckets
from events.log.appender import Conflict
from events.log.jetstream_api import Unavailable
from events.log.log import Log
from service import clock
from service.decide.decision import Decision, Done, Granted, Outcome, Refused, blocked
from service.families.cache import FamilyCache, Key, LoadedFamily, from_head
from service.families.counters import FamilyCounters
from service.families.earlier_keys import keys_of
from service.keys.mac_tokens import new_id
from service.registry.blocked_subjects import BlockedSubjects, BlockState
from service.registry.change_aggregate import CONFLICT_TIMEOUT_SECONDS

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


Decide: TypeAlias = Callable[[LoadedFamily, datetime, str], Decision]
"""`(loaded, now, id)`: `id` is the commit's, and the `jti` of the access token that it may issue."""

Publish: TypeAlias = Callable[[str, str, int, bytes], Awaitable[None]]
"""`(tenant, family id, seq, body)` of a commit that was appended: publishes it to the other replicas."""


Count: TypeAlias = Callable[[], None]
"""Counts the reading of earlier commits as one more request of the caller."""


def count_nothing() -> None:
    """Earlier keys decide nothing here, so no earlier commit is read."""


async def _publish_nothing(_tenant: str, _family_id: str, _seq: int, _body: bytes) -> None:
    """There is no other replica."""


class Families:
    """All families, in the log.

    An old entry of `cache` costs a retry, and never causes a wrong answer, since only appends begin from it. `publish`
    is awaited with each commit before its decision is returned.
    """

    def __init__(
        self, log: Log, people: BlockedSubjects, cache: FamilyCache | None = None, publish: Publish = _publish_nothing
    ) -> None:
        self._log = log
        self._people = people
        self.counters = FamilyCounters()
        self.buckets = Buckets()
        self.cache = cache if cache is not None else FamilyCache()
        self._publish = publish

    async def load(self, tenant: str, family_id: str) -> LoadedFamily:
        """The family as the stream's leader has it now. Raises `Unavailable`."""
        return await self._load(aggregate_names.family(tenant, family_id), leader=True)

    async def decide(
        self,
        tenant: str,
        family_id: str,
        actor: str,
        decide: Decide,
        *,
        new: bool = False,
        count: Count = count_nothing,
    ) -> CommittedDecision:
        """Decide on the family's state, and append the events.

        Decides again whenever another commit came first. A decision without events, and every refusal, is made on the
        state that the stream's leader has. `new`: the family cannot exist yet, which saves a read. `count` is called
        once if earlier commits are read. If tokens or a grant would begin for a blocked person, the outcome is
        `Refused`. Raises `Unavailable`, and `UnreadableCommit`.
        """
        aggregate = aggregate_names.family(tenant, family_id)
        key = (tenant, family_id)
        deadline = asyncio.get_running_loop().time() + CONFLICT_TIMEOUT_SECONDS
        loaded = self._new() if new else self._cached(key)
        asked: BlockState | None = None
        while True:
            if loaded is None:
                loaded = await self._load(aggregate, leader=False)
            now, commit_id = loaded.no_earlier(clock.now()), new_id()
            decision = decide(loaded, now, commit_id)
            if not loaded.from_leader and (not decision.events or isinstance(decision.outcome, Refused)):
                # in a copy that lacks the newest rotations a good token looks forged, so the leader is read first
                loaded = await self._load(aggregate, leader=True)
                continue
            if decision.unless_key_of is not None:
                count()
                keys = await keys_of(self._log, aggregate, loaded.seq, decision.unless_key_of)
                loaded = replace(loaded, redeemed_with=keys)
                continue
            if not decision.events:
                return CommittedDecision(family_id, decision.outcome, loaded.state, 0)
            state = fold(loaded.state, decision.events, now)
            person = await self._person(tenant, loaded.state, state, loaded.seq, asked)
            if person is not None and person.blocked:
                decision = _refused_for_blocked(decision, loaded.state, state)
                if not decision.events:
                    return CommittedDecision(family_id, decision.outcome, loaded.state, 0)
                state = fold(loaded.state, decision.events, now)
            name = aggregate.name if loaded.state is None else None
            commit = Commit(VERSION, commit_id, now, actor, loaded.digest, loaded.seq, decision.events, state, name)
            body, subject = codec.encode(commit), aggregate.revoked if revokes(decision.events) else aggregate.live
            guard = _guard(tenant, loaded.state, state, person)
            stream = loaded.stream if guard is None or person is None else person.stream
            try:
                seq = await self._log.append(
                    subject, aggregate.filter, body, loaded.expected, guard=guard, stream=stream
                )
            except Conflict:
                self.counters.conflicts += 1
                self.cache.forget(key)
                if person is not None:
                    asked = await self._people.newest(tenant, state.sub)
                if asyncio.get_running_loop().time() > deadline:
                    raise Unavailable("too many requests for one family at once") from None
                # earlier commits do not change: keys that were read once are not read again
                keys_read = loaded.redeemed_with
                loaded = replace(await self._load(aggregate, leader=True), redeemed_with=keys_read)
                continue
            except Unavailable:
                self.cache.forget(key)
                raise
            self.counters.committed(decision.events)
            self.cache.remember(key, LoadedFamily(seq, digest(body), state, False, at=now, size=len(body)))
            await self._publish(tenant, family_id, seq, body)
            return CommittedDecision(family_id, decision.outcome, state, seq)

    def _cached(self, key: Key) -> LoadedFamily | None:
        """The cached family, unless its book is closed: then no expectation would show that it is old."""
        cached = self.cache.get(key)
        return None if cached is None or cached.seq < self._log.books.newest.first else cached

    def _new(self) -> LoadedFamily:
        return LoadedFamily(0, None, None, False, stream=self._log.books.newest.stream)

    async def _person(
        self, tenant: str, before: FamilyState | None, after: FamilyState, seq: int, asked: BlockState | None
    ) -> BlockState | None:
        """The person for whom tokens or a grant begin with this commit; None where nothing begins.

        A blocked person is looked up at the log's leader. `before` is the family as of its last commit, at `seq`, and
        `asked` what the leader answered about the person after another commit came first.
        """
        if not is_of_a_person(after):
            return None
        if _approves(before, after):
            return await self._people.newest(tenant, after.sub)
        if before is None and after.sub:
            person = asked or self._people.known(tenant, after.sub)
            return await self._people.newest(tenant, after.sub) if person.blocked else person
        if before is not None and after.device is not None and after.code_redeemed and not before.code_redeemed:
            # the last commit is the approval. A block may have come just before it, and been lifted since
            return await self._people.newest(tenant, after.sub, blocked_at=seq)
        return None

    async def _load(self, aggregate: aggregate_names.Aggregate, *, leader: bool) -> LoadedFamily:
        head = await self._log.head(aggregate, leader=leader)
        return from_head(head, from_leader=leader)


def _approves(before: FamilyState | None, after: FamilyState) -> bool:
    """Whether this commit approves a device: its family began without a person, so no block was checked then."""
    approved = after.device is not None and after.device.status == "approved"
    return approved and (before is None or not before.sub)


def _refused_for_blocked(decision: Decision, before: FamilyState | None, after: FamilyState) -> Decision:
    """What a decision for a blocked person becomes: a refusal that appends nothing.

    But an approval's device must not wait any longer: in place of the approval, its family is revoked.
    """
    if not _approves(before, after):
        return Decision(blocked())
    return Decision(blocked(), (*decision.events[:-1], FamilyRevoked("subject_blocked", APPROVED)))


def _guard(
    tenant: str, before: FamilyState | None, after: FamilyState, person: BlockState | None
) -> tuple[str, int] | None:
    """The filter of the person's commits and its last sequence, which must still be that at the append; or None.

    Only a family that begins now has a guard: its id is fresh, so nobody else appends to it. The id of a device's
    family follows from its user code.
    """
    if before is None and person is not None and after.device is None:
        return aggregate_names.subject(tenant, after.sub).filter, person.seq
    return None
