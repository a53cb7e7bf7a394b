"""A signed access token: its signature and its claims, strictly (RFC 9068 §4, RFC 8725); pure."""

import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey
from joserfc.jws import JWSRegistry

from heirloom_client.errors import InvalidToken

MAX_TOKEN_CHARACTERS = 8192
"""The service issues none that is longer."""
ALGORITHMS = {"ES256": ("EC", "P-256"), "EdDSA": ("OKP", "Ed25519"), "Ed25519": ("OKP", "Ed25519")}
"""The algorithms that are accepted, each with the kind of key and the curve that it goes with (RFC 8725 §3.1)."""
TYPES = ("at+jwt", "application/at+jwt")
HEADER_PARAMETERS = {"alg", "kid", "typ"}
"""No other is accepted: `jku`, `x5u` and `jwk` would let a token choose its key, `crit` how it is read."""
MAX_KEYS = 100
MAX_HEADERS = 4 * MAX_KEYS
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")


class Actor(msgspec.Struct, frozen=True):
    """The client that acts, and in `act` the one before it (RFC 8693 §4.1)."""

    sub: str
    act: "Actor | None" = None


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """The claims of a good access token (RFC 9068 §2.2). Times are NumericDates.

    `sid` is the family that it is of. `sub_type` is `client` where `sub` is a client and no person.
    """

    iss: str
    sub: str
    aud: str | tuple[str, ...]
    client_id: str
    iat: int
    exp: int
    jti: str
    sid: str
    scope: str = ""
    nbf: int | None = None
    acr: str | None = None
    amr: tuple[str, ...] = ()
    auth_time: int | None = None
    act: Actor | None = None
    sub_type: str | None = None
    exchanged_from: tuple[str, ...] = ()

    @property
    def audience(self) -> tuple[str, ...]:
        """The resources that it is for."""
        return (self.aud,) if isinstance(self.aud, str) else self.aud

    @property
    def scopes(self) -> frozenset[str]:
        """What it may be used for, word by word."""
        return frozenset(self.scope.split())


_decode_claims = msgspec.json.Decoder(Claims).decode


class IssuerKey(NamedTuple):
    """A key of the issuer, and the one algorithm that it is for."""

    alg: str
    key: Key


class KeySet:
    """The issuer's keys, by `kid`. A token that names another one is refused: nothing is fetched for it."""

    def __init__(self, jwks: Sequence[Mapping[str, Any]] = ()) -> None:
        """Raises `ValueError` for more than `MAX_KEYS`; what is no public signature key of ours is left out."""
        if len(jwks) > MAX_KEYS:
            raise ValueError(f"{len(jwks):,} keys; an issuer has at most {MAX_KEYS}")
        self._keys = {str(jwk["kid"]): key for jwk in jwks if (key := _imported(jwk)) is not None}
        self._headers: dict[str, IssuerKey] = {}

    def signed(self, token: str) -> bytes:
        """The payload of a token that one of the keys has signed as an access token. Raises `InvalidToken`."""
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise InvalidToken(f"it is longer than any access token, {MAX_TOKEN_CHARACTERS:,} characters")
        parts = token.split(".")
        if len(parts) != 3 or not token.isascii():
            opaque = "it is opaque: only the service can say what it is (introspect)"
            raise InvalidToken(opaque if token.startswith("hat_") else "it is no signed token")
        header, payload, signature = parts
        known = self._headers.get(header) or self._read(header)
        signing_input = token[: len(header) + 1 + len(payload)].encode()
        if not JWSRegistry.algorithms[known.alg].verify(signing_input, _decoded(signature), known.key):
            raise InvalidToken("the signature is wrong")
        return _decoded(payload)

    def _read(self, header: str) -> IssuerKey:
        """The key that a header names. Headers of one key are mostly the same text, so they are remembered."""
        found = _parameters(header)
        if unknown := found.keys() - HEADER_PARAMETERS:
            raise InvalidToken(f"its header has a parameter that is not accepted here: {_shown(min(unknown))}")
        alg, typ, kid = found.get("alg"), found.get("typ"), found.get("kid")
        if alg not in ALGORITHMS:
            raise InvalidToken("its header names no algorithm that is accepted here")
        if not isinstance(typ, str) or typ.lower() not in TYPES:
            raise InvalidToken("it is not of the type at+jwt: no access token")
        known = self._keys.get(kid) if isinstance(kid, str) else None
        if known is None:
            raise InvalidToken("no key of the issuer has that kid")
        if known.alg != alg:
            raise InvalidToken("its header names another algorithm than the key is for")
        if len(self._headers) >= MAX_HEADERS:
            self._headers.clear()
        self._headers[header] = known
        return known


class Expected(NamedTuple):
    """What the claims must be: by whom, for whom; `leeway` is by how many seconds the clocks may differ."""

    issuer: str
    audience: str
    leeway: float


def claims_of(payload: bytes, expected: Expected, now: float) -> Claims:
    """The claims, if they are as expected at the time `now`. Raises `InvalidToken`."""
    try:
        claims = _decode_claims(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidToken("its claims are not those of an access token") from None
    if claims.iss != expected.issuer:
        raise InvalidToken("another issuer has made it")
    if expected.audience not in claims.audience:
        raise InvalidToken("it is for another resource")
    if now >= claims.exp + expected.leeway:
        raise InvalidToken("it has expired")
    if now < max(claims.iat, claims.nbf or 0) - expected.leeway:
        raise InvalidToken("it is not valid yet: does this machine's clock run behind?")
    return claims


def _imported(jwk: Mapping[str, Any]) -> IssuerKey | None:
    alg = jwk.get("alg")
    if alg not in ALGORITHMS or (jwk.get("kty"), jwk.get("crv")) != ALGORITHMS[alg] or jwk.get("use", "sig") != "sig":
        return None
    if "d" in jwk or not isinstance(jwk.get("kid"), str):
        return None
    try:
        kind = ECKey if jwk["kty"] == "EC" else OKPKey
        return IssuerKey(
            alg, kind.import_key({name: str(jwk[name]) for name in ("kty", "crv", "x", "y") if name in jwk})
        )
    except (JoseError, ValueError, KeyError):
        return None


def _parameters(header: str) -> dict[str, Any]:
    """The header's parameters. Raises `InvalidToken`, also where one stands there twice (RFC 7515 §4)."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError
        return found

    try:
        found = json.loads(_decoded(header), object_pairs_hook=once)
    except (ValueError, RecursionError):
        raise InvalidToken("its header cannot be read") from None
    if not isinstance(found, dict):
        raise InvalidToken("its header cannot be read")
    return found


def _decoded(part: str) -> bytes:
    """Base64url without padding (RFC 7515 §2). Raises `InvalidToken`."""
    try:
        padded = part.encode() + b"=" * (-len(part) % 4)
        return binascii.a2b_base64(padded.translate(_TO_STANDARD), strict_mode=True)
    except ValueError:
        raise InvalidToken("it is not in base64url") from None


def _shown(name: str) -> str:
    return repr(name[:20])
