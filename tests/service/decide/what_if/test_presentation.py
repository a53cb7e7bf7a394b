"""Presentations read back from the log: the commit of a presented token shows what was requested."""

import pytest
from msgspec.structs import replace

from events.aggregates.family import FamilyCommit, FamilyState, fold
from events.aggregates.family_events import (
    DeviceAuthorizationDenied,
    DeviceAuthorizationStarted,
    FamilyRevoked,
    ForgeryDetected,
    TokenIssued,
    TokenRedeemed,
)
from service.decide.decision import Decision
from service.decide.refresh_token import Redeem, redeem
from service.decide.revocation import Revoke, revoke
from service.decide.what_if.presentation import Presentation, presentation
from tests.service.decide.given import KEY, RULES, START, at, commit_of, given, opened, redeeming

GRACEFUL = replace(RULES, refresh_token_grace=10)
AUDIENCE = ("https://acme.example",)


def committed(state: FamilyState, decision: Decision, actor: str = "client:web") -> FamilyCommit:
    """The commit of this decision."""
    assert decision.events, "no events"
    return commit_of(fold(state, decision.events, at(1)), *decision.events, actor=actor)


def read_back(state: FamilyState, command: Redeem) -> Presentation | None:
    """The presentation that the log shows."""
    return presentation(committed(state, redeem(state, command)))


def test_a_redemption() -> None:
    """With the requested scope and resource, and the Idempotency-Key."""
    asked = redeeming(0, scope="read", resource=AUDIENCE, retry=KEY)
    assert read_back(given(opened()), asked) == Presentation(0, "redeemed", "read", AUDIENCE, KEY)


def test_a_repetition_within_the_grace_time() -> None:
    """With this request's scope, and without its key, which is not in the log."""
    state = given(opened())
    state = fold(state, redeem(state, redeeming(0, rules=GRACEFUL)).events, at(1))
    again = redeeming(0, 2, rules=GRACEFUL, scope="read", retry=KEY, jti="another")
    assert read_back(state, again) == Presentation(0, "repeated", "read", AUDIENCE)


def test_a_reuse() -> None:
    """The log shows why the family ended, and not what was requested."""
    state = given(opened())
    state = fold(state, redeem(state, redeeming(0)).events, at(1))
    assert read_back(state, redeeming(0, 2, scope="read", retry=KEY)) == Presentation(0, "reuse_detected")


def test_a_late_duplicate() -> None:
    """With its key, which has redeemed that generation."""
    state = given(opened())
    for generation, key in ((0, KEY), (1, None)):
        state = fold(state, redeem(state, redeeming(generation, retry=key)).events, at(1))
    late = redeeming(0, 2, scope="read", retry=KEY, redeemed_with=(KEY.key,))
    assert read_back(state, late) == Presentation(0, "late_duplicate", retry=KEY)


def test_a_forgery() -> None:
    """It has a generation that never existed."""
    assert read_back(given(opened()), redeeming(5)) == Presentation(5, "forgery")


def test_a_refusal_by_a_stricter_policy() -> None:
    """The client presented the newest token; the same event by an operator is a cut-off."""
    state, stricter = given(opened()), replace(RULES, required_acr=("high",))
    decision = redeem(state, redeeming(0, rules=stricter))
    assert presentation(committed(state, decision)) == Presentation(0, "policy_changed")
    assert presentation(committed(state, decision, actor="operator")) is None


def test_commits_without_a_presentation() -> None:
    """The start of a family, a sign-out, and an exchanged token."""
    state = given(opened())
    assert presentation(commit_of(state, *opened())) is None
    assert presentation(committed(state, revoke(state, Revoke("client_request", "sign-out")))) is None
    exchanged = TokenIssued("access", "read", AUDIENCE, at(60), jti="x", client_id="other", act=("other",))
    assert presentation(commit_of(state, exchanged, actor="client:other")) is None


def test_a_device_that_waits_and_is_denied() -> None:
    """Neither commit is about a refresh token."""
    waits, denied = DeviceAuthorizationStarted("web", "read", (), "seed", at(600)), DeviceAuthorizationDenied("alice")
    assert presentation(commit_of(given((waits,)), waits)) is None
    assert presentation(commit_of(given((waits, denied)), denied)) is None


def test_a_family_without_a_refresh_token() -> None:
    """A presented token is a forgery; its other events are no presentations."""
    without = tuple(event for event in opened() if getattr(event, "kind", None) != "refresh")
    state = given(without)
    assert read_back(state, redeeming(0)) == Presentation(0, "forgery")
    beside = TokenIssued("access", "read", AUDIENCE, at(60), jti="x", client_id="web")
    for event in (FamilyRevoked("policy_changed", "a test"), beside):
        assert presentation(commit_of(fold(state, (event,), START), event)) is None


def test_half_a_redemption_and_a_forgery_without_an_end() -> None:
    """The first is an error; the second has no reason."""
    state = given(opened())
    with pytest.raises(ValueError, match="a redemption without an access token"):
        presentation(commit_of(replace(state, access=None), TokenRedeemed(0, "refresh_token")))
    assert presentation(commit_of(state, ForgeryDetected(5, 0, "web"))) == Presentation(5, "")
