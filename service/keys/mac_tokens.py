"""Tokens that are computed: none is stored, and the successor of a token is always the same one (ADR 0003).

A refresh token is `hrt_` and base62. It ends with six characters of CRC-32, for scanners that look for leaked secrets:

    key id (2) | family id (22) | generation (6) | short tag (11) | long tag (22) | CRC-32 (6)

Codes and opaque access tokens have another number in the place of the generation. The short tag is a MAC (62 bits)
under the service's key alone, so that garbage is refused before any read. The long tag is a MAC (125 bits) under the
service's key *and* the family's seed, which is in the log: neither the keyring nor the log is enough to make a token.
Each kind of token and each tenant has keys of its own, so the short tag of a token of another kind or tenant is wrong.
"""

import hashlib
import hmac
import secrets
import zlib
from functools import lru_cache
from typing import NamedTuple

from events import base62
from events.token_format import CRC_WIDTH, FAMILY_WIDTH, FORM, KEY_WIDTH, LONG_TAG_WIDTH, SHORT_TAG_WIDTH, TokenKind
from service.keys.keyring import Keyring

_CHARACTER_OF_BYTE = bytes(ord(base62.ALPHABET[byte % 62]) for byte in range(256))


class PresentedToken(NamedTuple):
    """A token whose short tag is right. `family_id` and `number` are not proved before `is_minted_for`."""

    key: int
    family_id: str
    number: int
    claim: str
    long_tag: str


class MacTokens:
    """Makes and recognises one tenant's tokens of one kind."""

    def __init__(self, keyring: Keyring, tenant: str, kind: TokenKind) -> None:
        self._keyring = keyring
        self._prefix, self._number = FORM[kind]
        self._claim_end = len(self._prefix) + KEY_WIDTH + FAMILY_WIDTH + self._number
        self._length = self._claim_end + SHORT_TAG_WIDTH + LONG_TAG_WIDTH + CRC_WIDTH
        self._short = f"{kind}/{tenant}/short"
        self._long = f"{kind}/{tenant}/long"
        # an HMAC with its key is computed once, and copied for each message
        self._short_mac = lru_cache(maxsize=256)(self._new_short_mac)
        self._long_mac = lru_cache(maxsize=4096)(self._new_long_mac)

    def mint(self, key: int, family_id: str, number: int, seed: str) -> str:
        """The token of that number; the same arguments always give the same token."""
        claim = self._prefix + base62.encode_int(key, KEY_WIDTH) + family_id + base62.encode_int(number, self._number)
        text = claim + self._short_tag(key, claim) + self._long_tag(key, claim, seed)
        return text + _checksum(text)

    def recognise(self, token: str) -> PresentedToken | None:
        """The token's parts, or None if this service cannot have made it. Reads neither the log nor a seed."""
        if len(token) != self._length or not token.startswith(self._prefix) or not token.isascii():
            return None
        text, checksum = token[:-CRC_WIDTH], token[-CRC_WIDTH:]
        if checksum != _checksum(text):
            return None
        claim, tags = text[: self._claim_end], text[self._claim_end :]
        start = len(self._prefix)
        key = base62.decode_int(claim[start : start + KEY_WIDTH])
        number = base62.decode_int(claim[start + KEY_WIDTH + FAMILY_WIDTH :])
        if key is None or number is None or key not in self._keyring:
            return None
        if not hmac.compare_digest(tags[:SHORT_TAG_WIDTH], self._short_tag(key, claim)):
            return None
        return PresentedToken(
            key, claim[start + KEY_WIDTH : start + KEY_WIDTH + FAMILY_WIDTH], number, claim, tags[SHORT_TAG_WIDTH:]
        )

    def is_minted_for(self, presented: PresentedToken, seed: str) -> bool:
        """Whether the long tag is right for a family with that seed: then this service made the token."""
        return hmac.compare_digest(presented.long_tag, self._long_tag(presented.key, presented.claim, seed))

    def _short_tag(self, key: int, claim: str) -> str:
        return tag_of(self._short_mac(key), claim.encode(), SHORT_TAG_WIDTH)

    def _long_tag(self, key: int, claim: str, seed: str) -> str:
        return tag_of(self._long_mac(key, seed), claim.encode(), LONG_TAG_WIDTH)

    def _new_short_mac(self, key: int) -> hmac.HMAC:
        return hmac.new(self._keyring.derive(key, self._short), digestmod="sha256")

    def _new_long_mac(self, key: int, seed: str) -> hmac.HMAC:
        family_key = hmac.digest(self._keyring.derive(key, self._long), seed.encode(), "sha256")
        return hmac.new(family_key, digestmod="sha256")


def new_id() -> str:
    """22 random characters, 125 bits: a family id, a `jti`, a commit's id."""
    return _as_text(secrets.token_bytes(FAMILY_WIDTH))


def new_seed() -> str:
    """22 random characters: with the service's key, they key a family's long tags."""
    return _as_text(secrets.token_bytes(FAMILY_WIDTH))


def short_digest(data: bytes) -> str:
    """128 bits of SHA-256 as 22 characters, to recognise a repeated request."""
    return base62.encode(hashlib.sha256(data).digest()[:16])


def tag_of(mac: hmac.HMAC, message: bytes, characters: int) -> str:
    """The first characters of the message's MAC. `mac` has its key and no message yet; it is not changed."""
    mac = mac.copy()
    mac.update(message)
    return _as_text(mac.digest()[:characters])


def _as_text(data: bytes) -> str:
    """A character for each byte. It holds 5.7 bits; an exact conversion to base62 would hold 5.95."""
    return data.translate(_CHARACTER_OF_BYTE).decode()


def _checksum(text: str) -> str:
    return base62.encode_int(zlib.crc32(text.encode()), CRC_WIDTH)
