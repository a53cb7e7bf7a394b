"""Clocks that differ: no replica forgets what another one's clock still calls alive, and one too far off is quiet."""

import io
import time
from datetime import timedelta

import pytest

from events.family import TokenRevoked, fold
from service import clock
from service.decide.outcome import Decision, Done
from service.decide.revoke import RevokeAccessToken, revoke_access_token
from service.errors import OAuthError
from service.journal import Journal, install
from service.skew import Skew
from tests.service.families import at, claimed, given, opened

APART = timedelta(seconds=60)


def revoking(jti: str, seconds: float, expires: float = 300) -> RevokeAccessToken:
    """At that time by the clock of the replica that is asked."""
    return RevokeAccessToken(at(seconds), "web", claimed("alice", "web", jti, "read"), at(expires), APART, "a test")


def test_a_replica_ahead_does_not_bring_a_revoked_token_back() -> None:
    """RFC 7009 §2.2: what one clock calls expired another may call active, so it stays revoked until none can."""
    state = given(opened())
    state = fold(state, revoke_access_token(state, revoking("jti-0", 1)).events, at(1))
    for ahead in (300, 359.9):  # the token's end, by a clock that is ahead of others by that much less
        another = revoke_access_token(state, revoking(f"at-{ahead}", ahead, 700))
        state = fold(state, another.events, at(ahead))
        assert "jti-0" in state.revoked_jtis
    last = revoke_access_token(state, revoking("last", 360, 700))
    assert "jti-0" not in fold(state, last.events, at(360)).revoked_jtis


def test_a_replica_ahead_does_not_pass_over_a_revocation() -> None:
    """RFC 7009 §2.2: `{}` means that the token is dead on every replica's clock, not on that of the one asked."""
    state = given(opened())
    decision = revoke_access_token(state, revoking("jti-0", 359.9))
    assert decision.events == (TokenRevoked("jti-0", at(300), kept_until=at(360)),)
    assert revoke_access_token(state, revoking("jti-0", 360)) == Decision(Done())


def test_older_logs_forget_as_they_did() -> None:
    """A revocation without `kept_until` was kept to the token's end, and the state after it says so."""
    state = fold(given(opened()), (TokenRevoked("jti-0", at(300)),), at(1))
    assert state.revoked_jtis == {"jti-0": at(300)}
    assert set(fold(state, (TokenRevoked("jti-1", at(700)),), at(300)).revoked_jtis) == {"jti-1"}


def measured(skew: Skew, ahead: float, seconds: float = 0.0) -> None:
    """The broker's answer took so long, and its clock shows that this machine's is so far ahead."""
    now = time.monotonic()
    told = clock.now() - timedelta(seconds=ahead + seconds / 2)
    skew.measured(now - seconds, now, told)


def test_nothing_is_right_before_the_brokers_time_is_known() -> None:
    """A replica that starts with a wrong clock never answers by it."""
    skew = Skew(10)
    assert not skew.is_right() and skew.obstacle() is not None
    with pytest.raises(OAuthError, match="clock") as refused:
        skew.require()
    assert refused.value.code == "temporarily_unavailable"


@pytest.mark.parametrize(("ahead", "is_right"), [(0, True), (9.5, True), (-9.5, True), (10.5, False), (-10.5, False)])
def test_as_far_apart_as_is_tolerated(ahead: float, is_right: bool) -> None:
    """Ahead or behind; the time that the answer took counts against the replica."""
    skew = Skew(10)
    measured(skew, ahead)
    assert skew.is_right() is is_right
    assert skew.wrong == (not is_right)
    assert (skew.obstacle() is None) is is_right
    measured(skew, ahead, seconds=2)
    assert skew.is_right() is (is_right and abs(ahead) < 9)


def test_a_clock_that_jumps_is_noticed_by_the_next_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the next measurement: a request between the two would be answered by a wrong clock."""
    skew, now = Skew(10), clock.now
    measured(skew, 0)
    skew.require()
    monkeypatch.setattr(clock, "now", lambda: now() + timedelta(hours=1))
    with pytest.raises(OAuthError, match="clock"):
        skew.require()


def test_a_wrong_clock_is_told_once_and_so_is_its_end() -> None:
    """In the journal, with how far off it is."""
    out = io.BytesIO()
    journal = Journal(out)
    install(journal)
    skew = Skew(10)
    for ahead in (3600, 3600, -1, -1):
        measured(skew, ahead)
    journal.flush()
    lines = out.getvalue().decode().splitlines()
    assert len(lines) == 2
    assert "3600.0 s ahead of the broker's" in lines[0] and '"level":"error"' in lines[0]
    assert "right again" in lines[1]
    assert skew.wrong == 2
