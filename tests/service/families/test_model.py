"""The family against a naive model: issue, redeem, retry, steal, revoke, expire, narrow, in any order.

The model keeps what one would write down on paper: the newest generation, the redemptions with their keys, the last
one's time, and whether the family is dead. It knows no events. The keys that a decision needs are read from the events.
"""

from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from events.aggregates.commit import type_of
from events.aggregates.family import MAX_LATE_DUPLICATES, AccessToken, FamilyState, fold
from events.aggregates.family_events import FamilyEvent, Retry, TokenRedeemed
from events.aggregates.following import fold_and_check
from service.decide.decision import Decision, Granted, Refused
from service.decide.issue import issue
from service.decide.refresh_token import Redeem, redeem
from service.decide.revocation import Revoke, revoke
from tests.service.decide.given import RULES, START, issuing

TTL, IDLE, GRACE = 1000, 300, 20
SCOPE = ("read", "write", "offline_access")


class Family(RuleBasedStateMachine):
    """One family, its owner and a thief."""

    state: FamilyState

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.newest = 0
        self.dead = False
        self.redeemed_at = START
        self.last: tuple[int, str | None, str | None] | None = None
        self.given: dict[int, set[int | None]] = {}
        self.token: AccessToken | None = None
        self.keys: dict[int, str | None] = {}
        self.log: list[FamilyEvent] = []
        self.late_duplicates = 0
        self.events_after_death = 0
        self.jti = 0

    @initialize(grace=st.sampled_from([0, GRACE]), sticky=st.booleans())
    def begin(self, grace: int, sticky: bool) -> None:
        """Begin a family with generation 0."""
        self.grace = grace
        self.sticky = sticky
        self.default_scope: tuple[str, ...] = SCOPE
        self.policy = replace(
            RULES,
            refresh_token_ttl=TTL,
            refresh_token_idle_ttl=IDLE,
            refresh_token_grace=grace,
            scope_narrowing="sticky" if sticky else "request",
        )
        decision = issue(None, issuing(self.policy))
        self.state = fold(None, decision.events, self.now)

    @rule(
        back=st.sampled_from([0, 0, 0, 0, 0, 0, 1, 1, 2, 3, -1]),  # most families must live long enough to be harmed
        key=st.sampled_from([None, None, "a", "b", "its own"]),
        scope=st.sampled_from([None, None, "read", "read write", "read admin"]),
    )
    def present(self, back: int, key: str | None, scope: str | None) -> None:
        """The owner or a thief presents the newest generation, an older one, or one that was never issued."""
        generation = self.newest - back
        if generation < 0:
            return
        if key == "its own":
            key = self.keys.get(generation, f"key of {generation}")
        retry = Retry(key, f"{generation} {scope}") if key else None
        decision = self._decided(generation, retry, scope)
        expected = self._expected(generation, key, scope)
        assert self._outcome(decision) == expected, (generation, key, scope)
        self._take(decision)
        if expected == "rotated":
            assert isinstance(decision.outcome, Granted)
            self.last = (generation, key, scope)
            self.keys[generation] = key
            self.redeemed_at = self.now
            self.newest += 1
            wanted = tuple(scope.split()) if scope else self.default_scope
            assert tuple(decision.outcome.access.scope.split()) == wanted
            if self.sticky:
                self.default_scope = wanted
        elif expected in ("reuse", "forgery"):
            self.dead = True
        elif expected == "late":
            self.late_duplicates += 1
        if isinstance(decision.outcome, Granted):
            self.given.setdefault(generation, set()).add(decision.outcome.generation)
            if expected == "rotated":
                self.token = decision.outcome.access
            elif key is not None and self.last == (generation, key, scope):
                assert decision.outcome.access == self.token, "a retry gets the very same access token"

    @rule()
    def another_client_presents(self) -> None:
        """Another client that has the token gets nothing and changes nothing."""
        decision = redeem(self.state, self._redeem(self.newest, None, None)._replace(client_id="thief"))
        assert self._outcome(decision) == "invalid_grant" and not decision.events

    @precondition(lambda self: not self.dead)
    @rule()
    def revoked(self) -> None:
        """The owner signs out."""
        self._take(revoke(self.state, Revoke("client_request", "sign-out")))
        self.dead = True

    @rule(seconds=st.sampled_from([1, 10, 19, 21, 150, 299, 301]))
    def time_passes(self, seconds: int) -> None:
        """Idle and absolute lifetimes elapse."""
        self.now += timedelta(seconds=seconds)

    @invariant()
    def no_generation_ever_has_two_successors(self) -> None:
        """CONTRACT §3.4."""
        assert all(len(successors) == 1 for successors in self.given.values())

    @invariant()
    def a_dead_family_writes_little(self) -> None:
        """CONTRACT §3.5."""
        assert self.events_after_death <= 3

    @invariant()
    def the_state_agrees(self) -> None:
        """The folded state agrees with the model."""
        assert self.state.generation == self.newest
        assert (self.state.revoked is not None) == self.dead
        assert self.state.late_duplicates == self.late_duplicates

    def _decided(self, generation: int, retry: Retry | None, scope: str | None) -> Decision:
        """The decision, with the keys from the log where it needs them."""
        command = self._redeem(generation, retry, scope)
        decision = redeem(self.state, command)
        if decision.unless_key_of is None:
            return decision
        assert decision.unless_key_of == generation
        redeemed = [event for event in self.log if isinstance(event, TokenRedeemed) and event.generation == generation]
        keys = tuple(event.retry.key for event in redeemed if event.retry is not None)
        return redeem(self.state, command._replace(redeemed_with=keys))

    def _redeem(self, generation: int, retry: Retry | None, scope: str | None) -> Redeem:
        self.jti += 1
        return Redeem(self.now, self.policy, "web", generation, scope, None, retry, f"jti-{self.jti}", 1, "a test")

    def _take(self, decision: Decision) -> None:
        if decision.events:
            self.events_after_death += len(decision.events) if self.dead else 0
            assert fold_and_check(self.state, decision.events, self.now)[1] is None, "our histories keep the rules"
            self.state = fold(self.state, decision.events, self.now)
            self.log += decision.events

    def _expected(self, generation: int, key: str | None, scope: str | None) -> str:
        """The expected outcome, in the order of CONTRACT §3."""
        if self.dead:
            return "invalid_grant"
        if generation > self.newest:
            return "forgery"
        idle = self.now >= self.redeemed_at + timedelta(seconds=IDLE)
        if idle or self.now >= START + timedelta(seconds=TTL):
            return "invalid_grant"
        same_key = key is not None and self.last is not None and key == self.last[1]
        if same_key and generation >= self.newest - 1:
            return "replayed" if self.last == (generation, key, scope) else "invalid_request"
        if generation == self.newest:
            return "invalid_scope" if scope == "read admin" else "rotated"
        in_grace = self.now < self.redeemed_at + timedelta(seconds=self.grace)
        if generation == self.newest - 1 and in_grace:
            return "invalid_scope" if scope == "read admin" else "replayed"
        if key is None or self.keys.get(generation) != key:
            return "reuse"
        return "late" if self.late_duplicates < MAX_LATE_DUPLICATES else "invalid_grant"

    def _outcome(self, decision: Decision) -> str:
        names = [type_of(event) for event in decision.events]
        if "TokenRotated" in names:
            return "rotated"
        if isinstance(decision.outcome, Granted):
            return "replayed"
        assert isinstance(decision.outcome, Refused)
        if names == ["LateDuplicateRefused"]:
            return "late"
        if self.state.revoked is None and "TokenReuseDetected" in names:
            return "reuse"
        if self.state.revoked is None and "ForgeryDetected" in names:
            return "forgery"
        return decision.outcome.error.code


Family.TestCase.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
test_family_against_the_model = Family.TestCase
