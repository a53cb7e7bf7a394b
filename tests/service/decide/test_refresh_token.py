"""Redeeming a refresh token (CONTRACT §3, §4)."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from events.aggregates.family import (
    CLIENT_GRANT,
    MAX_LATE_DUPLICATES,
    MAX_RECORDED_AFTER_END,
    MAX_REVOKED_TOKENS,
    FamilyState,
    fold,
)
from events.aggregates.family_events import (
    FamilyEvent,
    FamilyRevoked,
    ForgeryDetected,
    LateDuplicateRefused,
    Retry,
    TokenIssued,
    TokenRedeemed,
    TokenReuseDetected,
    TokenRevoked,
    TokenRotated,
)
from service.decide.decision import Decision, Done, Granted, Refused
from service.decide.issue import issue
from service.decide.refresh_token import Redeem, is_accepted, redeem
from service.decide.revocation import (
    MAX_REVOKED_BY_OTHERS,
    Revoke,
    RevokeAccessToken,
    RevokeRefreshToken,
    revoke,
    revoke_access_token,
    revoke_refresh_token,
)
from tests.service.decide.given import KEY, RULES, at, claimed, given, issuing, opened, redeeming


def kinds(decision: Decision) -> list[type[FamilyEvent]]:
    return [type(event) for event in decision.events]


def refusal(decision: Decision) -> str:
    assert isinstance(decision.outcome, Refused)
    return decision.outcome.error.code


def after(state: FamilyState, command: Redeem) -> FamilyState:
    return fold(state, redeem(state, command).events, command.now)


def test_the_newest_generation_gets_one_successor() -> None:
    """CONTRACT §3.1: redeemed, rotated, and an access token issued, in one commit."""
    decision = redeem(given(opened()), redeeming(0))
    assert kinds(decision) == [TokenRedeemed, TokenRotated, TokenIssued]
    assert isinstance(decision.outcome, Granted) and decision.outcome.generation == 1


def test_an_older_generation_ends_the_family() -> None:
    """CONTRACT §3.2: one commit has the reuse and the revocation, and the answer is a refusal."""
    state = after(given(opened()), redeeming(0))
    decision = redeem(state, redeeming(0, 2))
    assert kinds(decision) == [TokenReuseDetected, FamilyRevoked]
    assert refusal(decision) == "invalid_grant"
    dead = fold(state, decision.events, at(2))
    newest = redeem(dead, redeeming(1, 3))
    assert refusal(newest) == "invalid_grant" and newest.events == ()


def test_presentations_after_the_end_append_a_bounded_number_of_events() -> None:
    """CONTRACT §3.5: the log does not grow with presentations of a dead family."""
    state = after(after(given(opened()), redeeming(0)), redeeming(0, 2))
    written = 0
    for second in range(50):
        decision = redeem(state, redeeming(0, 3 + second))
        if decision.events:
            written += len(decision.events)
            state = fold(state, decision.events, at(3 + second))
    assert written == MAX_RECORDED_AFTER_END


def test_another_client_changes_nothing_by_any_token() -> None:
    """CONTRACT §3.6: the client is checked first, also for an old or a forged token."""
    state = after(given(opened()), redeeming(0))
    for generation in (0, 1, 7):
        decision = redeem(state, redeeming(generation, 2, client_id="thief"))
        assert refusal(decision) == "invalid_grant" and decision.events == ()


def test_a_generation_that_was_never_issued_is_a_forgery() -> None:
    """CONTRACT §3.7: an authentic token that was never issued shows that a key leaked; the family ends."""
    decision = redeem(given(opened()), redeeming(5))
    assert kinds(decision) == [ForgeryDetected, FamilyRevoked]
    assert refusal(decision) == "invalid_grant"


def test_the_same_key_and_body_get_the_same_successor() -> None:
    """CONTRACT §2: a retry gets the first answer and appends nothing."""
    state = after(given(opened()), redeeming(0, retry=KEY))
    first = redeem(given(opened()), redeeming(0, retry=KEY)).outcome
    again = redeem(state, redeeming(0, 50, retry=KEY, jti="another"))
    assert again == Decision(first, ())


def test_the_same_key_with_another_body_is_an_invalid_request() -> None:
    """CONTRACT §2: it appends nothing and is no reuse."""
    state = after(given(opened()), redeeming(0, retry=KEY))
    decision = redeem(state, redeeming(0, 2, retry=Retry("key", "other body")))
    assert refusal(decision) == "invalid_request" and decision.events == ()


def test_the_parent_gets_the_same_successor_within_the_grace_time() -> None:
    """CONTRACT §3.3: only until the successor is presented."""
    graceful = replace(RULES, refresh_token_grace=10)
    first = redeem(given(opened()), redeeming(0, rules=graceful))
    state = fold(given(opened()), first.events, at(1))
    assert redeem(state, redeeming(0, 10.9, rules=graceful)) == Decision(first.outcome, ())
    assert kinds(redeem(state, redeeming(0, 11, rules=graceful))) == [TokenReuseDetected, FamilyRevoked]


def test_the_grace_time_is_over_once_the_successor_was_presented() -> None:
    """CONTRACT §3.3: the grandparent is a reuse at once."""
    graceful = replace(RULES, refresh_token_grace=10)
    state = after(after(given(opened()), redeeming(0, rules=graceful)), redeeming(1, 2, rules=graceful))
    assert kinds(redeem(state, redeeming(0, 3, rules=graceful))) == [TokenReuseDetected, FamilyRevoked]


def test_the_grace_time_begins_when_the_answer_could_be_sent() -> None:
    """CONTRACT §3.3: the broker's acknowledgement came later than the grace time after the decision."""
    graceful = replace(RULES, refresh_token_grace=10)
    first = redeem(given(opened()), redeeming(0, rules=graceful))
    state = fold(given(opened()), first.events, at(1))
    for seconds in (50, 59.9):
        assert redeem(state, redeeming(0, seconds, rules=graceful, answered_at=at(50))) == Decision(first.outcome, ())
    late = redeem(state, redeeming(0, 60, rules=graceful, answered_at=at(50)))
    assert kinds(late) == [TokenReuseDetected, FamilyRevoked]


@pytest.mark.parametrize("grace", [0, 10])
def test_a_clock_set_back_extends_no_grace_time(grace: int) -> None:
    """The replica's clock is minutes behind that of the rotation; the presentation is a reuse."""
    rules = replace(RULES, refresh_token_grace=grace)
    state = after(given(opened()), redeeming(0, 900, rules=rules))
    assert kinds(redeem(state, redeeming(0, 100, rules=rules))) == [TokenReuseDetected, FamilyRevoked]


def test_a_narrower_scope_within_the_grace_time_gets_another_access_token() -> None:
    """The refresh token has still one successor, and the access token no more than the requested scope."""
    graceful = replace(RULES, refresh_token_grace=10)
    state = after(given(opened()), redeeming(0, rules=graceful))
    decision = redeem(state, redeeming(0, 2, rules=graceful, scope="read"))
    assert kinds(decision) == [TokenIssued]
    assert isinstance(decision.outcome, Granted)
    assert (decision.outcome.generation, decision.outcome.access.scope) == (1, "read")


@pytest.mark.parametrize(
    ("generation", "expected"),
    [(0, [TokenReuseDetected, FamilyRevoked]), (1, "invalid_request"), (2, "invalid_request")],
)
def test_a_thief_who_has_the_idempotency_key_is_detected(generation: int, expected: Any) -> None:
    """CONTRACT §3.2: a generation older than the parent of the newest is a reuse, if its key is another's.

    A thief who saw requests of the client has its key; with `invalid_request` he could try again.
    """
    state = after(after(given(opened()), redeeming(0)), redeeming(1, 2, retry=KEY))
    decision = redeem(state, redeeming(generation, 3, retry=Retry(KEY.key, "other body"), redeemed_with=()))
    assert (kinds(decision) or refusal(decision)) == expected


LATE = (KEY.key,)
"""The keys that redeemed the presented generation, as the log has them."""


def twice_rotated() -> FamilyState:
    """A family of generation 2, whose generation 0 was redeemed with a key and generation 1 with another."""
    return after(after(given(opened()), redeeming(0, retry=KEY)), redeeming(1, 2, retry=Retry("next", "body")))


def test_an_older_generation_with_its_own_key_is_a_late_duplicate() -> None:
    """CONTRACT §3.8: it is refused and recorded, with any body; the family lives on and nobody gets a token."""
    state = twice_rotated()
    for body in ("body", "other body"):
        retry = Retry(KEY.key, body)
        decision = redeem(state, redeeming(0, 3, retry=retry, redeemed_with=LATE))
        assert decision.events == (LateDuplicateRefused(0, 2, "web", retry),)
        assert refusal(decision) == "invalid_grant" and decision.unless_key_of is None
    assert isinstance(redeem(fold(state, decision.events, at(3)), redeeming(2, 4)).outcome, Granted)


@pytest.mark.parametrize(
    ("retry", "redeemed_with"),
    [(None, LATE), (Retry("other", "body"), LATE), (KEY, ()), (Retry("next", "body"), LATE)],
    ids=["without a key", "with another key", "redeemed without a key", "with the key of another generation"],
)
def test_whoever_has_not_the_key_is_a_thief(retry: Retry | None, redeemed_with: tuple[str, ...]) -> None:
    """CONTRACT §3.2: the token alone ends the family."""
    decision = redeem(twice_rotated(), redeeming(0, 3, retry=retry, redeemed_with=redeemed_with))
    assert kinds(decision) == [TokenReuseDetected, FamilyRevoked] and decision.unless_key_of is None


def test_only_an_older_generation_with_a_key_needs_the_log() -> None:
    """A reuse, as long as nobody has read with which key it was redeemed; nothing else depends on that."""
    state = twice_rotated()
    decision = redeem(state, redeeming(0, 3, retry=KEY))
    assert kinds(decision) == [TokenReuseDetected, FamilyRevoked] and decision.unless_key_of == 0
    ended = fold(state, decision.events, at(3))
    others = [(state, 0, None), (state, 1, Retry("next", "body")), (state, 2, KEY), (state, 7, KEY), (ended, 0, KEY)]
    for before, generation, retry in others:
        assert redeem(before, redeeming(generation, 4, retry=retry)).unless_key_of is None
    expired = redeem(state, redeeming(0, 9999, retry=KEY))
    assert (refusal(expired), expired.events, expired.unless_key_of) == ("invalid_grant", (), None)
    parent = redeem(state, redeeming(1, 3, retry=KEY))
    assert parent.unless_key_of == 1, "the parent, with another key than the latest redemption's"


def test_late_duplicates_append_a_bounded_number_of_events() -> None:
    """CONTRACT §3.8: beyond it they are refused as before, and the family lives on."""
    state = twice_rotated()
    for second in range(MAX_LATE_DUPLICATES + 5):
        decision = redeem(state, redeeming(0, 3 + second, retry=KEY, redeemed_with=LATE))
        assert refusal(decision) == "invalid_grant"
        assert len(decision.events) == (second < MAX_LATE_DUPLICATES)
        state = fold(state, decision.events, at(3 + second)) if decision.events else state
    assert state.revoked is None
    thief = redeem(state, redeeming(0, 99, retry=Retry("other", "body"), redeemed_with=LATE))
    assert kinds(thief) == [TokenReuseDetected, FamilyRevoked]


def test_the_rotation_policy_reuse_returns_the_same_token() -> None:
    """CONTRACT §3: only `TokenRedeemed` and `TokenIssued`; the token stays valid and its idle time restarts."""
    keep = replace(RULES, refresh_token_rotation="reuse", refresh_token_idle_ttl=100)
    decision = redeem(given(opened()), redeeming(0, 50, rules=keep))
    assert kinds(decision) == [TokenRedeemed, TokenIssued]
    assert isinstance(decision.outcome, Granted) and decision.outcome.generation == 0
    state = fold(given(opened()), decision.events, at(50))
    assert isinstance(redeem(state, redeeming(0, 149, rules=keep)).outcome, Granted)
    assert refusal(redeem(state, redeeming(0, 151, rules=keep))) == "invalid_grant"


@dataclass
class Lifetime:
    rules: dict[str, int]
    alive: float
    dead: float


@pytest.mark.parametrize(
    "lifetime",
    [
        Lifetime({}, 999, 1001),  # as its own commit promised
        Lifetime({"refresh_token_ttl": 500}, 499, 501),  # a shorter policy applies at once
        Lifetime({"refresh_token_ttl": 9999, "refresh_token_idle_ttl": 9999}, 999, 1001),  # a longer one does not
        Lifetime({"refresh_token_idle_ttl": 100}, 99, 101),
        Lifetime({"refresh_token_idle_ttl": 0}, 999, 1001),
        Lifetime({"refresh_token_ttl": 0}, -1, 0),
    ],
)
def test_a_refresh_token_expires_when_promised_or_sooner(lifetime: Lifetime) -> None:
    """CONTRACT §4: policies shorten absolute and idle lifetimes, and never extend them; expiry appends nothing."""
    rules = replace(RULES, **lifetime.rules)
    assert isinstance(redeem(given(opened()), redeeming(0, lifetime.alive, rules=rules)).outcome, Granted)
    decision = redeem(given(opened()), redeeming(0, lifetime.dead, rules=rules))
    assert refusal(decision) == "invalid_grant" and decision.events == ()


def test_rotation_never_extends_the_family() -> None:
    """CONTRACT §4: `refresh_token_ttl` counts from the start of the family."""
    rules = replace(RULES, refresh_token_idle_ttl=0)
    state = after(given(opened()), redeeming(0, 999, rules=rules))
    assert state.expires_at == at(2000) == state.family_expires_at


@pytest.mark.parametrize("rotation", ["rotate", "reuse"])
def test_a_shortened_family_is_not_extended_by_a_longer_policy(rotation: str) -> None:
    """CONTRACT §4 `refresh_token_ttl`: the expiry of the refresh under the shorter policy stays."""
    keep = replace(RULES, refresh_token_rotation=rotation, refresh_token_idle_ttl=0)
    short, long = replace(keep, refresh_token_ttl=500), replace(keep, refresh_token_ttl=9999)
    state = after(given(opened()), redeeming(0, 100, rules=short))
    newest = 1 if rotation == "rotate" else 0
    state = after(state, redeeming(newest, 200, rules=long))
    newest += newest
    assert state.expires_at == state.family_expires_at == at(500)
    assert isinstance(redeem(state, redeeming(newest, 499, rules=long)).outcome, Granted)
    assert refusal(redeem(state, redeeming(newest, 500, rules=long))) == "invalid_grant"


@pytest.mark.parametrize("end", [1000, 500, 100], ids=["its own", "its family's today", "idle"])
def test_a_refresh_token_is_dead_at_its_exact_expiry(end: int) -> None:
    """RFC 6749 §10.4: for redemption and for introspection."""
    rules = replace(RULES, refresh_token_ttl=max(end, 500), refresh_token_idle_ttl=100 if end == 100 else 0)
    state, moment = given(opened()), timedelta(microseconds=1)
    assert is_accepted(state, rules, at(end) - moment) and not is_accepted(state, rules, at(end))
    decision = redeem(state, redeeming(0, end, rules=rules))
    assert refusal(decision) == "invalid_grant" and decision.events == ()


def test_a_token_that_stays_keeps_its_text_after_a_key_rotation() -> None:
    """CONTRACT §3, policy `reuse`: the client gets the token that it holds, made with the earlier MAC key."""
    keep = replace(RULES, refresh_token_rotation="reuse")
    command = redeeming(0, 50, rules=keep, key=2, retry=KEY)
    state, decision = after(given(opened()), command), redeem(given(opened()), command)
    for outcome in (decision.outcome, redeem(state, command._replace(now=at(51))).outcome):
        assert isinstance(outcome, Granted) and (outcome.generation, outcome.key) == (0, 1)
    assert state.key == 1


def test_a_narrower_scope_holds_for_one_request_or_stays() -> None:
    """CONTRACT §4 `scope_narrowing`: a sticky one can be widened again up to the grant, and never further."""

    def scope_after(policy: str, *asked: str | None) -> str:
        rules = replace(RULES, scope_narrowing=policy)
        state, granted = given(opened()), None
        for generation, scope in enumerate(asked):
            command = redeeming(generation, generation + 1, rules=rules, scope=scope)
            granted = redeem(state, command).outcome
            state = after(state, command)
        assert isinstance(granted, Granted)
        return granted.access.scope

    assert scope_after("request", "read", None) == "read write offline_access"
    assert scope_after("sticky", "read", None) == "read"
    assert scope_after("sticky", "read", "read write") == "read write"
    state = after(given(opened()), redeeming(0, rules=replace(RULES, scope_narrowing="sticky"), scope="write"))
    rules = replace(RULES, scope_narrowing="sticky", scope="read offline_access")
    granted = redeem(state, redeeming(1, 2, rules=rules)).outcome
    assert isinstance(granted, Granted) and granted.access.scope == "read offline_access", "the scope is never empty"
    refused = redeem(given(opened()), redeeming(0, scope="read admin"))
    assert refusal(refused) == "invalid_scope" and refused.events == ()


def test_a_resource_outside_of_the_grant_is_an_invalid_target() -> None:
    """RFC 8707 §2.2: the token is not redeemed."""
    decision = redeem(given(opened()), redeeming(0, resource=("https://elsewhere.example",)))
    assert refusal(decision) == "invalid_target" and decision.events == ()


def test_a_family_below_the_required_acr_ends() -> None:
    """CONTRACT §4 `required_acr`: it is refused, and revoked with reason `policy_changed`."""
    rules = replace(RULES, required_acr=("mfa",))
    decision = redeem(given(opened(acr="pwd")), redeeming(0, rules=rules))
    assert refusal(decision) == "invalid_grant"
    assert decision.events == (FamilyRevoked("policy_changed", "a test"),)
    assert isinstance(redeem(given(opened(acr="mfa")), redeeming(0, rules=rules)).outcome, Granted)


@pytest.mark.parametrize(
    ("rules", "command", "has_refresh"),
    [
        ({}, {}, True),
        ({}, {"scope": "read"}, False),
        ({"require_offline_access": False}, {"scope": "read"}, True),
        ({"refresh_token_ttl": 0}, {}, False),
        ({"refresh_token_ttl": 1}, {}, True),
        ({"grant_types": ("authorization_code",)}, {}, False),
        ({}, {"grant": CLIENT_GRANT}, False),
    ],
)
def test_policy_decides_whether_a_refresh_token_is_issued(
    rules: dict[str, Any], command: dict[str, Any], has_refresh: bool
) -> None:
    """CONTRACT §4: `offline_access`, `refresh_token_ttl` 0, and the client's grant types."""
    outcome = issue(None, issuing(replace(RULES, **rules), **command)).outcome
    assert isinstance(outcome, Granted) and (outcome.generation == 0) == has_refresh


def test_a_client_for_itself_gets_no_id_token() -> None:
    """OpenID Connect Core §2, RFC 6749 §4.4: an ID token is about a person; the log has none either."""
    rules = replace(RULES, scope="openid read")
    for grant, given_out in ((CLIENT_GRANT, ["access"]), ("issue", ["access", "id"])):
        events = issue(None, issuing(rules, grant=grant)).events
        assert [event.kind for event in events if isinstance(event, TokenIssued)] == given_out


def test_a_family_is_revoked_once_and_by_its_owner() -> None:
    """RFC 7009: repeating it changes nothing, another client ends nothing, an operator needs no ownership."""
    state = given(opened())
    mine = RevokeRefreshToken("web", 0, "a test")
    revoked = revoke_refresh_token(state, mine)
    assert revoked == Decision(Done(), (FamilyRevoked("client_request", "a test"),))
    assert revoke_refresh_token(fold(state, revoked.events, at(1)), mine) == Decision(Done())
    assert revoke_refresh_token(state, mine._replace(client_id="thief")) == Decision(Done())
    assert len(revoke(state, Revoke("operator", "a test")).events) == 1
    assert revoke_refresh_token(None, mine) == Decision(Done())


def test_a_forged_token_is_recorded_at_every_endpoint() -> None:
    """CONTRACT §3.7: an authentic token of a generation that never existed, also if the family has no refresh token."""
    without_any = given(tuple(event for event in opened() if getattr(event, "kind", None) != "refresh"))
    for state, generation in ((given(opened()), 1), (without_any, 0)):
        at_token = redeem(state, redeeming(generation, 1))
        at_revoke = revoke_refresh_token(state, RevokeRefreshToken("web", generation, "a test"))
        for decision in (at_token, at_revoke):
            assert [type(event) for event in decision.events] == [ForgeryDetected, FamilyRevoked]
        assert isinstance(at_revoke.outcome, Done), "a revocation discloses nothing (RFC 7009 §2.2)"


APART = timedelta(seconds=60)
"""The tolerated difference of two replicas' clocks."""


def revoking(jti: str, seconds: float, client_id: str = "web") -> RevokeAccessToken:
    """The revocation of an access token by its holder; it expires five minutes after the start."""
    actors = () if client_id == "web" else (client_id,)
    token = claimed("alice", client_id, jti, "read", actors)
    return RevokeAccessToken(at(seconds), client_id, token, at(300), APART, "a test")


def revoked(state: FamilyState, count: int, client_id: str = "web") -> FamilyState:
    """The family after `count` tokens of the holder were revoked one by one, a second after the start."""
    for number in range(count):
        decision = revoke_access_token(state, revoking(f"{client_id}-{number}", 1, client_id))
        assert [type(event) for event in decision.events] == [TokenRevoked]
        state = fold(state, decision.events, at(1))
    return state


def test_single_revocations_are_bounded() -> None:
    """Every commit contains the state; beyond the bound a revocation by the family's client ends the family."""
    state = revoked(given(opened()), MAX_REVOKED_TOKENS)
    one_more = revoke_access_token(state, revoking("one more", 2))
    assert one_more == Decision(Done(), (FamilyRevoked("client_request", "a test"),))
    assert revoke_access_token(state, revoking("web-0", 2)) == Decision(Done())
    later = revoking("later", 360)._replace(expires_at=at(600))
    assert set(fold(state, revoke_access_token(state, later).events, at(360)).revoked_jtis) == {"later"}


def test_others_revocations_do_not_use_up_the_clients_own() -> None:
    """Services that revoke many exchanged tokens are refused at their bound; the family's client is not."""
    state = revoked(given(opened()), MAX_REVOKED_BY_OTHERS, "orders")
    for service in ("orders", "billing"):
        decision = revoke_access_token(state, revoking("one more", 2, service))
        assert refusal(decision) == "temporarily_unavailable" and not decision.events
        assert isinstance(decision.outcome, Refused) and "one by one" in decision.outcome.error.description
    assert revoked(state, MAX_REVOKED_TOKENS - MAX_REVOKED_BY_OTHERS).revoked is None


def test_one_access_token_is_revoked_alone_and_forgotten_after_its_expiry() -> None:
    """RFC 7009 §2.1: the family stays, and the list holds only tokens that could still be valid."""
    state = given(opened())
    first = revoke_access_token(state, revoking("jti-0", 1))
    assert first == Decision(Done(), (TokenRevoked("jti-0", at(300), kept_until=at(300) + APART),))
    state = fold(state, first.events, at(1))
    assert state.revoked is None and set(state.revoked_jtis) == {"jti-0"}
    assert revoke_access_token(state, revoking("jti-0", 2)).events == ()
    later = revoke_access_token(state, revoking("jti-9", 400)._replace(expires_at=at(700)))
    assert set(fold(state, later.events, at(400)).revoked_jtis) == {"jti-9"}


@pytest.mark.parametrize(
    ("changes", "asked", "answer"),
    [
        ({"scope": "read offline_access"}, None, "read offline_access"),
        ({"scope": "read offline_access"}, "write", "invalid_scope"),
        ({"scope": "offline_access read more"}, None, "read offline_access"),
        ({"scope": "read write"}, None, "invalid_grant"),
        ({"scope": "read", "require_offline_access": False}, None, "read"),
        ({"scope": "more", "require_offline_access": False}, None, "invalid_grant"),
        ({"grant_types": ("client_credentials",)}, None, "invalid_grant"),
        ({"audiences": ("https://elsewhere.example",)}, None, "invalid_target"),
        ({"required_acr": ("gold",)}, None, "invalid_grant"),
    ],
)
def test_a_grant_gives_no_more_than_its_client_may_have_now(
    changes: dict[str, Any], asked: str | None, answer: str
) -> None:
    """RFC 6749 §6, RFC 7591 §2, RFC 7662 §2.2: a token is active only if a refresh would succeed."""
    state, rules = given(opened()), replace(RULES, **changes)
    decision = redeem(state, redeeming(0, rules=rules, scope=asked))
    if isinstance(decision.outcome, Granted):
        assert decision.outcome.access.scope == answer and is_accepted(state, rules, at(1))
        return
    assert refusal(decision) == answer
    assert is_accepted(state, rules, at(1)) == (asked is not None)
    revoked = [type(event) for event in decision.events]
    assert revoked == ([FamilyRevoked] if "required_acr" in changes else []), "no other refusal appends anything"
