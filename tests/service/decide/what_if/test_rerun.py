"""Replays under another policy: what the log shows agrees with deciding every recorded request again."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from events.aggregates.family import FamilyCommit, FamilyState, Revocation, fold
from events.aggregates.family_commit import codec
from events.aggregates.family_events import (
    FamilyRevoked,
    GrantAuthorized,
    LateDuplicateRefused,
    Retry,
    TokenRedeemed,
    TokenReuseDetected,
)
from service.decide.authorization_code import Authorize, authorize, redeem_code
from service.decide.cut_off import CutOff, cut_off
from service.decide.decision import Decision, Granted
from service.decide.issue import issue
from service.decide.policy import Rules
from service.decide.refresh_token import ends_at, redeem
from service.decide.revocation import Revoke, RevokeAccessToken, revoke, revoke_access_token
from service.decide.token_exchange import exchange
from service.decide.what_if.rerun import (
    FirstDifference,
    GenerationMap,
    Rerun,
    _in_the_place_of,
    _issued,
    follow,
    verdict,
)
from service.decide.what_if.rerun import end as what_if_end
from tests.service.decide.given import (
    CHALLENGE,
    KEY,
    RULES,
    START,
    claimed,
    commit_of,
    exchanging,
    issuing,
    opened,
    redeeming,
    redeeming_code,
)

ENDS = (FamilyRevoked, TokenReuseDetected)
"""The events of a refused presentation: the end, or after the end only the reuse."""


class Asked(msgspec.Struct, frozen=True):
    """A recorded request; it presented `generation`, redeemed with these keys, while `newest` was the newest."""

    what: str
    now: datetime
    rules: Rules
    generation: int = 0
    newest: int | None = None
    retry: Retry | None = None
    scope: str | None = None
    acr: str | None = None
    redeemed_with: tuple[str, ...] | None = None


def decide(state: FamilyState | None, asked: Asked, rules: Rules, generation: int) -> Decision:
    """The service's decision on the request."""
    jti = f"jti {asked.now}"
    match asked.what:
        case "issue":
            return issue(state, issuing(rules, jti=jti, acr=asked.acr)._replace(now=asked.now))
        case "authorize":
            granted = GrantAuthorized("web", "alice", RULES.scope, ("aud",), "authorization_code", "seed", asked.acr)
            return authorize(state, Authorize(asked.now, granted, CHALLENGE, None, None))
        case "redeem_code":
            return redeem_code(state, redeeming_code(now=asked.now, rules=rules, retry=asked.retry, jti=jti))
        case "sign out":
            return revoke(state, Revoke("client_request", "sign-out"))
        case "cut off":
            return cut_off(state, CutOff("policy_changed", "ClientConfigured at sequence 9"), rules)
        case "exchange":
            later = asked.now + timedelta(seconds=60)
            command = exchanging(claimed("alice", "web", "other", "read"), "read", rules=rules, client_id="web")
            return exchange(state, command._replace(now=asked.now, subject_expires_at=later, jti=f"x {jti}"))
        case "revoke access token":
            later = asked.now + timedelta(seconds=60)
            token = claimed("alice", "web", jti, "read")
            return revoke_access_token(
                state, RevokeAccessToken(asked.now, "web", token, later, timedelta(0), "sign-out")
            )
        case _:
            presenting = redeeming(generation, rules=rules, scope=asked.scope, retry=asked.retry, jti=jti)
            return redeem(state, presenting._replace(now=asked.now, redeemed_with=asked.redeemed_with))


@dataclass
class World:
    """The actual history: the service decides on each request, and the log gets its commits."""

    rules: Rules
    now: datetime = START
    state: FamilyState | None = None
    log: list[FamilyCommit] = field(default_factory=list)
    recorded: list[tuple[Asked, Decision]] = field(default_factory=list)

    def ask(self, what: str, back: int = 0, key: str | None = None, **others: Any) -> None:
        """Make one request; it presents the token `back` generations before the newest."""
        newest = None if self.state is None else self.state.generation
        generation = (newest or 0) - back
        if generation < 0:
            return
        retry = None if key is None else Retry(key, f"{what} {generation} {others}")
        asked = Asked(what, self.now, self.rules, generation, newest, retry, **others)
        decision = decide(self.state, asked, self.rules, generation)
        if decision.unless_key_of is not None:
            asked = replace(asked, redeemed_with=self._keys_of(decision.unless_key_of))
            decision = decide(self.state, asked, self.rules, generation)
        if decision.events:
            self.state = fold(self.state, decision.events, self.now)
            actor = "operator" if what == "cut off" else "client:web"
            commit_id, seq = f"jti {self.now}", len(self.log) + 1
            commit = commit_of(self.state, *decision.events, commit_id=commit_id, now=self.now, actor=actor)
            self.log.append(codec.decode(codec.encode(commit)))
            self.recorded.append((asked, decision))
            assert seq == len(self.recorded)

    def _keys_of(self, generation: int) -> tuple[str, ...]:
        redeemed = [event for commit in self.log for event in commit.events if isinstance(event, TokenRedeemed)]
        keys = [event.retry for event in redeemed if event.generation == generation]
        return tuple(retry.key for retry in keys if retry is not None)


@dataclass
class BruteForce:
    """Every recorded request, decided again under other rules."""

    changes: dict[str, Any]
    state: FamilyState | None = None
    answers: list[tuple[Decision, Decision | None]] = field(default_factory=list)

    def ask(self, asked: Asked, in_fact: Decision) -> None:
        """Decide again; the log has no key but a redemption's or a late duplicate's, and no scope of a refused one."""
        rules = replace(asked.rules, **self.changes)
        if not any(isinstance(event, TokenRedeemed) for event in in_fact.events):
            scope = asked.scope if isinstance(in_fact.outcome, Granted) else None
            late = any(isinstance(event, LateDuplicateRefused) for event in in_fact.events)
            asked = replace(asked, retry=asked.retry if late else None, scope=scope)
        generation = self.in_the_place_of(asked) if asked.what == "present" else 0
        instead = None if generation is None else decide(self.state, asked, rules, generation)
        if instead is not None:
            self.state = fold(self.state, instead.events, asked.now)
        self.answers.append((in_fact, instead))

    def in_the_place_of(self, asked: Asked) -> int | None:
        """The generation the presenter would hold: from the latest answer that actually issued the presented one."""
        if asked.newest is not None and asked.generation > asked.newest:
            beyond = asked.generation - asked.newest
            return ((self.state.generation if self.state else None) or 0) + beyond
        for in_fact, instead in reversed(self.answers):
            issued = isinstance(in_fact.outcome, Granted) and in_fact.outcome.generation == asked.generation
            if issued and instead is not None and isinstance(instead.outcome, Granted):
                return instead.outcome.generation
        return None

    def verdict(self, fact: FamilyState, now: datetime, rules: Rules) -> tuple[str, str, str, int | None]:
        """Outcome, both ends, and the number of the first request that was decided differently."""
        state = self.state
        assert state is not None
        ends = end(fact, rules, now), end(state, replace(rules, **self.changes), now)
        for number, (in_fact, instead) in enumerate(self.answers, 1):
            was, would = (isinstance(answer and answer.outcome, Granted) for answer in (in_fact, instead))
            if was and not would:
                return "would_have_died", *ends, number
            if would and not was and any(isinstance(event, ENDS) for event in in_fact.events):
                outcome = "would_have_lived" if state.revoked is None else "would_have_ended_otherwise"
                return outcome, *ends, number
        if ends[0] == ends[1]:
            return "same", *ends, None
        if "live" in ends:
            return "would_have_died" if ends[0] == "live" else "would_have_lived", *ends, None
        return "would_have_ended_otherwise", *ends, None


def end(state: FamilyState, rules: Rules, now: datetime) -> str:
    """The state of a family in one word."""
    if state.revoked is not None:
        return state.revoked.reason
    if state.generation is None:
        return "no_refresh_token"
    return "expired" if ends_at(state, rules) <= now else "live"


def what_if(world: World, changes: dict[str, Any]) -> Rerun:
    """The rerun of the world's log, by the rules of each request with these changes."""
    rerun = None
    for seq, (commit, (asked, _)) in enumerate(zip(world.log, world.recorded, strict=True), 1):
        rerun = follow(rerun, seq, commit, replace(asked.rules, **changes))
    assert rerun is not None
    return rerun


def happened(begins_with: str, acr: str | None, policy: dict[str, Any], life: list[Any]) -> World:
    """A history that begins under this policy."""
    world = World(replace(RULES, **policy))
    world.ask(begins_with, acr=acr)
    if begins_with == "authorize":
        world.now += timedelta(seconds=9)
        world.ask("redeem_code")
    for step in life:
        match step:
            case ("wait", seconds):
                world.now += timedelta(seconds=seconds)
            case ("present", back, key, scope):
                world.now += timedelta(microseconds=1)
                world.ask("present", back, key, scope=scope)
            case ("other", what):
                world.now += timedelta(microseconds=1)
                world.ask(what)
            case ("configure", changed):
                world.rules = replace(RULES, **changed)
    return world


def test_a_redemption_stored_late_starts_its_grace_time_late() -> None:
    """CONTRACT §3.3: the broker stored it 20 s after the decision, and the token came again 5 s later."""
    world = World(RULES)
    world.ask("issue")
    world.ask("present")
    world.now += timedelta(seconds=25)
    world.ask("present", back=1)
    rerun: Rerun | None = None
    graceful = replace(RULES, **GRACE)
    for seq, commit in enumerate(world.log, 1):
        rerun = follow(rerun, seq, commit, graceful, commit.at + timedelta(seconds=20))
    assert rerun is not None and rerun.first_difference is not None
    assert (rerun.first_difference.in_fact, rerun.first_difference.instead) == ("reuse_detected", "repeated")


@dataclass
class Case:
    policy: dict[str, Any]
    life: list[Any]
    changes: dict[str, Any]
    outcome: str
    instead: str
    parting: tuple[str, str] | None


NEWEST, PARENT, OLD, EARLY, FORGED = (("present", back, None, None) for back in (0, 1, 2, 3, -1))
WITH_A, LATE = ("present", 0, "a", None), ("present", 2, "a", None)
ROTATE, REUSE = ({"refresh_token_rotation": rotation} for rotation in ("rotate", "reuse"))
MFA = {"required_acr": ("mfa",)}
GRACE = {"refresh_token_grace": 10}
FREE, BOUND = ({"require_offline_access": required} for required in (False, True))
LESS = {"scope": "read"}
AGAIN = ("present", 1, None, "write")
"""The parent again, for another scope: within the grace time it gets another access token."""


@pytest.mark.parametrize(
    "case",
    [
        Case({}, [NEWEST, ("wait", 9), PARENT], GRACE, "would_have_lived", "live", ("reuse_detected", "repeated")),
        Case({}, [NEWEST, ("wait", 11), PARENT], GRACE, "same", "reuse_detected", None),
        Case({}, [NEWEST, NEWEST, ("wait", 1), OLD], GRACE, "same", "reuse_detected", None),
        # excused once, and then presented too late: it ends for the same reason, but later
        Case(
            {},
            [NEWEST, ("wait", 9), PARENT, ("wait", 9), PARENT],
            GRACE,
            "would_have_ended_otherwise",
            "reuse_detected",
            ("reuse_detected", "repeated"),
        ),
        # a theft that would not have been detected
        Case({}, [NEWEST, NEWEST, OLD], REUSE, "would_have_lived", "live", ("reuse_detected", "redeemed")),
        # a client that presents the same token again would have presented its successor
        Case(REUSE, [NEWEST, NEWEST, NEWEST], ROTATE, "same", "live", None),
        Case(REUSE, [NEWEST, NEWEST, NEWEST, FORGED], ROTATE, "same", "forgery", None),
        Case(
            {},
            [NEWEST, ("configure", REUSE), NEWEST, ("configure", {}), NEWEST, ("wait", 9), PARENT],
            ROTATE | GRACE,
            "would_have_lived",
            "live",
            ("reuse_detected", "repeated"),
        ),
        # generations of a time of reuse are between those of rotations: each maps to one of its own run
        Case(
            {},
            [NEWEST, ("configure", REUSE), NEWEST, NEWEST, ("configure", {}), NEWEST, NEWEST, NEWEST, PARENT],
            ROTATE | GRACE,
            "would_have_lived",
            "live",
            ("reuse_detected", "repeated"),
        ),
        Case(
            {},
            [NEWEST, NEWEST, ("configure", REUSE), NEWEST, ("configure", {}), NEWEST, NEWEST, EARLY],
            ROTATE | GRACE,
            "same",
            "reuse_detected",
            None,
        ),
        Case(
            {},
            [NEWEST, ("configure", REUSE), NEWEST, ("configure", {}), NEWEST, NEWEST, OLD],
            REUSE,
            "would_have_lived",
            "live",
            ("reuse_detected", "redeemed"),
        ),
        Case(
            {},
            [("wait", 31), NEWEST, NEWEST],
            {"refresh_token_idle_ttl": 30},
            "would_have_died",
            "expired",
            ("redeemed", "expired"),
        ),
        Case({}, [NEWEST, ("wait", 301)], {"refresh_token_ttl": 200}, "would_have_died", "expired", None),
        Case(
            {},
            [NEWEST],
            {"refresh_token_ttl": 0},
            "would_have_died",
            "no_refresh_token",
            ("redeemed", "no_refresh_token"),
        ),
        Case(
            {},
            [NEWEST, ("other", "sign out")],
            MFA,
            "would_have_died",
            "policy_changed",
            ("redeemed", "policy_changed"),
        ),
        # what came late in fact is refused here too; a client that does not rotate would have been given tokens for it
        Case({}, [WITH_A, NEWEST, LATE], GRACE, "same", "live", None),
        Case({}, [WITH_A, NEWEST, LATE, OLD], GRACE, "same", "reuse_detected", None),
        Case({}, [WITH_A, NEWEST, LATE], REUSE, "same", "live", None),
        Case({}, [WITH_A, NEWEST, LATE, ("wait", 301)], {"refresh_token_ttl": 200}, "would_have_died", "expired", None),
        Case(MFA, [NEWEST], {"required_acr": None}, "would_have_lived", "live", ("policy_changed", "redeemed")),
        Case(
            {},
            [("configure", MFA), ("other", "cut off")],
            {"required_acr": None},
            "would_have_lived",
            "live",
            None,
        ),
        Case({}, [NEWEST, ("other", "sign out")], GRACE | REUSE, "same", "client_request", None),
        # for a while the client may not have offline_access, and only the other policy requires it: the actual
        # history has one generation more, and another access token for it does not change the replayed one
        Case(
            FREE,
            [
                NEWEST,
                ("configure", FREE | LESS),
                NEWEST,
                ("configure", FREE | REUSE | GRACE),
                AGAIN,
                ("wait", 11),
                NEWEST,
            ],
            BOUND,
            "would_have_died",
            "live",
            ("redeemed", "invalid_grant"),
        ),
        Case(
            FREE,
            [NEWEST, NEWEST, ("configure", FREE | LESS), NEWEST, ("configure", FREE | REUSE | GRACE), AGAIN, OLD],
            BOUND,
            "would_have_died",
            "live",
            ("redeemed", "invalid_grant"),
        ),
    ],
)
def test_the_verdict_on_a_family(case: Case) -> None:
    """A person signed in with a password, under one actual policy and another one instead."""
    world = happened("issue", "pwd", case.policy, case.life)
    rerun = what_if(world, case.changes)
    found = verdict(rerun, world.rules, replace(world.rules, **case.changes), world.now)
    assert (found.outcome, found.instead) == (case.outcome, case.instead)
    difference = rerun.first_difference
    assert (difference and (difference.in_fact, difference.instead)) == case.parting
    agree(world, rerun, case.changes)


def test_a_refresh_token_without_an_access_token() -> None:
    """No rule of `events.aggregates.family_rules` forbids it: the replayed access token has the grant's audience."""
    granted, refresh, _ = opened()
    state = fold(None, (granted, refresh), START)
    rerun = follow(None, 1, commit_of(state, granted, refresh), RULES)
    assert rerun.fact.access is None and rerun.generation_maps == (GenerationMap(0, 0, 0),)
    assert rerun.instead.access is not None and rerun.instead.access.audience == state.audience


def test_a_regular_life_has_one_generation_map() -> None:
    """The memory for a family does not grow with every refresh."""
    world = happened("issue", "pwd", {}, [NEWEST] * 20)
    assert what_if(world, GRACE).generation_maps == (GenerationMap(0, 20, 0, 1),)
    assert what_if(world, REUSE).generation_maps == (GenerationMap(0, 20, 0, 0),)


def agree(world: World, rerun: Rerun, changes: dict[str, Any]) -> None:
    """The rerun and the brute force agree on verdict, both ends, first difference and state."""
    brute = BruteForce(changes)
    for asked, in_fact in world.recorded:
        brute.ask(asked, in_fact)
    found = verdict(rerun, world.rules, replace(world.rules, **changes), world.now)
    parting = None if rerun.first_difference is None else rerun.first_difference.seq
    assert (*found, parting) == brute.verdict(rerun.fact, world.now, world.rules)
    assert brute.state is not None
    assert rerun.instead.generation == brute.state.generation
    assert rerun.instead.revoked == brute.state.revoked
    assert rerun.instead.expires_at == brute.state.expires_at


def given_in_turn(*pairs: tuple[int, int]) -> tuple[GenerationMap, ...]:
    """The maps of actual generations to those issued instead."""
    held: tuple[GenerationMap, ...] = ()
    for generation, instead in pairs:
        held = _issued(held, generation, instead)
    return held


@pytest.mark.parametrize(
    ("pairs", "held"),
    [
        (((0, 0),), (GenerationMap(0, 0, 0),)),
        (((0, 0), (0, 0)), (GenerationMap(0, 0, 0),)),
        (((0, 0), (1, 1), (2, 2)), (GenerationMap(0, 2, 0, 1),)),
        (((0, 0), (1, 0), (2, 0)), (GenerationMap(0, 2, 0, 0),)),
        (((0, 0), (0, 1), (0, 2)), (GenerationMap(0, 0, 0), GenerationMap(0, 0, 1), GenerationMap(0, 0, 2))),
        (((0, 0), (1, 1), (1, 1)), (GenerationMap(0, 1, 0, 1),)),
        (((0, 0), (1, 1), (1, 2)), (GenerationMap(0, 1, 0, 1), GenerationMap(1, 1, 2))),
        (((0, 0), (1, 1), (2, 1)), (GenerationMap(0, 1, 0, 1), GenerationMap(2, 2, 1))),
        (((0, 0), (1, 1), (2, 1), (3, 1)), (GenerationMap(0, 1, 0, 1), GenerationMap(2, 3, 1, 0))),
        (((0, 0), (1, 1), (3, 2)), (GenerationMap(0, 1, 0, 1), GenerationMap(3, 3, 2))),
        (((0, 0), (2, 1)), (GenerationMap(0, 0, 0), GenerationMap(2, 2, 1))),
        (((2, 5), (3, 7), (4, 9)), (GenerationMap(2, 4, 5, 2),)),
    ],
)
def test_generations_are_mapped_in_runs(pairs: tuple[tuple[int, int], ...], held: tuple[GenerationMap, ...]) -> None:
    """Each generation maps to the last one that was issued instead of it."""
    assert given_in_turn(*pairs) == held
    last = dict(pairs)
    rerun = Rerun(replace(LIVES, generation=max(last)), LIVES, held)
    assert {generation: _in_the_place_of(rerun, generation) for generation in last} == last


LIVES = fold(None, issue(None, issuing()).events, START)


@pytest.mark.parametrize(
    ("newest", "instead", "presented", "expected"),
    [
        (3, 1, 4, 2),
        (3, 1, 6, 4),
        (3, None, 4, 4),
        (None, None, 0, 0),
        (None, 1, 0, 2),
        (None, 1, 1, 3),
        (3, 1, 3, 9),
        (3, 1, 2, None),
        (3, 1, 1, 7),
        (3, 1, 0, None),
    ],
)
def test_the_generation_presented_instead(
    newest: int | None, instead: int | None, presented: int, expected: int | None
) -> None:
    """A forged one is as far beyond the newest; a generation that was not issued instead maps to none."""
    held = GenerationMap(1, 1, 7), GenerationMap(3, 3, 8), GenerationMap(3, 3, 9)
    rerun = Rerun(replace(LIVES, generation=newest), replace(LIVES, generation=instead), held)
    assert _in_the_place_of(rerun, presented) == expected


def test_the_first_difference_of_two_histories() -> None:
    """It has the commit, its time, and the generation that was actually presented."""
    world = happened("issue", "pwd", {}, [NEWEST, NEWEST, ("wait", 1), OLD, OLD])
    rerun = what_if(world, REUSE)
    assert rerun.first_difference == FirstDifference(4, world.log[3].at, 0, "reuse_detected", "redeemed")
    assert len(world.log) == 5, "the first one counts"


def test_only_the_last_commits_storing_time_is_kept() -> None:
    """There is none if the commit is no redemption in the replayed history."""
    world = happened("issue", "pwd", {}, [NEWEST, ("other", "exchange")])
    stored = START + timedelta(hours=1)
    rerun = None
    for seq, (commit, known) in enumerate(zip(world.log, (None, stored, None), strict=True), 1):
        rerun = follow(rerun, seq, commit, RULES, stored)
        assert rerun.stored_at == known


@pytest.mark.parametrize(
    ("changes", "rules", "ended"),
    [
        ({}, {}, "live"),
        ({"revoked": Revocation(START, "operator")}, {}, "operator"),
        ({"revoked": Revocation(START, "operator"), "generation": None}, {}, "operator"),
        ({"generation": None}, {}, "no_refresh_token"),
        ({}, {"refresh_token_ttl": 60}, "expired"),
        ({}, {"refresh_token_ttl": 61}, "live"),
    ],
)
def test_the_end_of_a_family(changes: dict[str, Any], rules: dict[str, Any], ended: str) -> None:
    """A minute after it began."""
    state = replace(LIVES, **changes)
    assert what_if_end(state, replace(RULES, **rules), START + timedelta(seconds=60)) == ended


IN_FACT = FirstDifference(2, START, 0, "redeemed", "expired")
SPARED = FirstDifference(2, START, 0, "reuse_detected", "repeated")
ENDED: dict[str, Any] = {"revoked": Revocation(START, "operator")}
OTHERWISE: dict[str, Any] = {"revoked": Revocation(START, "client_request")}


@pytest.mark.parametrize(
    ("fact", "instead", "parting", "found"),
    [
        ({}, {}, None, ("same", "live", "live")),
        (ENDED, ENDED, None, ("same", "operator", "operator")),
        ({}, ENDED, None, ("would_have_died", "live", "operator")),
        (ENDED, {}, None, ("would_have_lived", "operator", "live")),
        (ENDED, OTHERWISE, None, ("would_have_ended_otherwise", "operator", "client_request")),
        ({}, {}, IN_FACT, ("would_have_died", "live", "live")),
        (ENDED, {}, replace(IN_FACT, in_fact="repeated"), ("would_have_died", "operator", "live")),
        (ENDED, {}, SPARED, ("would_have_lived", "operator", "live")),
        (ENDED, ENDED, SPARED, ("would_have_ended_otherwise", "operator", "operator")),
    ],
)
def test_the_verdict_follows_from_the_first_difference(
    fact: dict[str, Any], instead: dict[str, Any], parting: FirstDifference | None, found: tuple[str, str, str]
) -> None:
    """Without one it follows from both ends."""
    rerun = Rerun(replace(LIVES, **fact), replace(LIVES, **instead), (), parting)
    assert verdict(rerun, RULES, RULES, START + timedelta(seconds=60)) == found


def test_each_history_ends_by_its_own_rules() -> None:
    """The actual one by the client's current rules, the other one by the changed rules."""
    rerun, now, short = Rerun(LIVES, LIVES), START + timedelta(seconds=60), replace(RULES, refresh_token_ttl=60)
    assert verdict(rerun, short, RULES, now) == ("would_have_lived", "expired", "live")
    assert verdict(rerun, RULES, short, now) == ("would_have_died", "live", "expired")


@pytest.mark.parametrize("begins_with", ["issue", "authorize"])
@pytest.mark.parametrize(
    "life",
    [
        [("present", 0, "a", "read"), ("wait", 9), ("present", 0, "b", None), ("present", 1, "b", None)],
        [NEWEST, ("configure", GRACE), NEWEST, AGAIN, ("other", "exchange"), ("other", "revoke access token")],
        [NEWEST, ("configure", MFA), ("other", "cut off"), PARENT],
        [NEWEST, NEWEST, OLD, FORGED],
    ],
)
def test_a_history_under_its_own_policy_is_unchanged(begins_with: str, life: list[Any]) -> None:
    """To the last field of the state."""
    world = happened(begins_with, "pwd", {}, life)
    rerun = what_if(world, {})
    assert rerun.instead == rerun.fact == world.state and rerun.first_difference is None


def test_a_replay_requests_what_was_requested() -> None:
    """Some of the resources, with the MAC key and the Idempotency-Key of the original."""
    begun = issue(None, issuing(audience=("a", "b"), key=5))
    asked = redeeming(0, 0, scope="read offline_access", resource=("b",), retry=KEY, jti="second", key=6)
    state = _replayed_alike(begun, redeem(fold(None, begun.events, START), asked))
    assert state.access is not None and (state.access.audience, state.key) == (("b",), 6)


def test_a_replayed_code_has_the_target_of_its_redemption() -> None:
    """A part of the granted audience."""
    granted = GrantAuthorized("web", "alice", RULES.scope, ("a", "b"), "authorization_code", "seed")
    first = authorize(None, Authorize(START, granted, CHALLENGE, None, None))
    command = redeeming_code(0, resource=("b",), jti="second", key=6)
    state = _replayed_alike(first, redeem_code(fold(None, first.events, START), command))
    assert state.access is not None and state.access.audience == ("b",)


def _replayed_alike(first: Decision, second: Decision) -> FamilyState:
    """The state after both decisions, the second of id `second`; a rerun by the same rules ends in it too."""
    state: FamilyState | None = None
    rerun: Rerun | None = None
    for seq, (commit_id, decision) in enumerate((("jti-0", first), ("second", second)), 1):
        state = fold(state, decision.events, START)
        commit = commit_of(state, *decision.events, commit_id=commit_id)
        rerun = follow(rerun, seq, commit, RULES)
    assert state is not None and rerun is not None and rerun.instead == rerun.fact == state
    return state
