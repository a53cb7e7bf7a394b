"""A stolen signing key is useless alone, since it makes no voucher tag."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import base62
from service.keys.keyring import Keyring
from service.keys.vouchers import CLAIM, Vouchers

KEYS = Keyring({1: b"a" * 32, 2: b"b" * 32})
OURS = Vouchers(KEYS, "acme")
CLAIMS: dict[str, Any] = {"sub": "ali\u00e7e", "aud": ["x", "y"], "jti": "j", "exp": 1 << 33, "act": {"sub": "orders"}}
MADE = OURS.vouch(2, "seed", CLAIMS)


def is_right(claims: dict[str, Any], seed: str = "seed", vouchers: Vouchers = OURS) -> bool:
    proof = vouchers.proof_of(claims)
    return proof is not None and proof(seed)


def test_our_own_claims_are_vouched_for() -> None:
    """The tag is always the same, and survives JSON."""
    assert OURS.vouch(2, "seed", CLAIMS) == MADE
    assert is_right(json.loads(json.dumps(MADE)))
    assert is_right(MADE, vouchers=Vouchers(KEYS, "acme"))


@pytest.mark.parametrize(
    "changes",
    [{"jti": "never issued"}, {"act": {"sub": "anybody"}}, {"exp": 1 << 34}, {"aud": "x"}, {"more": 1}, {"sub": "x"}],
    ids=str,
)
def test_claims_that_the_service_never_made_are_not_vouched_for(changes: dict[str, Any]) -> None:
    """RFC 9068 §4: a leaked signing key could sign anything, such as a `jti` that was never issued."""
    assert not is_right(MADE | changes)
    without = {name: value for name, value in MADE.items() if name not in changes}
    assert not is_right(without) or without == MADE


@pytest.mark.parametrize(
    "tag", [None, 7, "", "0", "02", MADE[CLAIM][:-1] + "0", "0" * 24, "\u00e9" * 24, "zz" + "0" * 22]
)
def test_an_invalid_tag(tag: Any) -> None:
    """Missing, of another type, cut, guessed, or under an unknown key."""
    assert not is_right(CLAIMS if tag is None else CLAIMS | {CLAIM: tag})


def test_a_tag_of_another_family_tenant_or_key_is_invalid() -> None:
    """Each has a key of its own."""
    assert not is_right(MADE, "another seed")
    assert not is_right(MADE, vouchers=Vouchers(KEYS, "globex"))
    other_key = MADE | {CLAIM: base62.encode_int(1, 2) + MADE[CLAIM][2:]}
    assert not is_right(other_key)
    assert not is_right(MADE, vouchers=Vouchers(Keyring({1: b"a" * 32}), "acme"))


@given(
    st.dictionaries(st.text(max_size=8), st.text(max_size=8) | st.integers(0, 1 << 40) | st.lists(st.text(max_size=4)))
)
def test_all_claims_round_trip_through_json(claims: dict[str, Any]) -> None:
    """The tag covers the encoded claims, and encoding them again gives the same bytes."""
    claims.pop(CLAIM, None)
    assert is_right(json.loads(json.dumps(OURS.vouch(1, "seed", claims))))
