"""A client's public keys (RFC 7517), and which of them are strong enough (RFC 7518 §3.3, §3.4; RFC 8037)."""

import warnings
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from joserfc.jwk import Key

MAX_KEYS = 16
MAX_BYTES = 12 * 1024
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 4096
MIN_EXPONENT, MAX_EXPONENT = 65537, (1 << 32) - 1
RSA_ALGORITHMS = ("PS256", "RS256")
CURVES = {"EC": ("P-256",), "OKP": ("Ed25519",)}
"""By key type: the curves of the algorithms in `service.clients.assertion`."""


def fault_of(jwks: dict[str, Any]) -> str | None:
    """Why this JWK Set cannot be registered, in words for the operator; None if it can."""
    from joserfc.errors import JoseError  # imported late: a process that only reads settings starts faster without it

    if len(msgspec.json.encode(jwks)) > MAX_BYTES:
        return f"must have at most {MAX_BYTES} bytes"
    try:
        keys = keys_of(jwks)
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        return "is not a JWK Set (RFC 7517 section 5)"
    if any(key.is_private or key.key_type == "oct" for key in keys):
        return "must hold public keys only"
    if not 1 <= len(keys) <= MAX_KEYS:
        return f"must hold 1 to {MAX_KEYS} keys"
    if (fault := next((fault for key in keys if (fault := weakness(key)) is not None), None)) is not None:
        return fault
    if any(key.key_type == "RSA" and key.get("alg") not in RSA_ALGORITHMS for key in keys):
        return f"an RSA key must name its alg, {' or '.join(RSA_ALGORITHMS)} (RFC 8725 section 3.1)"
    return None


def keys_of(jwks: dict[str, Any]) -> "list[Key]":
    """All keys of a JWK Set, weak ones too.

    Raises `JoseError`, and for a malformed set also `ValueError`, `TypeError`, `KeyError` or `AttributeError`.
    """
    from joserfc.errors import SecurityWarning
    from joserfc.jwk import KeySet

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)  # `weakness` reports the same to the operator
        return list(KeySet.import_key_set(jwks).keys)  # type: ignore[arg-type]  # it checks the shape itself


def weakness(key: "Key") -> str | None:
    """Why the key is too weak to authenticate a client; None for a key that is strong enough."""
    from joserfc.jwk import RSAKey

    if key.key_type != "RSA":
        curves = CURVES.get(key.key_type, ())
        return None if key.get("crv") in curves else "an EC key must be on P-256, an OKP key on Ed25519"
    assert isinstance(key, RSAKey)
    numbers = key.public_key.public_numbers()
    if not MIN_RSA_BITS <= numbers.n.bit_length() <= MAX_RSA_BITS:
        return f"an RSA key must have {MIN_RSA_BITS} to {MAX_RSA_BITS} bits (RFC 7518 section 3.3)"
    if numbers.n % 2 == 0 or numbers.e % 2 == 0 or not MIN_EXPONENT <= numbers.e <= MAX_EXPONENT:
        return f"an RSA key's exponent must be odd and {MIN_EXPONENT} or more, of at most 32 bits"
    return None
