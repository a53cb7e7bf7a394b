"""What an incident is called."""

import pytest

from events.aggregates.family import Credential, ForgeryDetected, TokenReuseDetected
from projections.tables.incidents import reason_of


@pytest.mark.parametrize(
    ("credential", "reason"),
    [("refresh_token", "reuse_detected"), ("authorization_code", "code_reuse"), ("device_code", "code_reuse")],
)
def test_a_reuse_is_called_what_it_ends_the_family_for(credential: Credential, reason: str) -> None:
    """CONTRACT §4 has one reason for refresh tokens and another for codes of either kind."""
    assert reason_of(TokenReuseDetected(0, 0, "tv", credential)) == reason
    assert reason_of(ForgeryDetected(7, 0, "tv")) == "forgery"
