"""The lifetime of an access token, for any fraction of a second at which it is issued."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example
from hypothesis import given as for_any
from hypothesis import strategies as st
from msgspec.structs import replace

from service import clock
from service.decide.access_token_lifetime import access_expiry, expires_in
from service.decide.decision import Granted
from service.decide.issue import issue
from tests.service.decide.given import RULES, issuing

SECOND = datetime(2026, 1, 1, 12, tzinfo=UTC)
fractions = st.integers(1, 999_999)


@for_any(fraction=fractions, ttl=st.integers(1, 600), late=st.integers(0, 4_000_000))
@example(fraction=1, ttl=1, late=1_000_000)
@example(fraction=500_001, ttl=60, late=0)
def test_a_token_lives_as_long_as_expires_in_promises(fraction: int, ttl: int, late: int) -> None:
    """RFC 6749 §5.1, RFC 7519 §4.1.4: `expires_in` after the answer is not past `exp`, however late the answer was."""
    now = SECOND + timedelta(microseconds=fraction)
    outcome = issue(None, issuing(replace(RULES, access_token_ttl=ttl))._replace(now=now)).outcome
    assert isinstance(outcome, Granted)
    access = outcome.access
    answered = now + timedelta(microseconds=late)
    promised = expires_in(access, answered)
    exp = int(access.expires_at.timestamp())
    assert (answered + timedelta(seconds=promised)).timestamp() <= exp or promised == 0
    assert promised <= ttl and (promised == ttl or late > 500_000)
    assert now.timestamp() + ttl < exp < now.timestamp() + ttl + 2
    assert access.expires_at == clock.of(exp), "the log and the token agree"


@pytest.mark.parametrize(("fraction", "more"), [(1, 1), (499_999, 1), (500_000, 1), (500_001, 2), (999_999, 2)])
def test_a_token_expires_in_the_first_second_that_keeps_the_promise(fraction: int, more: int) -> None:
    """Half a second is left for the transport of the answer."""
    ends = access_expiry(SECOND + timedelta(microseconds=fraction), 60)
    assert ends == SECOND + timedelta(seconds=60 + more, microseconds=1)
