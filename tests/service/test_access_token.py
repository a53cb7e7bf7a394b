"""Whose signature counts, and for how long."""

from typing import Any

import pytest

from events.key import KeyState
from service import access_token, clock
from service.keyring import Keyring
from service.registry import LEEWAY_SECONDS, Tenant, TenantKey
from service.signing import SigningKey
from service.vouchers import Vouchers
from tests.service.families import START, at

KEYS = Keyring({1: b"a" * 32})
TTL = 600


def _token(key: SigningKey) -> str:
    claims: dict[str, Any] = {"iss": "urn:heirloom:acme", "sub": "alice", "aud": "x", "client_id": "web", "iat": 0}
    claims |= {"exp": 1 << 33, "jti": "j", "sid": "f", "scope": "read"}
    return key.sign(Vouchers(KEYS, "acme").vouch(KEYS.first, "seed", claims))


def test_a_retired_key_is_good_for_nothing_once_its_last_token_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what leaked would sign for ever. The lifetime that counts is the longest that tokens were given."""
    tenant = Tenant("acme", KEYS)
    key = SigningKey(KEYS, "acme", KEYS.first, 1, "ES256")
    state = KeyState("ES256", KEYS.first, 1, key.public_jwk(), "retired")
    tenant.keys[key.kid] = TenantKey(key, state, START, 1)
    for ttl in (TTL, 1, None):
        tenant.gave(ttl)
    last = TTL + LEEWAY_SECONDS
    for seconds, good in ((0, True), (last - 1, True), (last, False), (last + 10_000, False)):
        monkeypatch.setattr(clock, "now", lambda seconds=seconds: at(seconds))
        assert (access_token._signed(tenant, _token(key)) is not None) == good
