"""Clocks that differ: revocations last until expiry by every clock, and a clock too far off stops its replica."""

import io
import time
from datetime import datetime, timedelta

import pytest

from events.aggregates.family import fold
from events.aggregates.family_events import TokenRevoked
from events.bus.connection import Connection
from events.log import stream
from service import clock
from service.admin.client import CLOCKS_APART_SECONDS
from service.clients import assertion
from service.decide.decision import Decision, Done
from service.decide.revocation import RevokeAccessToken, revoke_access_token
from service.errors import OAuthError
from service.json_log import JsonLog, install
from service.replicas.broker_clock import MAX_TOLERATED_SECONDS, SETTLED_SECONDS, TOLERATED_SECONDS, Skew
from tests.service.decide.given import START, at, claimed, given, opened

APART = timedelta(seconds=60)


def revoking(jti: str, seconds: float, expires: float = 300) -> RevokeAccessToken:
    """A revocation at that time by the asked replica's clock."""
    return RevokeAccessToken(at(seconds), "web", claimed("alice", "web", jti, "read"), at(expires), APART, "a test")


def test_a_replica_ahead_does_not_revive_a_revoked_token() -> None:
    """RFC 7009 §2.2: a token that one clock calls expired may be active by another, so it stays revoked meanwhile."""
    state = given(opened())
    state = fold(state, revoke_access_token(state, revoking("jti-0", 1)).events, at(1))
    for ahead in (300, 359.9):  # the token's end and later, by clocks that are ahead of others
        another = revoke_access_token(state, revoking(f"at-{ahead}", ahead, 700))
        state = fold(state, another.events, at(ahead))
        assert "jti-0" in state.revoked_jtis
    last = revoke_access_token(state, revoking("last", 360, 700))
    assert "jti-0" not in fold(state, last.events, at(360)).revoked_jtis


def test_a_replica_ahead_does_not_skip_a_revocation() -> None:
    """RFC 7009 §2.2: the answer `{}` means that the token is dead by every replica's clock."""
    state = given(opened())
    decision = revoke_access_token(state, revoking("jti-0", 359.9))
    assert decision.events == (TokenRevoked("jti-0", at(300), kept_until=at(360)),)
    assert revoke_access_token(state, revoking("jti-0", 360)) == Decision(Done())


def test_revocations_in_older_logs_keep_their_meaning() -> None:
    """Without `kept_until` a revocation is kept until the token's expiry."""
    state = fold(given(opened()), (TokenRevoked("jti-0", at(300)),), at(1))
    assert state.revoked_jtis == {"jti-0": at(300)}
    assert set(fold(state, (TokenRevoked("jti-1", at(700)),), at(300)).revoked_jtis) == {"jti-1"}


class Clocks:
    """The broker's clock, the monotonic one, and this machine's, which is `ahead` of the broker's; in seconds."""

    def __init__(self) -> None:
        self.steady, self.broker, self.ahead = 5000.0, START, 0.0

    def machine(self) -> datetime:
        return self.broker + timedelta(seconds=self.ahead)

    def pass_(self, seconds: float) -> None:
        """Advance all of them."""
        self.steady += seconds
        self.broker += timedelta(seconds=seconds)

    def measure(self, skew: Skew, going: float = 0.0, coming: float = 0.0) -> None:
        """One measurement, with these delays of request and reply."""
        asked_at = self.steady
        self.pass_(going)
        broker_time = self.broker
        self.pass_(coming)
        skew.measured(asked_at, self.steady, broker_time)

    def off(self) -> float:
        """The distance of the service's time from the broker's."""
        return abs((clock.now() - self.broker).total_seconds())


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    """All clocks agree."""
    given = Clocks()
    monkeypatch.setattr(clock, "_broker_ahead_of_steady", None)
    monkeypatch.setattr(clock, "machine", given.machine)
    monkeypatch.setattr(time, "monotonic", lambda: given.steady)
    return given


@pytest.mark.parametrize("ahead", [200, -200, 299])
def test_all_replicas_decide_by_one_clock(clocks: Clocks, ahead: float) -> None:
    """Their machines' clocks may differ within the tolerance."""
    clocks.ahead = ahead
    assert abs(clock.now() - clocks.machine()) < timedelta(milliseconds=1), "the broker has not been asked yet"
    skew = Skew()
    clocks.measure(skew, 0.001, 0.001)
    skew.require()
    assert clocks.off() < 0.001
    clocks.pass_(0.9)
    clocks.ahead = -ahead
    assert clocks.off() < 0.001, "the service's time is set only by measurements"


def test_a_slow_reply_moves_no_clock(clocks: Clocks) -> None:
    """RFC 7662 §2.2: busy replicas still agree on the time to 0.25 s, as the `iat` of an enabled client needs."""
    skew = Skew()
    clocks.measure(skew, 0.001, 0.001)
    for going, coming in ((0, 2), (2, 0), (0.01, 1.5)):
        clocks.measure(skew, going, coming)
        assert clocks.off() < 0.001 < CLOCKS_APART_SECONDS


def test_a_slow_first_reply_is_corrected(clocks: Clocks) -> None:
    """The first quick one does it."""
    skew = Skew()
    clocks.measure(skew, 0, 2)
    assert 0.9 < clocks.off() < 1.1
    clocks.measure(skew, 0.001, 0.001)
    assert clocks.off() < 0.003


def test_no_clock_is_right_before_the_brokers_time_is_known() -> None:
    """A replica that starts with a wrong clock never answers by it."""
    skew = Skew(10)
    assert not skew.is_right() and skew.obstacle() is not None
    with pytest.raises(OAuthError, match="clock") as refused:
        skew.require()
    assert refused.value.code == "temporarily_unavailable"


@pytest.mark.parametrize(("ahead", "is_right"), [(0, True), (9.5, True), (-9.5, True), (10.5, False), (-10.5, False)])
def test_the_tolerance_of_a_clock(clocks: Clocks, ahead: float, is_right: bool) -> None:
    """Ahead or behind; the delay of the reply counts against the replica."""
    skew, clocks.ahead = Skew(10), ahead
    clocks.measure(skew)
    assert skew.is_right() is is_right
    assert skew.wrong == (not is_right)
    assert (skew.obstacle() is None) is is_right
    clocks.measure(skew, 1, 1)
    assert skew.is_right() is (is_right and abs(ahead) < 9)


def test_a_jump_of_the_clock_is_noticed_by_the_next_request(clocks: Clocks) -> None:
    """The next measurement would be too late for requests before it."""
    skew = Skew(10)
    clocks.measure(skew)
    skew.require()
    clocks.ahead = 3600
    with pytest.raises(OAuthError, match="clock"):
        skew.require()


def journal_of(clocks: Clocks, skew: Skew, *aheads: float) -> list[str]:
    """The log lines of measurements with this machine's clock so far ahead."""
    out = io.BytesIO()
    json_log = JsonLog(out)
    install(json_log)
    for clocks.ahead in aheads:
        clocks.measure(skew)
    json_log.flush()
    return out.getvalue().decode().splitlines()


def test_a_wrong_clock_is_logged_once_and_so_is_its_end(clocks: Clocks) -> None:
    """The line has the difference."""
    skew = Skew(10)
    lines = journal_of(clocks, skew, 3600, 3600, -1, -1)
    assert len(lines) == 2
    assert "3600.0 s ahead of the broker's" in lines[0] and '"level":"error"' in lines[0]
    assert "right again" in lines[1]
    assert skew.wrong == 2


def jump(clocks: Clocks, hours: float) -> None:
    """Move the broker's clock and this machine's, for they are one machine."""
    clocks.broker += timedelta(hours=hours)


def test_a_jump_of_the_brokers_clock_is_not_followed(clocks: Clocks) -> None:
    """RFC 7009 §2.2: an hour ahead, revocations would be forgotten. Nothing is answered until it is back."""
    skew = Skew()
    clocks.measure(skew)
    jump(clocks, 1)
    lines = journal_of(clocks, skew, 0, 0)
    assert len(lines) == 1 and "the broker's clock jumped by 3600.0 s" in lines[0]
    assert skew.wrong == 2 and "jumped" in str(skew.obstacle())
    assert abs(clocks.off() - 3600) < 1, "the service's time does not follow"
    with pytest.raises(OAuthError, match="clock"):
        skew.require()
    jump(clocks, -1)
    clocks.measure(skew)
    skew.require()
    assert clocks.off() < 0.001 and skew.wrong == 2


def test_a_broker_that_stays_at_another_time_is_followed(clocks: Clocks) -> None:
    """Its machine slept, or its clock was corrected; another jump restarts the wait."""
    skew = Skew()
    clocks.measure(skew)
    jump(clocks, 1)
    clocks.measure(skew)
    clocks.pass_(SETTLED_SECONDS - 1)
    jump(clocks, 1)
    clocks.measure(skew)
    clocks.pass_(SETTLED_SECONDS - 1)
    clocks.measure(skew)
    assert not skew.is_right()
    clocks.pass_(1)
    clocks.measure(skew)
    assert skew.is_right() and skew.obstacle() is None and clocks.off() < 0.001


@pytest.mark.parametrize("tolerated", [2, TOLERATED_SECONDS, MAX_TOLERATED_SECONDS])
async def test_a_used_assertion_is_stored_as_long_as_any_clock_accepts_it(
    connection: Connection, tolerated: int
) -> None:
    """RFC 7523 §3: used where a clock is ahead, known where one is behind; an existing bucket is updated."""
    await stream.ensure_exactly(connection, assertion.bucket(1, tolerated) | {"max_age": 900 * 10**9})
    await assertion.UsedAssertions(connection).start(1, tolerated)
    found = {found["name"]: found for found in await stream.every_configuration(connection)}
    kept = found["KV_heirloom-assertions"]["max_age"] // 10**9
    assert kept == assertion.MAX_LIFETIME_SECONDS + 2 * tolerated + 300
