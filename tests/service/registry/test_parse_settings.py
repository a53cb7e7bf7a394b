"""Settings that an operator may register, and those refused with a reason (RFC 7591 §2)."""

import json
import warnings
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

from events.aggregates.settings import TOKEN_EXCHANGE, ClientSettings, TenantSettings
from service.clients import assertion
from service.decide.policy import resolve
from service.errors import OAuthError
from service.keys.client_keys import MAX_KEYS
from service.registry.parse_settings import for_client, for_tenant, parse

PUBLIC = {"token_endpoint_auth_method": "none"}
EXCHANGES = {"grant_types": [TOKEN_EXCHANGE]}
BY_KEYS = {"token_endpoint_auth_method": "private_key_jwt"}
STRONG: dict[str, Key] = {
    "P-256": ECKey.generate_key("P-256"),
    "Ed25519": OKPKey.generate_key("Ed25519"),
    "RSA 2048": RSAKey.generate_key(2048),
}


def jwks(*keys: Key) -> dict[str, Any]:
    return {"keys": [key.as_dict(private=False) | ({"alg": "PS256"} if key.key_type == "RSA" else {}) for key in keys]}


def _rsa(bits: int, exponent: int) -> Key:
    """A public key of any strength; its modulus is no product of primes, which is not checked here."""
    numbers = rsa.RSAPublicNumbers(exponent, (1 << bits - 1) + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        return RSAKey.import_key(numbers.public_key())


WEAK: dict[str, Key] = {
    "RSA 1024": _rsa(1024, 65537),
    "RSA 1536": _rsa(1536, 65537),
    "RSA 2047": _rsa(2047, 65537),
    "RSA 8192": _rsa(8192, 65537),
    "e = 3": _rsa(2048, 3),
    "e = 65535": _rsa(2048, 65535),
    "e of 64 bits": _rsa(2048, (1 << 63) + 1),
    "P-384": ECKey.generate_key("P-384"),
    "P-521": ECKey.generate_key("P-521"),
    "secp256k1": ECKey.generate_key("secp256k1"),
    "Ed448": OKPKey.generate_key("Ed448"),
    "X25519": OKPKey.generate_key("X25519"),
}


@pytest.mark.parametrize("key", STRONG.values(), ids=STRONG)
def test_strong_client_keys_are_accepted(key: Key) -> None:
    """RFC 7518 §3.3, §3.4, RFC 8037."""
    assert for_client(BY_KEYS | {"jwks": jwks(key)}, TenantSettings()).jwks == jwks(key)


@pytest.mark.parametrize("alg", [{}, {"alg": "RSA-OAEP"}, {"alg": "ES256"}, {"alg": "RS384"}], ids=str)
def test_an_rsa_key_names_its_only_algorithm(alg: dict[str, str]) -> None:
    """RFC 8725 §3.1: PS256 and RS256 could use the same key."""
    key = STRONG["RSA 2048"].as_dict(private=False) | alg
    with pytest.raises(OAuthError, match="jwks: an RSA key must name its alg, PS256 or RS256"):
        for_client(BY_KEYS | {"jwks": {"keys": [key]}}, TenantSettings())


def test_a_public_client_with_codes_needs_redirect_uris() -> None:
    """RFC 6749 §3.1.2.2: else its codes could be sent anywhere. Also if a default makes the client public."""
    public = TenantSettings(token_endpoint_auth_method="none")
    for given, tenant in ((PUBLIC, TenantSettings()), ({}, public), ({"redirect_uris": []}, public)):
        with pytest.raises(OAuthError, match="redirect_uris: a public client"):
            for_client(given, tenant)
    for_client(PUBLIC | {"grant_types": ["refresh_token"]}, TenantSettings())
    for_client(PUBLIC, TenantSettings(redirect_uris=("https://app.example/cb",)))
    for_client({}, TenantSettings())


@pytest.mark.parametrize("key", WEAK.values(), ids=WEAK)
def test_a_weak_or_unusable_key_is_refused_with_the_reason(key: Key) -> None:
    """RFC 7518 §3.3: RSA of at least 2,048 bits with a sane exponent, or a curve of a supported algorithm.

    An older log may have such a key: it verifies no assertion either.
    """
    with pytest.raises(OAuthError, match=r"jwks: an (RSA|EC) key"):
        for_client(BY_KEYS | {"jwks": jwks(STRONG["P-256"], key)}, TenantSettings())
    kept = assertion._keys(b'{"keys":%s}' % _encoded(key, STRONG["P-256"]))
    assert [known.thumbprint() for known in kept] == [STRONG["P-256"].thumbprint()]


def _encoded(*keys: Key) -> bytes:
    return json.dumps(jwks(*keys)["keys"]).encode()


@pytest.mark.parametrize(
    "given",
    [
        {"keys": []},
        {"keys": jwks(STRONG["P-256"])["keys"] * (MAX_KEYS + 1)},
        {"keys": jwks(STRONG["P-256"])["keys"], "padding": "x" * 13_000},
        {"keys": [STRONG["P-256"].as_dict(private=True)]},
        {"keys": [OctKey.generate_key(256).as_dict(private=True)]},
        {"keys": "x"},
        {},
    ],
    ids=["none", "many", "large", "private", "symmetric", "no list", "nothing"],
)
def test_a_key_set_is_small_and_public(given: dict[str, Any]) -> None:
    """RFC 7517 §5: it has a key, none is secret, and there are not too many."""
    with pytest.raises(OAuthError, match="jwks: "):
        for_client(BY_KEYS | {"jwks": given}, TenantSettings())


def test_a_client_that_authenticates_by_keys_has_some() -> None:
    """RFC 7523 §3: else it could never authenticate; its tenant may have them."""
    with pytest.raises(OAuthError, match="jwks: "):
        for_client(BY_KEYS, TenantSettings())
    with pytest.raises(OAuthError, match="jwks: "):
        for_client({}, TenantSettings(token_endpoint_auth_method="private_key_jwt"))
    assert for_client(BY_KEYS, TenantSettings(jwks=jwks(STRONG["P-256"]))).jwks is None


def test_a_public_client_may_not_exchange_tokens() -> None:
    """RFC 8693 §5: else a stolen token could be exchanged without a proof. Also if a default makes it public."""
    for given, tenant in (
        (PUBLIC | EXCHANGES, TenantSettings()),
        (EXCHANGES, TenantSettings(token_endpoint_auth_method="none")),
        (PUBLIC, TenantSettings(grant_types=(TOKEN_EXCHANGE,))),
    ):
        with pytest.raises(OAuthError, match="grant_types: a public client"):
            for_client(given, tenant)
    with pytest.raises(OAuthError, match="grant_types: a public client"):
        for_tenant(PUBLIC | EXCHANGES)
    assert for_client(EXCHANGES, TenantSettings()).grant_types == (TOKEN_EXCHANGE,)


def test_audiences_and_may_exchange_are_settings() -> None:
    """CONTRACT §4: a client's override its tenant's; without any, the issuer is the only audience."""
    tenant = for_tenant({"audiences": ["https://a.example", "stock"]})
    assert resolve(tenant, for_client({}, tenant)).audiences == ("https://a.example", "stock")
    assert resolve(tenant, for_client({"audiences": ["*"]}, tenant)).audiences == ("*",)
    assert resolve(TenantSettings(), ClientSettings()).audiences == ()
    assert for_client({"may_exchange": ["web"]}, tenant).may_exchange == ("web",)
    for wrong in ({"audiences": [""]}, {"audiences": ["x" * 513]}, {"audiences": ["a\nb"]}, {"audiences": ["x"] * 65}):
        with pytest.raises(OAuthError, match="audiences: "):
            parse(TenantSettings, wrong)
    for names in (["*"], ["no client"], ["x"] * 65):
        with pytest.raises(OAuthError, match="may_exchange: "):
            parse(ClientSettings, {"may_exchange": names})
    with pytest.raises(OAuthError, match="may_exchange: unknown setting"):
        parse(TenantSettings, {"may_exchange": ["web"]})


@pytest.mark.parametrize(("name", "most"), [("max_pending_devices", 5_000), ("max_connections", 10_000)])
def test_no_setting_exceeds_the_bounds_of_tenant_and_broker(name: str, most: int) -> None:
    """A tenant's devices and the broker's connections stay bounded, whatever is registered."""
    assert getattr(for_client({name: most}, TenantSettings()), name) == most
    with pytest.raises(OAuthError, match=f"{name}: must be 1 to {most}"):
        for_client({name: most + 1}, TenantSettings())
