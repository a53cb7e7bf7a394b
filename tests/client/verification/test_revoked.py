"""What is revoked is remembered for exactly as long as such a token could be accepted."""

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from heirloom_client.verification.access_token import Claims
from heirloom_client.verification.revoked import SLOT_SECONDS, Revoked, SavedRevoked


def claims(**changed: Any) -> Claims:
    """Those of a token."""
    usual = {"iss": "i", "sub": "s", "aud": "a", "client_id": "web", "iat": 100, "exp": 400, "jti": "t", "sid": "f"}
    return msgspec.convert(usual | changed, Claims)


def test_what_is_revoked() -> None:
    """The family, the token, what was exchanged for it, and what a client has or acts with."""
    revoked = Revoked()
    revoked.add("f2", 1000)
    revoked.add("t2", 1000)
    revoked.void("old", 1000, 100.5)
    revoked.void("off", 1000, None)
    assert not revoked.holds(claims())
    for changed in (
        {"sid": "f2"},
        {"jti": "t2"},
        {"exchanged_from": ["t9", "t2"]},
        {"client_id": "off", "iat": 10**9},
        {"client_id": "old"},
        {"act": {"sub": "web", "act": {"sub": "old"}}},
    ):
        assert revoked.holds(claims(**changed)), changed
    assert not revoked.holds(claims(client_id="old", iat=101))
    assert not revoked.holds(claims(exchanged_from=["t9"]))
    revoked.void("off", 1000, 100.0)
    assert not revoked.holds(claims(client_id="off", iat=101))


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 1000)), max_size=20), st.integers(0, 1500))
def test_it_is_forgotten_when_it_is_over_and_not_before(added: list[tuple[str, int]], now: int) -> None:
    """Whichever of a name's ends comes last counts; nothing is kept for longer than a slot."""
    revoked = Revoked()
    for name, until in added:
        revoked.add(name, until)
        revoked.void(name, until, None)
    revoked.forget(now)
    ends = {name: max(until for other, until in added if other == name) for name, _ in added}
    for name, until in ends.items():
        kept = revoked.holds(claims(sid=name))
        assert kept if until > now else (not kept or until + SLOT_SECONDS > now)
    assert len(revoked) <= 2 * sum(until + SLOT_SECONDS > now for until in ends.values())


def test_a_snapshot_holds_all_of_it() -> None:
    """And what was over before is forgotten after it too."""
    revoked = Revoked()
    revoked.add("f2", 1000)
    revoked.add("f3", 5000)
    revoked.void("off", 2000, 7.5)
    saved = msgspec.json.decode(json.dumps(msgspec.to_builtins(revoked.to_builtins())), type=SavedRevoked)
    again = Revoked.of(saved)
    assert again.to_builtins() == revoked.to_builtins()
    again.forget(3000)
    assert not again.holds(claims(sid="f2")) and again.holds(claims(sid="f3")) and len(again) == 1
