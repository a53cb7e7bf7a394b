"""An access token with a valid signature counts only as far as its family in the log confirms it."""

from datetime import timedelta

import msgspec
import pytest
from msgspec.structs import replace

from events.aggregates.family_events import DeviceAuthorizationStarted, FamilyRevoked, TokenIssued, TokenRevoked
from service.decide.access_token_claims import AccessTokenClaims, PresentedAccessToken, is_revoked, matches
from service.decide.decision import Decision, Done, Granted, Refused
from service.decide.revocation import RevokeAccessToken, revoke_access_token
from service.decide.token_exchange import exchange
from tests.service.decide.given import RULES, altered, at, claimed, exchanging, given, opened

GENUINE = claimed("alice", "web", "an earlier one", "read write")
EXCHANGED = claimed("alice", "orders", "exchanged", "read", ("orders", "web"))
FORGED = [
    GENUINE._replace(vouched=lambda _seed: False),
    altered(GENUINE, jti="jti-0")._replace(vouched=lambda seed: seed == "another family's"),
    EXCHANGED._replace(vouched=lambda _seed: False),
    altered(GENUINE, sub="mallory"),
    altered(GENUINE, client_id="orders"),
    altered(GENUINE, scope="root admin"),
    altered(GENUINE, scope="read root"),
    altered(EXCHANGED, client_id="billing"),
    altered(EXCHANGED, scope="read root"),
    altered(EXCHANGED, jti="jti-0"),  # the latest one was issued to the family's own client
]


def refusal(decision: Decision) -> str:
    assert isinstance(decision.outcome, Refused) and not decision.events
    return decision.outcome.error.code


@pytest.mark.parametrize("genuine", [GENUINE, EXCHANGED, altered(GENUINE, jti="jti-0"), altered(GENUINE, scope="")])
def test_the_tokens_of_a_family_match_it(genuine: PresentedAccessToken) -> None:
    """Those of its own client, the latest and earlier ones, and exchanged ones."""
    assert matches(given(opened()), genuine)


@pytest.mark.parametrize("forged", FORGED)
def test_a_token_that_the_family_cannot_have_issued_is_void(forged: PresentedAccessToken) -> None:
    """It can be exchanged for no token, it ends no family, and its presenter learns nothing."""
    state = given(opened())
    assert not matches(state, forged)
    mine = exchanging(forged, forged.claims.scope, client_id=forged.claims.client_id)
    assert refusal(exchange(state, mine)) == "invalid_request"
    revoking = RevokeAccessToken(at(1), forged.claims.client_id, forged, at(300), timedelta(0), "a test")
    assert revoke_access_token(state, revoking) == Decision(Done())


def test_the_latest_token_has_the_scope_it_was_issued_with() -> None:
    """It may be narrower than the family's."""
    narrower = given(opened(), (TokenIssued("access", "read", ("aud",), at(300), jti="latest"),))
    assert matches(narrower, altered(GENUINE, jti="latest", scope="read"))
    assert not matches(narrower, altered(GENUINE, jti="latest"))
    assert matches(narrower, GENUINE), "an earlier one may have had the family's scope"


def test_a_family_without_tokens_matches_none() -> None:
    """For example a waiting device, which has no person yet."""
    waiting = given((DeviceAuthorizationStarted("web", "read write", (), "seed", at(600)),))
    assert not matches(waiting, altered(GENUINE, sub=""))


def test_an_exchange_issues_no_more_than_the_subject_token_has() -> None:
    """RFC 8693 §2.1: the requested scope, or all of the subject token's; it expires no later."""
    state = given(opened())
    for scope, given_scope in ((None, "read write"), ("read", "read")):
        decision = exchange(state, exchanging(GENUINE, scope))
        assert isinstance(decision.outcome, Granted) and decision.outcome.access.scope == given_scope
        issued = TokenIssued(
            "access",
            given_scope,
            ("bank",),
            at(300),
            jti="new",
            client_id="orders",
            act=("orders",),
            exchanged_from=(GENUINE.claims.jti,),
        )
        assert decision.events == (issued,)
    assert refusal(exchange(state, exchanging(GENUINE, "offline_access"))) == "invalid_scope"


def test_an_exchanged_token_is_revoked_with_any_token_it_came_from() -> None:
    """RFC 7009 §2.1, RFC 8693 §2.2.1: the other tokens of the family stay valid."""
    twice = claimed(
        "alice", "billing", "twice", "read", ("billing", "orders"), exchanged_from=("once", GENUINE.claims.jti)
    )
    once = claimed("alice", "orders", "once", "read", ("orders",), exchanged_from=(GENUINE.claims.jti,))
    for revoked, dead in (
        (GENUINE.claims.jti, (once, twice)),
        ("once", (once, twice)),
        ("twice", (twice,)),
        ("else", ()),
    ):
        state = given(opened(), (TokenRevoked(revoked, at(300)),))
        for token in (once, twice):
            assert is_revoked(state, token) == (token in dead)
            answer = exchange(state, exchanging(token, rules=replace(RULES, may_exchange=("orders", "billing"))))
            assert isinstance(answer.outcome, Refused if token in dead else Granted)
    (issued,) = exchange(given(opened()), exchanging(once)).events
    assert isinstance(issued, TokenIssued) and issued.exchanged_from == ("once", GENUINE.claims.jti)


def test_a_dead_subject_token_cannot_be_exchanged() -> None:
    """Expired, revoked alone or with its family, or of no family: the answer is the same."""
    alone = given(opened(), (TokenRevoked(GENUINE.claims.jti, at(300)),))
    ended = given(opened(), (FamilyRevoked("operator", "a test"),))
    for state, seconds in ((given(opened()), 300), (alone, 1), (ended, 1), (None, 1)):
        assert refusal(exchange(state, exchanging(GENUINE, "root", seconds))) == "invalid_request"


@pytest.mark.parametrize(
    "changes",
    [
        {"sid": "*"},
        {"sid": "family\n"},
        {"exp": 1 << 60},
        {"act": {"act": {"sub": "web"}}},
        {"act": {"sub": "orders", "act": "web"}},
    ],
)
def test_claims_of_another_form_are_refused(changes: dict[str, object]) -> None:
    """They are refused while they are decoded: no family has such a name, and no expiry such a number."""
    claims: dict[str, object] = {"iss": "acme", "sub": "alice", "aud": "x", "client_id": "web", "iat": 0, "exp": 1}
    claims |= {"jti": "j", "sid": "family", "scope": "read", "act": {"sub": "orders", "act": {"sub": "web"}}}
    assert msgspec.convert(claims, AccessTokenClaims).actors == ("orders", "web")
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(claims | changes, AccessTokenClaims)
