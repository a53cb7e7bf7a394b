"""A client's proof by a signed assertion: `private_key_jwt` (RFC 7523 §3, RFC 7521 §4.2, RFC 8725)."""

import hashlib
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import Key
from joserfc.jws import CompactSignature, JWSRegistry, extract_compact
from nats.errors import Error as NatsError
from nats.js.client import JetStreamContext
from nats.js.errors import APIError

from events import base64url
from events.bus.connection import Connection
from events.log.jetstream_api import Unavailable
from events.log.stream import ensure_exactly
from service.keys.client_keys import keys_of, weakness

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ALGORITHMS = ("ES256", "Ed25519", "EdDSA", "PS256", "RS256")
TYPES = ("jwt", "client-authentication+jwt")
FORBIDDEN_HEADER_PARAMETERS = frozenset({"jku", "jwk", "x5u", "x5c", "crit", "b64"})
"""A token must not choose its own key (RFC 8725 §3.10), and no header extension is supported (RFC 7515 §4.1.11)."""

MAX_LIFETIME_SECONDS = 600
LEEWAY_SECONDS = 30

BUCKET = "heirloom-assertions"
MARGIN_SECONDS = 300
SEQUENCE_CONFLICTS = (10071, 10164)


def bucket(copies: int, tolerated_seconds: int) -> dict[str, Any]:
    """The configuration of the bucket's stream: the least that NATS tools recognise as a bucket.

    It keeps each assertion for longer than any is valid, even if two replicas' clocks are as far apart as allowed
    (`--max-clock-skew`, each from the broker's clock).
    """
    max_age_seconds = MAX_LIFETIME_SECONDS + 2 * tolerated_seconds + MARGIN_SECONDS
    return {
        "name": f"KV_{BUCKET}",
        "subjects": [f"$KV.{BUCKET}.>"],
        "retention": "limits",
        "storage": "file",
        "num_replicas": copies,
        "discard": "new",
        "compression": "none",
        "max_age": max_age_seconds * 1_000_000_000,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_msgs_per_subject": 1,
        "deny_delete": True,
        "allow_rollup_hdrs": True,
        "allow_msg_ttl": True,
    }


class AssertionClaims(msgspec.Struct, frozen=True):
    """The claims of RFC 7523 §3; times are NumericDates."""

    iss: str
    sub: str
    aud: str | tuple[str, ...]
    exp: float
    jti: str
    nbf: float | None = None
    iat: float | None = None

    def are_good(self, client_id: str, audiences: tuple[str, ...], now: float) -> bool:
        """Whether the claims authenticate that client to us alone, now. `audiences` are our names."""
        aud = (self.aud,) if isinstance(self.aud, str) else self.aud
        begins = max(self.nbf or 0.0, self.iat or 0.0)
        return (
            self.iss == self.sub == client_id
            # an assertion with other audiences too could be presented here by them
            and len(aud) > 0
            and set(aud) <= set(audiences)
            and now < self.exp <= now + MAX_LIFETIME_SECONDS
            and begins <= now + LEEWAY_SECONDS
            and self.jti != ""
        )


class Assertion(NamedTuple):
    """A decoded assertion; neither its signature nor its claims are checked."""

    header: dict[str, Any]
    claims: AssertionClaims
    signed: CompactSignature

    def is_signed_by(self, jwks: dict[str, Any]) -> bool:
        """Whether one of the keys made the signature; only the key that the `kid` names, if there is one, counts."""
        algorithm = JWSRegistry.algorithms[self.header["alg"]]
        segments = self.signed.segments
        signing_input = segments["header"] + b"." + segments["payload"]
        kid = self.header.get("kid")
        for key in _keys(msgspec.json.encode(jwks)):
            if kid is not None and key.kid != kid:
                continue
            try:
                algorithm.check_key(key)
                if algorithm.verify(signing_input, base64url.decode_exactly(segments["signature"]), key):
                    return True
            except (JoseError, ValueError, TypeError):
                continue  # a key of another kind
        return False


def read(text: str) -> Assertion | None:
    """Decode an assertion; None if it is no JWS, its algorithm or header is not allowed, or a claim is missing."""
    try:
        signed = extract_compact(text.encode())
        claims = msgspec.json.decode(signed.payload, type=AssertionClaims)
    except (JoseError, ValueError, TypeError, RecursionError):
        return None
    header = signed.headers()
    typ = header.get("typ", "JWT")
    if header.get("alg") not in ALGORITHMS or FORBIDDEN_HEADER_PARAMETERS & header.keys():
        return None
    if not isinstance(typ, str) or typ.lower() not in TYPES:
        return None
    return Assertion(header, claims, signed)


@lru_cache(maxsize=1024)
def _keys(jwks: bytes) -> list[Key]:
    """The keys that are strong enough; an older log may hold weak ones."""
    return [key for key in keys_of(msgspec.json.decode(jwks)) if weakness(key) is None]


class UsedAssertions:
    """Accepts each assertion once, over all replicas and their restarts (RFC 7523 §3)."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._jetstream: JetStreamContext = connection.jetstream()

    async def start(self, copies: int, tolerated_seconds: int) -> None:
        """Create the bucket, or update the existing one. Raises `WeakStream` if the broker refuses that."""
        await ensure_exactly(self._connection, bucket(copies, tolerated_seconds), mends=True)

    async def use(self, tenant: str, client_id: str, jti: str) -> bool:
        """Whether this is the assertion's first use. The bucket stores only a digest. Raises `Unavailable`."""
        key = hashlib.sha256(msgspec.json.encode((tenant, client_id, jti))).hexdigest()
        try:
            await self._jetstream.publish(
                f"$KV.{BUCKET}.{key}", b"", timeout=1, headers={"Nats-Expected-Last-Subject-Sequence": "0"}
            )
        except APIError as error:
            if error.err_code in SEQUENCE_CONFLICTS:
                return False
            raise Unavailable("assertions cannot be remembered now") from error
        except NatsError as error:
            raise Unavailable("assertions cannot be remembered now") from error
        return True
