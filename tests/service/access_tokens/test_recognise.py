"""Which signatures are accepted, and for how long."""

from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from events.aggregates.client import ClientState
from events.aggregates.key import KeyState
from events.aggregates.settings import TenantSettings
from service import clock
from service.access_tokens import recognise
from service.context import Context
from service.endpoints.discovery import jwks_of
from service.families.cache import LoadedFamily
from service.keys.keyring import Keyring
from service.keys.signing_key import SigningKey
from service.keys.vouchers import Vouchers
from service.registry.tenant import LEEWAY_SECONDS, Tenant, TenantKey
from tests.service.decide.given import RULES, START, at, given, opened

KEYS = Keyring({1: b"a" * 32})
TTL = 600


def _token(key: SigningKey, **changes: Any) -> str:
    claims: dict[str, Any] = {"iss": "urn:heirloom:acme", "sub": "alice", "aud": "x", "client_id": "web", "iat": 0}
    claims |= {"exp": 1 << 33, "jti": "j", "sid": "f", "scope": "read"} | changes
    return key.sign(Vouchers(KEYS, "acme").vouch(KEYS.first, "seed", claims))


def _acme(status: str = "active") -> tuple[Tenant, SigningKey]:
    """A tenant with one key that exists since `START`."""
    tenant = Tenant("acme", KEYS)
    key = SigningKey(KEYS, "acme", KEYS.first, 1, "ES256")
    state = KeyState("ES256", KEYS.first, 1, key.public_jwk(), cast("Any", status))
    tenant.keys[key.kid] = TenantKey(key, state, START, 1)
    return tenant, key


def test_a_retired_key_verifies_nothing_after_its_last_token_has_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a leaked key would sign for ever. The longest recorded token lifetime counts."""
    tenant, key = _acme("retired")
    for ttl in (TTL, 1, None):
        tenant.record_token_lifetimes(ttl)
    last = TTL + LEEWAY_SECONDS
    for seconds, good in ((0, True), (last - 1, True), (last, False), (last + 10_000, False)):
        monkeypatch.setattr(clock, "now", lambda seconds=seconds: at(seconds))
        assert (recognise._signed(tenant, _token(key)) is not None) == good
        assert (jwks_of(tenant)["keys"] != []) == good, "it is not published either"


def test_a_token_of_a_renamed_issuer_is_void() -> None:
    """RFC 9068 §4: `iss` must equal the issuer's current name exactly, whichever of its keys signed."""
    tenant, key = _acme()
    assert recognise._signed(tenant, _token(key)) is not None
    tenant.settings = TenantSettings(issuer="https://acme.example")
    assert recognise._signed(tenant, _token(key)) is None
    assert recognise._signed(tenant, _token(key, iss="https://acme.example/")) is None
    assert recognise._signed(tenant, _token(key, iss="https://acme.example")) is not None


async def test_an_access_token_is_dead_at_its_exact_expiry(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 7519 §4.1.4: "on or after" `exp` it is refused. RFC 7009 §2.2: also after a clock was set back."""
    tenant, key = _acme()
    exp = int(START.timestamp()) + 300
    token = _token(key, exp=exp, jti="jti-0", aud="https://acme.example")

    async def holder(*_: object) -> Any:
        return SimpleNamespace(state=ClientState(), rules=RULES)

    last: list[datetime | None] = [None]

    async def load(*_: object) -> LoadedFamily:
        return LoadedFamily(1, None, given(opened()), True, at=last[0])

    parts = SimpleNamespace(registry=SimpleNamespace(client=holder), families=SimpleNamespace(load=load))
    end = START.replace(microsecond=0) + timedelta(seconds=300)
    for now, active in ((end - timedelta(microseconds=1), True), (end, False)):
        monkeypatch.setattr(clock, "now", lambda now=now: now)
        assert (await recognise.active_in(cast("Context", parts), tenant, token) is not None) == active
    monkeypatch.setattr(clock, "now", lambda: end - timedelta(seconds=1))
    for last[0], active in ((end - timedelta(microseconds=1), True), (end, False)):
        found = await recognise.active_in(cast("Context", parts), tenant, token)
        assert (found is not None) == active, "dead once its family has a commit of a later time"
