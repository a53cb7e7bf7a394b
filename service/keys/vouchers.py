"""A second proof, besides the signature, that the service made an access token (ADR 0027).

A thief of a signing key can sign anything. So the claims contain a tag: a MAC over all of them under the service's
key *and* the seed of the token's family, which is in the log. The signing key, the keyring or the log alone is not
enough to make a tag, and the service recognises its tokens without storing them.
"""

import hmac
from functools import lru_cache, partial
from typing import Any

import msgspec

from events import base62
from events.token_format import KEY_WIDTH, LONG_TAG_WIDTH
from service.keys.keyring import Keyring
from service.keys.mac_tokens import tag_of

CLAIM = "tag"
_encode = msgspec.json.Encoder().encode


class Vouchers:
    """Makes and checks the tags of one tenant's access tokens."""

    def __init__(self, keyring: Keyring, tenant: str) -> None:
        self._keyring = keyring
        self._label = f"claims/{tenant}"
        self._mac = lru_cache(maxsize=4096)(self._new_mac)

    def vouch(self, key: int, seed: str, claims: dict[str, Any]) -> dict[str, Any]:
        """The claims with their tag as the last member; the same arguments always give the same tag."""
        return claims | {CLAIM: self._tag(key, seed, _encode(claims))}

    def proof_of(self, claims: dict[str, Any]) -> "partial[bool] | None":
        """A function of a family's seed that tells whether the tag is right; None if there is no tag to check."""
        tag = claims.get(CLAIM)
        key = base62.decode_int(tag[:KEY_WIDTH]) if isinstance(tag, str) and tag.isascii() else None
        if key is None or key not in self._keyring:
            return None
        # decoding keeps the order of the members, so encoding them again gives the same bytes
        message = _encode({name: value for name, value in claims.items() if name != CLAIM})
        return partial(self._is_right, str(tag), key, message)

    def _is_right(self, tag: str, key: int, message: bytes, seed: str) -> bool:
        return hmac.compare_digest(tag, self._tag(key, seed, message))

    def _tag(self, key: int, seed: str, message: bytes) -> str:
        return base62.encode_int(key, KEY_WIDTH) + tag_of(self._mac(key, seed), message, LONG_TAG_WIDTH)

    def _new_mac(self, key: int, seed: str) -> hmac.HMAC:
        family_key = hmac.digest(self._keyring.derive(key, self._label), seed.encode(), "sha256")
        return hmac.new(family_key, digestmod="sha256")
