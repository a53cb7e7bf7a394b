"""Authorization codes, device codes and their lifetimes."""

from dataclasses import dataclass
from typing import Any, Literal

import pytest
from msgspec.structs import replace

from events.aggregates.family import DEVICE_GRANT, AccessToken, FamilyState, fold
from events.aggregates.family_events import (
    AuthorizationCodeIssued,
    DeviceAuthorizationDenied,
    DeviceAuthorizationStarted,
    FamilyEvent,
    FamilyRevoked,
    GrantAuthorized,
    Retry,
    TokenRedeemed,
    TokenReuseDetected,
)
from service.decide.authorization_code import (
    CODE_SECONDS,
    redeem_code,
    redeem_device_code,
    s256,
)
from service.decide.decision import Decision, Done, Granted, Refused
from service.decide.device_authorization import DEVICE_CODE_SECONDS, answer_device, still_may
from service.decide.policy import Rules
from service.decide.refresh_token import redeem
from tests.service.decide.given import (
    CHALLENGE,
    KEY,
    RULES,
    answering,
    at,
    given,
    redeeming,
    redeeming_code,
    redeeming_device_code,
)

SCOPE = "read offline_access"
AUDIENCE = ("https://acme.example",)


def granted(grant: str) -> GrantAuthorized:
    return GrantAuthorized("web", "alice", SCOPE, AUDIENCE, grant, "seed")


def with_code() -> FamilyState:
    code = AuthorizationCodeIssued(at(CODE_SECONDS), CHALLENGE)
    events: tuple[FamilyEvent, ...] = (granted("authorization_code"), code)
    return given(events)


def with_device(*, approved_after: float | None) -> FamilyState:
    state = given((DeviceAuthorizationStarted("web", SCOPE, AUDIENCE, "seed", at(DEVICE_CODE_SECONDS)),))
    return state if approved_after is None else fold(state, (granted(DEVICE_GRANT),), at(approved_after))


def code_at(state: FamilyState, seconds: float) -> Decision:
    return redeem_code(state, redeeming_code(seconds))


def device_at(state: FamilyState | None, seconds: float) -> Decision:
    return redeem_device_code(state, redeeming_device_code(seconds))


def refusal(decision: Decision) -> str:
    assert isinstance(decision.outcome, Refused) and decision.events == ()
    return decision.outcome.error.code


def test_an_authorization_code_expires() -> None:
    """RFC 6749 §4.1.2: it is valid before its expiry, and `invalid_grant` from then on."""
    assert isinstance(code_at(with_code(), CODE_SECONDS - 0.1).outcome, Granted)
    assert refusal(code_at(with_code(), CODE_SECONDS)) == "invalid_grant"


@pytest.mark.parametrize("approved_after", [None, 10])
def test_a_device_code_expires(approved_after: float | None) -> None:
    """RFC 8628 §3.5 `expired_token`, approved or not."""
    state = with_device(approved_after=approved_after)
    assert refusal(device_at(state, DEVICE_CODE_SECONDS)) == "expired_token"


def test_a_late_approval_of_a_device_is_refused() -> None:
    """RFC 8628 §3.3: the code has expired."""
    answer = answering(now=at(DEVICE_CODE_SECONDS))
    assert refusal(answer_device(with_device(approved_after=None), answer)) == "invalid_grant"


@dataclass
class Idle:
    """A family redeemed after `redeemed` seconds; refresh tokens may be idle for 30 seconds."""

    state: FamilyState
    redeemed: float


@pytest.mark.parametrize(
    "idle", [Idle(with_code(), 50), Idle(with_device(approved_after=10), 500)], ids=["code", "device"]
)
def test_idle_time_counts_from_the_redemption_of_the_code(idle: Idle) -> None:
    """CONTRACT §4 `refresh_token_idle_ttl`: a late redemption shortens no refresh token."""
    redeemed = code_at if idle.state.device is None else device_at
    rules = replace(RULES, refresh_token_idle_ttl=30)
    state = fold(idle.state, redeemed(idle.state, idle.redeemed).events, at(idle.redeemed))
    assert isinstance(redeem(state, redeeming(0, idle.redeemed + 29, rules=rules)).outcome, Granted)
    assert refusal(redeem(state, redeeming(0, idle.redeemed + 30, rules=rules))) == "invalid_grant"


def polled(state: FamilyState, seconds: float, rules: Rules, **more: Any) -> Decision:
    return redeem_device_code(state, redeeming_device_code(seconds, rules=rules, jti="another", **more))


def tokens_of(decision: Decision) -> tuple[AccessToken, int | None]:
    assert isinstance(decision.outcome, Granted)
    return decision.outcome.access, decision.outcome.generation


def test_polling_again_after_the_tokens_ends_no_family() -> None:
    """RFC 8628 §3.5: the answer may be lost. It is refused without a commit, also after many rotations."""
    state = with_device(approved_after=10)
    state = fold(state, device_at(state, 20).events, at(20))
    assert refusal(polled(state, 21, RULES)) == "invalid_grant"
    for generation in range(3):
        state = fold(state, redeem(state, redeeming(generation, 30)).events, at(30))
    assert refusal(polled(state, 31, RULES)) == "invalid_grant"


@pytest.mark.parametrize("scope", [SCOPE, "read"], ids=["refresh token", "none"])
def test_polling_again_within_the_grace_time_gets_the_same_tokens(scope: str) -> None:
    """RFC 8628 §3.5, CONTRACT §3: from the first possible answer until its refresh token is presented."""
    graceful = replace(RULES, refresh_token_grace=10)
    state = with_device(approved_after=10)
    state = replace(state, scope=scope)
    first = device_at(state, 20)
    state = fold(state, first.events, at(20))
    assert tokens_of(polled(state, 29.9, graceful)) == tokens_of(first)
    assert refusal(polled(state, 30, graceful)) == "invalid_grant"
    assert tokens_of(polled(state, 39.9, graceful, answered_at=at(30))) == tokens_of(first)
    if scope == SCOPE:
        assert refusal(polled(state, 21, replace(graceful, refresh_token_rotation="reuse"))) == "invalid_grant"
        state = fold(state, redeem(state, redeeming(0, 22)).events, at(22))
        assert refusal(polled(state, 23, graceful)) == "invalid_grant"


def redeemed(retry: Retry | None, seconds: float, presented: FamilyState) -> Decision:
    return redeem_code(presented, redeeming_code(seconds, retry=retry, jti=f"jti-{seconds}"))


@pytest.mark.parametrize("other", [None, Retry("another", KEY.body)], ids=["no key", "another key"])
def test_a_code_redeemed_again_under_another_key_ends_its_family(other: Retry | None) -> None:
    """RFC 6749 §4.1.2, CONTRACT §2: only the Idempotency-Key of the redemption makes the second one a retry."""
    state = fold(with_code(), redeemed(KEY, 1, with_code()).events, at(1))
    assert isinstance(redeemed(KEY, 2, state).outcome, Granted)
    again = redeemed(other, 2, state)
    assert isinstance(again.outcome, Refused) and again.outcome.error.code == "invalid_grant"
    assert again.events == (
        TokenReuseDetected(0, 0, "web", "authorization_code"),
        FamilyRevoked("code_reuse", "a test"),
    )


@pytest.mark.parametrize("rotation", ["rotate", "reuse"])
@pytest.mark.parametrize("body", [KEY.body, "something else"], ids=["same", "other"])
def test_the_key_of_a_refresh_excuses_no_reuse_of_the_code(body: str, rotation: Literal["rotate", "reuse"]) -> None:
    """RFC 6749 §4.1.2, CONTRACT §2, §3: the key of the latest refresh is not the key of the redemption."""
    state = fold(with_code(), redeemed(Retry("first", KEY.body), 1, with_code()).events, at(1))
    rules = replace(RULES, refresh_token_rotation=rotation)
    for key in ("second", KEY.key):
        command = redeeming(state.generation or 0, 2, rules, retry=Retry(key, KEY.body))
        state = fold(state, redeem(state, command).events, at(2))
    assert state.retry == KEY
    for retry in (Retry(KEY.key, body), Retry("first", body)):
        again = redeemed(retry, 5, state)
        assert isinstance(again.outcome, Refused) and again.outcome.error.code == "invalid_grant"
        assert again.events == (
            TokenReuseDetected(0, state.generation or 0, "web", "authorization_code"),
            FamilyRevoked("code_reuse", "a test"),
        )


def test_the_same_key_with_another_body_is_an_invalid_request_for_a_code() -> None:
    """CONTRACT §2: it ends no family."""
    state = fold(with_code(), redeemed(KEY, 1, with_code()).events, at(1))
    assert refusal(redeemed(Retry(KEY.key, "something else"), 2, state)) == "invalid_request"


A, B = "https://a.example", "https://b.example"


WAITING = DeviceAuthorizationStarted("web", SCOPE, (A, B), "seed", at(DEVICE_CODE_SECONDS))


@pytest.mark.parametrize("waiting", [None, WAITING], ids=["in the log", "in memory"])
@pytest.mark.parametrize("approved", [True, False])
@pytest.mark.parametrize("answered", [True, False])
def test_an_answer_revives_no_revoked_device_family(
    waiting: DeviceAuthorizationStarted | None, approved: bool, answered: bool
) -> None:
    """RFC 8628 §3.3: after an operator ended it, a person's answer does not begin it again."""
    ended = fold(with_device(approved_after=3 if answered else None), (FamilyRevoked("operator", "a test"),), at(5))
    assert refusal(answer_device(ended, answering(approved, waiting=waiting))) == "invalid_grant"
    assert refusal(device_at(ended, 20)) == "invalid_grant"


def test_a_device_family_revoked_after_its_approval_gives_no_tokens() -> None:
    """RFC 8628 §3.5: nor does one whose tokens were fetched before."""
    approved = with_device(approved_after=10)
    for state in (approved, fold(approved, device_at(approved, 20).events, at(20))):
        assert refusal(device_at(fold(state, (FamilyRevoked("operator", "a test"),), at(25)), 30)) == "invalid_grant"


def test_a_person_grants_a_device_a_part_of_its_request() -> None:
    """RFC 8628 §3.3, RFC 8707 §2: one of two resources and a part of the scope, and never more than requested."""
    for asked, waiting in ((None, WAITING), (given((WAITING,)), None)):
        approved = answer_device(asked, answering(resource=(B,), scope="read", waiting=waiting))
        assert isinstance(approved.outcome, Done)
        outcome = device_at(fold(asked, approved.events, at(10)), 20).outcome
        assert isinstance(outcome, Granted)
        assert (outcome.access.audience, outcome.access.scope) == ((B,), "read")
        beyond = answering(resource=(A, "https://c.example"), waiting=waiting)
        assert refusal(answer_device(asked, beyond)) == "invalid_target"
        assert refusal(answer_device(asked, answering(scope="read admin", waiting=waiting))) == "invalid_scope"


def test_a_devices_family_keeps_how_and_when_the_person_was_authenticated() -> None:
    """OpenID Connect Core §2 `auth_time`: every token contains what the login service sent with the approval."""
    approval = answering(acr="mfa", amr=("pwd", "otp"), auth_time=1_700_000_000, waiting=WAITING)
    state = fold(None, answer_device(None, approval).events, at(10))
    state = fold(state, device_at(state, 20).events, at(20))
    state = fold(state, redeem(state, redeeming(0, 30)).events, at(30))
    assert (state.acr, state.amr, state.auth_time) == ("mfa", ("pwd", "otp"), 1_700_000_000)


def test_another_clients_poll_discloses_nothing_of_a_device() -> None:
    """RFC 8628 §3.4: the answer is the same in every state of the code."""
    waiting = with_device(approved_after=None)
    denied = fold(waiting, answer_device(waiting, answering(approved=False)).events, at(10))
    approved = with_device(approved_after=10)
    for state in (waiting, denied, approved, fold(approved, device_at(approved, 20).events, at(20))):
        assert refusal(redeem_device_code(state, redeeming_device_code(21, client_id="other"))) == "invalid_grant"


def test_the_answers_to_a_polling_device() -> None:
    """RFC 8628 §3.5: `authorization_pending`, then `access_denied` or tokens; the redemption names its grant."""
    waiting = with_device(approved_after=None)
    for state, code, why in (
        (waiting, "authorization_pending", "nobody has approved"),
        (fold(waiting, answer_device(waiting, answering(approved=False)).events, at(10)), "access_denied", "did not"),
    ):
        refused = device_at(state, 20)
        assert refusal(refused) == code
        assert isinstance(refused.outcome, Refused) and why in refused.outcome.error.description
    assert device_at(with_device(approved_after=10), 20).events[0] == TokenRedeemed(0, "device_code")
    assert code_at(with_code(), 20).events[0] == TokenRedeemed(0, "authorization_code")


def test_a_retry_gets_the_same_answer() -> None:
    """CONTRACT §2: the same Idempotency-Key gets the same access token, generation and MAC key."""
    first = redeemed(KEY, 1, with_code())
    assert redeemed(KEY, 2, fold(with_code(), first.events, at(1))) == Decision(first.outcome)
    approved = with_device(approved_after=10)
    graceful = replace(RULES, refresh_token_grace=10)
    answer = polled(approved, 20, RULES)._replace(events=())
    for retry, rules in ((KEY, RULES), (None, graceful)):
        command = redeeming_device_code(20, rules=rules, retry=retry, jti="another")
        state = fold(approved, redeem_device_code(approved, command).events, at(20))
        assert redeem_device_code(state, command._replace(now=at(21), jti="other")) == answer
    unlike = redeeming_device_code(21, retry=Retry(KEY.key, "something else"), jti="other")
    command = unlike._replace(now=at(20), retry=KEY)
    state = fold(approved, redeem_device_code(approved, command).events, at(20))
    assert refusal(redeem_device_code(state, unlike)) == "invalid_request"


def test_a_retry_of_a_redemption_without_an_access_token_is_refused() -> None:
    """The service writes no such redemption; a log may contain one."""
    approved = with_device(approved_after=10)
    command = redeeming_device_code(20, retry=KEY)
    state = replace(fold(approved, redeem_device_code(approved, command).events, at(20)), access=None)
    assert refusal(redeem_device_code(state, command)) == "invalid_grant"


def test_the_reuse_of_a_code_names_the_newest_generation() -> None:
    """Auditors see how often the family was refreshed."""
    state = fold(with_code(), code_at(with_code(), 1).events, at(1))
    state = fold(state, redeem(state, redeeming(0, 2)).events, at(2))
    assert code_at(state, 3).events[0] == TokenReuseDetected(0, 1, "web", "authorization_code")


@pytest.mark.parametrize("waiting", [None, WAITING], ids=["in the log", "in memory"])
def test_an_answer_is_recorded_completely(waiting: DeviceAuthorizationStarted | None) -> None:
    """Its commit has the person and the answer, and before it the request if the log has none."""
    asked = given((WAITING,)) if waiting is None else None
    before = () if waiting is None else (waiting,)
    denied = answer_device(asked, answering(approved=False, waiting=waiting))
    assert denied == Decision(Done(), (*before, DeviceAuthorizationDenied("alice")))
    approval = answering(waiting=waiting, acr="mfa", amr=("pwd",), auth_time=7)
    grant = GrantAuthorized("web", "alice", SCOPE, (A, B), DEVICE_GRANT, "seed", "mfa", ("pwd",), 7)
    assert answer_device(asked, approval) == Decision(Done(), (*before, grant))


def test_an_answer_without_a_request_is_refused() -> None:
    """There is no family, or one that began otherwise."""
    assert refusal(answer_device(None, answering())) == "invalid_grant"
    assert refusal(answer_device(with_code(), answering())) == "invalid_grant"


@pytest.mark.parametrize(
    "large",
    [
        {"acr": "a" * 4000},
        {"amr": ("a" * 4000,)},
        {"sub": "a" * 4000},
        {"waiting": replace(WAITING, scope="a" * 4000)},
        {"waiting": replace(WAITING, audience=("https://a.example/" + "a" * 4000,))},
    ],
    ids=lambda large: next(iter(large)),
)
def test_an_approval_too_large_for_a_token_is_refused(large: dict[str, Any]) -> None:
    """CONTRACT §2: whichever part is too large."""
    assert refusal(answer_device(None, answering(**{"waiting": WAITING} | large))) == "invalid_request"


@pytest.mark.parametrize(
    ("grant_types", "void_until", "may"),
    [
        ((DEVICE_GRANT,), None, True),
        (("refresh_token",), None, False),
        ((DEVICE_GRANT,), -1, True),
        ((DEVICE_GRANT,), 0, False),
        ((DEVICE_GRANT,), 1, False),
        (("refresh_token",), -1, False),
    ],
)
def test_a_request_from_before_a_disabling_cannot_be_approved(
    grant_types: tuple[Any, ...], void_until: float | None, may: bool
) -> None:
    """CONTRACT §5: it is void as earlier tokens are; nor can a grant that its client may not use any more."""
    rules = replace(RULES, grant_types=grant_types)
    assert still_may(WAITING, rules, None if void_until is None else at(void_until)) == may


@pytest.mark.parametrize(
    ("state", "changes"),
    [
        (None, {}),
        (with_code(), {"client_id": "other"}),
        (replace(with_code(), grant="issue"), {}),
        (fold(with_code(), (FamilyRevoked("operator", "a test"),), at(1)), {}),
        (with_code(), {"redirect_uri": "https://web.example/cb"}),
        (with_code(), {"code_verifier": "w" * 43}),
        (replace(with_code(), code=None), {}),
    ],
    ids=["no family", "another client", "no code's", "ended", "another redirection", "another verifier", "no code"],
)
def test_a_code_is_valid_only_for_its_client_redirection_and_verifier(
    state: FamilyState | None, changes: dict[str, Any]
) -> None:
    """RFC 6749 §4.1.3, RFC 7636 §4.6: every refusal has the same answer and no commit."""
    assert refusal(redeem_code(state, redeeming_code(**changes))) == "invalid_grant"


@pytest.mark.parametrize(
    "state",
    [None, with_code(), fold(with_device(approved_after=10), (FamilyRevoked("operator", "a test"),), at(11))],
    ids=["no family", "no device's", "ended"],
)
def test_a_device_code_without_a_living_device_is_refused(state: FamilyState | None) -> None:
    """RFC 8628 §3.5."""
    assert refusal(device_at(state, 20)) == "invalid_grant"


def test_a_verifier_matches_its_challenge() -> None:
    """The example of RFC 7636 appendix B."""
    assert s256("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_a_code_gives_no_more_than_its_client_may_have_now() -> None:
    """RFC 7591 §2: a part of the scope or of the targets was removed; without any left it is refused."""
    for scope, answer in (("read", "read"), ("more", "invalid_grant")):
        decision = redeem_code(with_code(), redeeming_code(rules=replace(RULES, scope=scope)))
        if isinstance(decision.outcome, Granted):
            assert decision.outcome.access.scope == answer
        else:
            assert refusal(decision) == answer
    elsewhere = replace(RULES, audiences=("https://elsewhere.example",))
    assert refusal(redeem_code(with_code(), redeeming_code(rules=elsewhere))) == "invalid_target"
    without = replace(with_code(), scope="")
    assert isinstance(redeem_code(without, redeeming_code()).outcome, Granted), "a grant without scope loses none"
