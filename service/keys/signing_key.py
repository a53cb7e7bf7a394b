"""Access tokens as JWTs (RFC 9068), and the keys that sign them.

A signing key is computed from the keyring, so every replica with the keyring has it; the log tells which keys a tenant
has and the status of each. Header and algorithm are fixed when a key is loaded. Verifying accepts exactly the headers
that are made here, so a token cannot choose its `alg` or `jku` (RFC 8725 §3.1).
"""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from joserfc.jwk import ECKey, Key, OKPKey
from joserfc.jws import JWSRegistry

from events.aggregates.settings import SigningAlg
from events.base64url import decode_exactly, encode
from service.keys.keyring import Keyring

TokenType: TypeAlias = Literal["at+jwt", "JWT"]

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class SigningKey:
    """One key of a tenant, which signs and verifies."""

    def __init__(self, keyring: Keyring, tenant: str, secret: int, number: int, alg: SigningAlg) -> None:
        # the name that every library knows; few know "Ed25519" (RFC 9864)
        self.alg = "EdDSA" if alg == "Ed25519" else alg
        self._algorithm = JWSRegistry.algorithms[self.alg]
        self._key = _derive(keyring, f"sign/{tenant}/{number}", secret, alg)
        self._sign = _signer(self._key)
        self.kid = self._key.thumbprint()
        self._headers: dict[TokenType, bytes] = {typ: self._header(typ) for typ in ("at+jwt", "JWT")}

    def public_jwk(self) -> dict[str, str]:
        """The public JWK (RFC 7517) with `kid` (RFC 7638), `use` and `alg`."""
        public = {name: str(value) for name, value in self._key.as_dict(private=False).items()}
        return public | {"kid": self.kid, "use": "sig", "alg": self.alg}

    def sign(self, claims: dict[str, Any], typ: TokenType = "at+jwt") -> str:
        """The claims as a compact JWS."""
        signing_input = self._headers[typ] + b"." + encode(msgspec.json.encode(claims))
        return (signing_input + b"." + encode(self._sign(signing_input))).decode()

    def verify(self, header: bytes, payload: bytes, signature: bytes) -> dict[str, Any] | None:
        """The claims of an access token that this key signed, else None. Each part is base64url."""
        if header != self._headers["at+jwt"]:
            return None
        try:
            if not self._algorithm.verify(header + b"." + payload, decode_exactly(signature), self._key):
                return None
            claims: dict[str, Any] = msgspec.json.decode(decode_exactly(payload), type=dict[str, Any])
        except ValueError:
            return None
        return claims

    def _header(self, typ: TokenType) -> bytes:
        return encode(msgspec.json.encode({"alg": self.alg, "typ": typ, "kid": self.kid}))


def kid_of(header: bytes) -> str | None:
    """The `kid` that a JWS header names. It is not verified, and serves only to find the key to try."""
    try:
        named = msgspec.json.decode(decode_exactly(header), type=dict[str, Any]).get("kid")
    except (ValueError, RecursionError):
        return None
    return named if isinstance(named, str) else None


def _derive(keyring: Keyring, label: str, secret: int, alg: SigningAlg) -> Key:
    if alg == "Ed25519":
        seed = keyring.derive(secret, f"{label}/Ed25519", 32)
        return OKPKey.import_key(ed25519.Ed25519PrivateKey.from_private_bytes(seed))
    # FIPS 186-5 A.2.1: 128 bits more than the order needs, so the remainder has no bias worth naming
    wide = int.from_bytes(keyring.derive(secret, f"{label}/ES256", 48))
    return ECKey.import_key(ec.derive_private_key(wide % (_P256_ORDER - 1) + 1, ec.SECP256R1()))


def _signer(key: Key) -> Callable[[bytes], bytes]:
    """A function that signs by RFC 7518 §3.4 or RFC 8037 §3.1; work that is the same for all messages is done here."""
    private = key.private_key
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return private.sign
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    algorithm = ec.ECDSA(hashes.SHA256())

    def sign(message: bytes) -> bytes:
        r, s = decode_dss_signature(private.sign(message, algorithm))
        return r.to_bytes(32) + s.to_bytes(32)

    return sign
