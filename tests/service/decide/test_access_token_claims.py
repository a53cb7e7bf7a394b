"""Given a family, when a token comes that its key signed, then it counts for no more than the log bears out."""

from datetime import timedelta

import msgspec
import pytest
from msgspec.structs import replace

from events.aggregates.family import DeviceAuthorizationStarted, FamilyRevoked, TokenIssued, TokenRevoked
from service.access_tokens.recognise import Claims
from service.decide.access_token_claims import AccessTokenClaims, is_revoked, matches
from service.decide.decision import Decision, Done, Granted, Refused
from service.decide.revocation import RevokeAccessToken, revoke_access_token
from service.decide.token_exchange import exchange
from tests.service.decide.given import RULES, at, claimed, exchanging, given, opened

GENUINE = claimed("alice", "web", "an earlier one", "read write")
EXCHANGED = claimed("alice", "orders", "exchanged", "read", ("orders", "web"))
FORGED = [
    GENUINE._replace(vouched=lambda _seed: False),
    GENUINE._replace(jti="jti-0", vouched=lambda seed: seed == "another family's"),
    EXCHANGED._replace(vouched=lambda _seed: False),
    GENUINE._replace(sub="mallory"),
    GENUINE._replace(client_id="orders"),
    GENUINE._replace(scope="root admin"),
    GENUINE._replace(scope="read root"),
    EXCHANGED._replace(client_id="billing"),
    EXCHANGED._replace(scope="read root"),
    EXCHANGED._replace(jti="jti-0"),  # the latest is the family's own
]


def refusal(decision: Decision) -> str:
    assert isinstance(decision.outcome, Refused) and not decision.events
    return decision.outcome.error.code


@pytest.mark.parametrize("genuine", [GENUINE, EXCHANGED, GENUINE._replace(jti="jti-0"), GENUINE._replace(scope="")])
def test_what_the_family_gave_is_borne_out(genuine: AccessTokenClaims) -> None:
    """Its client's, the latest and earlier ones, and those that others exchanged."""
    assert matches(given(opened()), genuine)


@pytest.mark.parametrize("forged", FORGED)
def test_what_the_family_cannot_have_given_is_good_for_nothing(forged: AccessTokenClaims) -> None:
    """No exchange makes a genuine token of it, and it ends nobody else's; whoever presents it is told nothing."""
    state = given(opened())
    assert not matches(state, forged)
    mine = exchanging(forged, forged.scope, client_id=forged.client_id)
    assert refusal(exchange(state, mine)) == "invalid_request"
    revoking = RevokeAccessToken(at(1), forged.client_id, forged, at(300), timedelta(0), "a test")
    assert revoke_access_token(state, revoking) == Decision(Done())


def test_the_latest_token_has_the_scope_it_was_given_with() -> None:
    """A narrower one than the family's."""
    narrower = given(opened(), (TokenIssued("access", "read", ("aud",), at(300), jti="latest"),))
    assert matches(narrower, GENUINE._replace(jti="latest", scope="read"))
    assert not matches(narrower, GENUINE._replace(jti="latest"))
    assert matches(narrower, GENUINE), "an earlier one may have had all of the family's"


def test_a_family_that_has_given_nothing_bears_nothing_out() -> None:
    """A device that waits has no person yet, whose name could be told wrong."""
    waiting = given((DeviceAuthorizationStarted("web", "read write", (), "seed", at(600)),))
    assert not matches(waiting, GENUINE._replace(sub=""))


def test_an_exchange_gives_no_more_than_the_subject_token_has() -> None:
    """RFC 8693 §2.1: the scope asked for, or all that the subject token has; it ends no later."""
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
            exchanged_from=(GENUINE.jti,),
        )
        assert decision.events == (issued,)
    assert refusal(exchange(state, exchanging(GENUINE, "offline_access"))) == "invalid_scope"


def test_what_was_exchanged_dies_with_what_it_came_of() -> None:
    """RFC 7009 §2.1, RFC 8693 §2.2.1: whichever of the tokens before it is revoked; the others of the family live."""
    twice = claimed("alice", "billing", "twice", "read", ("billing", "orders"), exchanged_from=("once", GENUINE.jti))
    once = claimed("alice", "orders", "once", "read", ("orders",), exchanged_from=(GENUINE.jti,))
    for revoked, dead in ((GENUINE.jti, (once, twice)), ("once", (once, twice)), ("twice", (twice,)), ("else", ())):
        state = given(opened(), (TokenRevoked(revoked, at(300)),))
        for token in (once, twice):
            assert is_revoked(state, token) == (token in dead)
            answer = exchange(state, exchanging(token, rules=replace(RULES, may_exchange=("orders", "billing"))))
            assert isinstance(answer.outcome, Refused if token in dead else Granted)
    (issued,) = exchange(given(opened()), exchanging(once)).events
    assert isinstance(issued, TokenIssued) and issued.exchanged_from == ("once", GENUINE.jti)


def test_a_dead_subject_token_is_exchanged_no_more() -> None:
    """Expired, revoked alone or with its family, or of no family: all the same answer."""
    alone = given(opened(), (TokenRevoked(GENUINE.jti, at(300)),))
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
def test_claims_of_another_form_are_none(changes: dict[str, object]) -> None:
    """Before anything is made of them: no family has such a name, and no moment such a number."""
    claims: dict[str, object] = {"iss": "acme", "sub": "alice", "aud": "x", "client_id": "web", "iat": 0, "exp": 1}
    claims |= {"jti": "j", "sid": "family", "scope": "read", "act": {"sub": "orders", "act": {"sub": "web"}}}
    assert msgspec.convert(claims, Claims).actors == ("orders", "web")
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(claims | changes, Claims)
