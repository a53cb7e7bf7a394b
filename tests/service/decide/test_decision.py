"""Refusals with a fixed answer, and what a forged token records."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from events.aggregates.family import MAX_RECORDED_AFTER_END
from events.aggregates.family_events import FamilyRevoked, ForgeryDetected, TokenIssued
from service.decide.authorization_code import expired
from service.decide.decision import Decision, Done, Refused, blocked, invalid_grant, key_used_otherwise
from service.decide.refresh_token import forged, is_accepted
from service.decide.revocation import RevokeRefreshToken, revoke_refresh_token
from tests.service.decide.given import RULES, at, given, opened


@pytest.mark.parametrize(
    ("refused", "code", "description"),
    [
        (blocked, "invalid_grant", "the subject is blocked"),
        (invalid_grant, "invalid_grant", "the token is not valid, or not valid any more"),
        (expired, "expired_token", "the device code has expired; start again"),
        (key_used_otherwise, "invalid_request", "this Idempotency-Key was already used with another request"),
    ],
    ids=["blocked", "invalid", "expired", "key"],
)
def test_the_error_of_each_refusal(refused: Callable[[], Refused], code: str, description: str) -> None:
    """RFC 6749 §5.2: clients act on the code; the description is for developers."""
    error = refused().error
    assert (error.code, error.description) == (code, description)


def test_revoking_a_forged_token_ends_its_family() -> None:
    """CONTRACT §3.7: a signing key leaked, so the commit names the presenter and the request."""
    decision = revoke_refresh_token(given(opened()), RevokeRefreshToken("web", 9, "a test"))
    assert decision == Decision(Done(), (ForgeryDetected(9, 0, "web"), FamilyRevoked("forgery", "a test")))
    rotated = replace(given(opened()), generation=3)
    assert forged(rotated, 9, "web", "a test")[0] == ForgeryDetected(9, 3, "web")


def test_forgeries_after_the_end_are_recorded_a_bounded_number_of_times() -> None:
    """CONTRACT §3.5: else forged tokens could fill the log."""
    ended = given(opened(), (FamilyRevoked("operator", "a test"),))
    last = replace(ended, afterwards=MAX_RECORDED_AFTER_END - 1)
    assert forged(last, 9, "web", "a test") == (ForgeryDetected(9, 0, "web"),)
    assert forged(replace(ended, afterwards=MAX_RECORDED_AFTER_END), 9, "web", "a test") == ()


def test_no_token_of_an_ended_or_missing_family_is_accepted() -> None:
    """RFC 7662 §2.2: introspection of the newest token agrees with a redemption."""
    state = given(opened())
    assert is_accepted(state, RULES, at(1))
    assert not is_accepted(given(opened(), (FamilyRevoked("operator", "a test"),)), RULES, at(1))
    without = tuple(event for event in opened() if not (isinstance(event, TokenIssued) and event.kind == "refresh"))
    assert not is_accepted(given(without), RULES, at(1))
