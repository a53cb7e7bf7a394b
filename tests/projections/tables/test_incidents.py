"""The reasons of incidents."""

import pytest

from events.aggregates.family_events import Credential, ForgeryDetected, LateDuplicateRefused, Retry, TokenReuseDetected
from projections.tables.incidents import reason_of


@pytest.mark.parametrize(
    ("credential", "reason"),
    [("refresh_token", "reuse_detected"), ("authorization_code", "code_reuse"), ("device_code", "code_reuse")],
)
def test_a_reuse_has_the_reason_of_its_familys_end(credential: Credential, reason: str) -> None:
    """CONTRACT §4 has one reason for refresh tokens and another for both kinds of codes."""
    assert reason_of(TokenReuseDetected(0, 0, "tv", credential)) == reason
    assert reason_of(ForgeryDetected(7, 0, "tv")) == "forgery"
    assert reason_of(LateDuplicateRefused(0, 2, "tv", Retry("key", "body"))) == "late_duplicate"
