"""What vouches for a signed access token besides its signature (ADR 0027).

A signing key is a key of its own, and whoever stole it can sign anything. So the claims carry a tag: a MAC over all of
them under the service's key *and* the seed of the token's family, which is in the log. Who has the one, or the other,
or the signing key, makes no tag; and the service has to remember no token to know each that it gave.
"""

import hmac
from functools import lru_cache, partial
from typing import Any

import msgspec

from events import base62
from service.keys.keyring import Keyring
from service.keys.mac_tokens import tag_of

CLAIM = "tag"
_KEY, _TAG = 2, 22
_encode = msgspec.json.Encoder().encode


class Vouchers:
    """One tenant's."""

    def __init__(self, keyring: Keyring, tenant: str) -> None:
        self._keyring = keyring
        self._label = f"claims/{tenant}"
        self._mac = lru_cache(maxsize=4096)(self._new_mac)

    def vouch(self, key: int, seed: str, claims: dict[str, Any]) -> dict[str, Any]:
        """The claims, and the tag after them: the same one whenever it is asked for."""
        return claims | {CLAIM: self._tag(key, seed, _encode(claims))}

    def proof_of(self, claims: dict[str, Any]) -> "partial[bool] | None":
        """What tells, given a family's seed, whether the service vouches for these claims; None where nothing can."""
        tag = claims.get(CLAIM)
        key = base62.decode_int(tag[:_KEY]) if isinstance(tag, str) and tag.isascii() else None
        if key is None or key not in self._keyring:
            return None
        # decoding keeps the order of the members, so what was encoded once is encoded alike again
        said = _encode({name: value for name, value in claims.items() if name != CLAIM})
        return partial(self._is_right, str(tag), key, said)

    def _is_right(self, tag: str, key: int, said: bytes, seed: str) -> bool:
        return hmac.compare_digest(tag, self._tag(key, seed, said))

    def _tag(self, key: int, seed: str, said: bytes) -> str:
        return base62.encode_int(key, _KEY) + tag_of(self._mac(key, seed), said, _TAG)

    def _new_mac(self, key: int, seed: str) -> hmac.HMAC:
        family_key = hmac.digest(self._keyring.derive(key, self._label), seed.encode(), "sha256")
        return hmac.new(family_key, digestmod="sha256")
