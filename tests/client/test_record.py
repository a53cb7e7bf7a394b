"""What a store keeps, and how it changes; pure."""

import hashlib
import hmac

import msgspec

from heirloom_client.credentials import Login
from heirloom_client.record import WHOLE, Record, after, begin, idempotency_key, target
from heirloom_client.tokens import Tokens

NOW = 1000.0


def _tokens(number: int, expires_in: int = 300) -> Tokens:
    return Tokens(access_token=f"a{number}", refresh_token=f"r{number}", expires_in=expires_in, scope="read")


def _begun() -> Record:
    return begin(None, _tokens(0), NOW)


def test_the_key_is_derived() -> None:
    """HMAC-SHA-256 of the refresh token under the store's secret, which outlives a login."""
    record = _begun()
    assert idempotency_key(record) == hmac.digest(bytes.fromhex(record.secret), b"r0", hashlib.sha256).hex()
    again = begin(record, _tokens(5), NOW)
    assert again.secret == record.secret
    assert len({idempotency_key(record), idempotency_key(again), idempotency_key(_begun())}) == 3


def test_equal_targets_have_one_name() -> None:
    """Whatever the order of scopes and resources."""
    assert target("write read", ["b", "a"]) == target("read  write", ["a", "b", "a"])
    assert target(None, "a").name == target(None, ["a"]).name != target(None, None).name == WHOLE.name


def test_the_successor_takes_the_place() -> None:
    """And what was pending is done; access tokens that have ended are forgotten."""
    record = msgspec.structs.replace(_begun(), pending=target("read", None))
    stored = after(record, record, target("read", None), _tokens(1), NOW + 301)
    assert (stored.refresh_token, stored.pending) == ("r1", None)
    assert [access.access_token for access in stored.access.values()] == ["a1"]


def test_a_late_answer_changes_no_successor() -> None:
    """Another process stored it, or a later one, or another login; the access token is kept where it is the newest."""
    record = _begun()
    first = after(record, record, WHOLE, _tokens(1), NOW)
    second = after(first, first, WHOLE, _tokens(2), NOW + 100)
    late = after(second, record, WHOLE, _tokens(1), NOW)
    assert late == second
    login = begin(second, _tokens(7), NOW)
    assert after(login, record, WHOLE, _tokens(1), NOW) == login
    assert after(first, record, WHOLE, _tokens(1), NOW) == first


def test_a_token_that_does_not_rotate_has_a_key_for_each_use() -> None:
    """Otherwise the second use would get the first one's answer."""
    record = _begun()
    echoed = Tokens(access_token="a1", refresh_token="r0", expires_in=300)
    once = after(record, record, WHOLE, echoed, NOW)
    assert idempotency_key(once) != idempotency_key(record)
    assert after(once, record, WHOLE, echoed, NOW) == once


def test_no_repr_shows_a_token_or_a_secret() -> None:
    """Nor what rich shows in a traceback."""
    record = _begun()
    shown = f"{record!r} {record.__rich_repr__()} {Login('web', 'hidden', '_INBOX')!r}"
    for secret in (record.secret, "'a0'", "'r0'", "hidden"):
        assert secret not in shown
