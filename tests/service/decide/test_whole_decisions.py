"""One decision of each kind compared completely: every field of its events and its outcome."""

from typing import Any

import pytest
from msgspec.structs import replace

from events.aggregates.family import CLIENT_GRANT, AccessToken, FamilyState, fold
from events.aggregates.family_events import (
    AuthorizationCodeIssued,
    FamilyEvent,
    FamilyRevoked,
    ForgeryDetected,
    GrantAuthorized,
    TokenIssued,
    TokenRedeemed,
    TokenReuseDetected,
    TokenRotated,
)
from service.decide.authorization_code import Authorize, authorize, redeem_code
from service.decide.decision import Decision, Done, Granted, Refused
from service.decide.issue import issue
from service.decide.policy import Rules
from service.decide.refresh_token import redeem
from service.decide.token_exchange import exchange
from tests.service.decide.given import (
    CHALLENGE,
    KEY,
    RULES,
    at,
    claimed,
    exchanging,
    given,
    issuing,
    opened,
    redeeming,
    redeeming_code,
)

SCOPE = "read openid offline_access"
WIDE = replace(RULES, scope=SCOPE, refresh_token_ttl=2000, refresh_token_idle_ttl=1000)
A, B = "https://a.example", "https://b.example"
HOW: dict[str, Any] = {"acr": "mfa", "amr": ("pwd", "otp"), "auth_time": 7}


def access(
    jti: str, now: float, scope: str = SCOPE, audience: tuple[str, ...] = (A, B)
) -> tuple[AccessToken, TokenIssued]:
    """An access token of five minutes; it expires in the second after a promise of 300 s."""
    ends = at(now + 301)
    return AccessToken(jti, scope, audience, at(now), ends), TokenIssued("access", scope, audience, ends, jti=jti)


def refresh(now: float, key: int) -> TokenIssued:
    """The first refresh token, idle for at most 1,000 s, of a family of 2,000 s."""
    return TokenIssued("refresh", SCOPE, (A, B), at(now + 1000), generation=0, key=key, family_expires_at=at(2000))


def an_id(jti: str, now: float) -> TokenIssued:
    """An ID token, meant for the client (OpenID Connect Core §2)."""
    return TokenIssued("id", "openid", ("web",), at(now + 301), jti=jti)


def test_a_family_begins() -> None:
    """Grant, refresh token, access token and ID token, in this order."""
    decision = issue(None, issuing(WIDE, audience=(A, B), key=5, **HOW))
    token, issued = access("jti-0", 0)
    grant = GrantAuthorized("web", "alice", SCOPE, (A, B), "issue", "seed", **HOW)
    assert decision == Decision(Granted(token, 0, 5), (grant, refresh(0, 5), issued, an_id("jti-0", 0)))


def test_a_grant_without_a_person_or_offline_access_gets_no_refresh_token() -> None:
    """RFC 6749 §4.4.3; OpenID Connect Core §11."""
    for fields, ids in (({"grant": CLIENT_GRANT}, 0), ({"scope": "read openid"}, 1), ({"scope": "read"}, 0)):
        decision = issue(None, issuing(WIDE, **fields))
        assert isinstance(decision.outcome, Granted) and decision.outcome.generation is None
        kinds = [event.kind for event in decision.events if isinstance(event, TokenIssued)]
        assert kinds == ["access", *["id"] * ids]
    for rules in (replace(WIDE, refresh_token_ttl=0), replace(WIDE, grant_types=())):
        assert [event.kind for event in issue(None, issuing(rules)).events if isinstance(event, TokenIssued)] == [
            "access",
            "id",
        ]
    never_idle = issue(None, issuing(replace(WIDE, refresh_token_idle_ttl=0))).events[1]
    assert isinstance(never_idle, TokenIssued) and never_idle.expires_at == at(2000)


def code_family() -> tuple[FamilyEvent, ...]:
    """The events that `authorize` begins a family with."""
    grant = GrantAuthorized("web", "alice", SCOPE, (A, B), "authorization_code", "seed", **HOW)
    return grant, AuthorizationCodeIssued(at(60), CHALLENGE, "https://web.example/cb", "nonce")


def test_a_family_begins_with_a_code() -> None:
    """RFC 6749 §4.1.2, RFC 7636 §4.4: it is bound to challenge, redirection and nonce, for a minute."""
    grant, code = code_family()
    assert isinstance(grant, GrantAuthorized)
    command = Authorize(at(0), grant, CHALLENGE, "https://web.example/cb", "nonce")
    assert authorize(None, command) == Decision(Done(), (grant, code))


@pytest.mark.parametrize("begin", ["issue", "authorize"])
def test_a_new_family_takes_no_existing_id(begin: str) -> None:
    """Ids are random, so this does not happen; if it did, the request would be refused."""
    grant = code_family()[0]
    assert isinstance(grant, GrantAuthorized)
    decision = (
        issue(given(opened()), issuing())
        if begin == "issue"
        else authorize(given(opened()), Authorize(at(0), grant, CHALLENGE, None, None))
    )
    assert isinstance(decision.outcome, Refused) and decision.events == ()
    assert decision.outcome.error.code == "server_error"
    assert decision.outcome.error.description == "the new family's id is taken; try again"


@pytest.mark.parametrize(
    "large",
    [
        {"sub": "a" * 4000},
        {"scope": "a" * 4000},
        {"audience": ("a" * 4000,)},
        {"acr": "a" * 4000},
        {"amr": ("a" * 4000,)},
    ],
    ids=lambda large: next(iter(large)),
)
def test_a_grant_too_large_for_a_token_is_refused(large: dict[str, Any]) -> None:
    """CONTRACT §2: whichever part is too large."""
    fields = {"scope": SCOPE, "sub": "alice", "audience": (A,), "acr": None, "amr": ()} | large
    grant = GrantAuthorized("web", grant="authorization_code", seed="seed", **fields)
    for decision in (
        issue(None, issuing(WIDE, **fields)),
        authorize(None, Authorize(at(0), grant, CHALLENGE, None, None)),
    ):
        assert isinstance(decision.outcome, Refused) and decision.outcome.error.code == "invalid_request"
        assert decision.events == ()


def test_a_code_is_redeemed() -> None:
    """For one of two resources; the family's expiry counts from its beginning."""
    command = redeeming_code(
        10, rules=WIDE, redirect_uri="https://web.example/cb", resource=(B,), retry=KEY, jti="jti", key=5
    )
    token, issued = access("jti", 10, audience=(B,))
    assert redeem_code(given(code_family()), command) == Decision(
        Granted(token, 0, 5), (TokenRedeemed(0, "authorization_code", KEY), refresh(10, 5), issued, an_id("jti", 10))
    )


def test_a_refresh_token_rotates() -> None:
    """The new tokens have the requested scope and resource, and the event a family expiry only if it changed."""
    state = given((code_family()[0], refresh(0, 5), access("jti-0", 0)[1]))
    command = redeeming(0, 10, rules=WIDE, scope="read openid", resource=(B,), retry=KEY, key=6)
    token, issued = access("jti-1", 10, "read openid", (B,))
    redeemed = TokenRedeemed(0, "refresh_token", KEY)
    assert redeem(state, command) == Decision(
        Granted(token, 1, 6), (redeemed, TokenRotated(0, 1, at(1010), 6), issued, an_id("jti-1", 10))
    )
    sooner = redeem(state, command._replace(rules=replace(WIDE, refresh_token_ttl=500)))
    assert sooner.events[1] == TokenRotated(0, 1, at(500), 6, at(500))


def test_a_refresh_token_stays() -> None:
    """Policy `reuse`: the text and so its MAC key stay; its idle time restarts."""
    state = given((code_family()[0], refresh(0, 5), access("jti-0", 0)[1]))
    decision = redeem(state, redeeming(0, 10, rules=replace(WIDE, refresh_token_rotation="reuse"), retry=KEY, key=6))
    token, issued = access("jti-1", 10)
    assert decision.outcome == Granted(token, 0, 5)
    redeemed, *others = decision.events
    assert redeemed == TokenRedeemed(0, "refresh_token", KEY, at(1010))
    assert others == [issued, an_id("jti-1", 10)]


GRACEFUL = replace(WIDE, refresh_token_grace=10)


def rotated(rules: Rules = GRACEFUL, **asked: Any) -> FamilyState:
    """The family whose first refresh token was redeemed ten seconds after the start, under key 6."""
    state = given((code_family()[0], refresh(0, 5), access("jti-0", 0)[1]))
    return fold(state, redeem(state, redeeming(0, 10, rules=rules, key=6, **asked)).events, at(10))


def test_a_repetition_with_a_narrower_scope() -> None:
    """CONTRACT §3.3: the existing successor, a second access token beside the first, and an ID token."""
    asked = redeeming(0, 12, rules=GRACEFUL, scope="read openid", resource=(B,), jti="beside", key=7)
    token, issued = access("beside", 12, "read openid", (B,))
    beside = replace(issued, client_id="web")
    assert redeem(rotated(), asked) == Decision(Granted(token, 1, 6), (beside, an_id("beside", 12)))
    target = redeem(rotated(), asked._replace(scope=None)).outcome
    assert isinstance(target, Granted) and target.access.audience == (B,)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"scope": "admin"}, "invalid_scope"),
        ({"resource": ("https://c.example",)}, "invalid_target"),
        ({"rules": replace(GRACEFUL, scope="read")}, "invalid_grant"),
    ],
    ids=["scope", "target", "grant"],
)
def test_a_repetition_with_a_wider_scope_is_refused(fields: dict[str, Any], code: str) -> None:
    """It ends no family."""
    decision = redeem(rotated(), redeeming(0, 12, **({"rules": GRACEFUL} | fields)))
    assert refused(decision) == (code,)


def test_a_repetition_keeps_a_sticky_scope() -> None:
    """CONTRACT §4 `scope_narrowing`: without a requested scope it gets that of the redemption."""
    sticky = replace(GRACEFUL, scope_narrowing="sticky")
    state = rotated(sticky, scope="read")
    assert redeem(state, redeeming(0, 12, rules=sticky)) == Decision(Granted(access("jti-1", 10, "read")[0], 1, 6))


def refused(decision: Decision) -> tuple[str | FamilyEvent, ...]:
    """The code of the refusal, and its events."""
    assert isinstance(decision.outcome, Refused)
    return decision.outcome.error.code, *decision.events


def test_a_reuse_is_recorded_completely() -> None:
    """CONTRACT §3.2, §3.5: the presented and the newest generation, the client, and why the family ended."""
    state = rotated(WIDE)
    reuse = TokenReuseDetected(0, 1, "web")
    decision = redeem(state, redeeming(0, 12))
    assert refused(decision) == ("invalid_grant", reuse, FamilyRevoked("reuse_detected", "a test"))
    ended = fold(state, decision.events, at(12))
    for generation, recorded in ((0, (reuse,)), (1, ()), (7, (ForgeryDetected(7, 1, "web"),))):
        assert refused(redeem(ended, redeeming(generation, 13))) == ("invalid_grant", *recorded)


def test_a_forgery_is_recorded_completely() -> None:
    """CONTRACT §3.7: the client, and the request that ended the family."""
    forgery = ForgeryDetected(5, 0, "web"), FamilyRevoked("forgery", "a test")
    assert refused(redeem(given(opened()), redeeming(5))) == ("invalid_grant", *forgery)


def test_a_retry_of_half_a_redemption_is_refused() -> None:
    """Only a log of another writer contains such a state."""
    half = replace(given(opened()), access=None, retry=KEY)
    assert refused(redeem(half, redeeming(0, retry=KEY))) == ("invalid_grant",)


def test_a_token_is_exchanged() -> None:
    """RFC 8693 §2.2.1: client, audience and origin of the token; it never expires after the subject token."""
    subject = claimed("alice", "web", "an earlier one", "read write", exchanged_from=("the first",))
    decision = exchange(
        given(opened()),
        exchanging(subject, "read", 10, rules=replace(RULES, may_exchange=("web",), access_token_ttl=60)),
    )
    token = AccessToken("new", "read", ("bank",), at(10), at(71))
    came_of = ("an earlier one", "the first")
    issued = TokenIssued(
        "access", "read", ("bank",), at(71), jti="new", client_id="orders", act=("orders",), exchanged_from=came_of
    )
    assert decision == Decision(Granted(token, None, 0), (replace(issued, exchanged_from=came_of),))
    late = exchange(given(opened()), exchanging(subject, "read", 299)).outcome
    assert isinstance(late, Granted) and late.access.expires_at == at(300)
    over = exchange(given(opened()), exchanging(subject, "read", 300)).outcome
    assert isinstance(over, Refused)
    assert over.error.description == "the subject_token is not valid (RFC 8693 section 2.2.2)"
