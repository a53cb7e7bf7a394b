"""Tokens by computation: nothing about them is stored, and a successor is always the same one (DESIGN §2).

A refresh token is `hrt_`, the base62 of its 45 bytes, and six characters of CRC-32 for the scanners of leaked secrets:

    key id (1) | family (16) | generation (4) | short tag (8) | long tag (16)

Codes and opaque access tokens are the same with another number in the place of the generation.

The short tag is a MAC under the service's key alone, so that garbage is refused before any read. The long tag is a MAC
under the service's key *and* the family's seed, which is in the log: neither the log nor the keyring alone can mint.
Each kind of token and each tenant has keys of its own, so a token of another kind or tenant fails at the short tag.
"""

import hashlib
import hmac
import secrets
import zlib
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

from service import base62
from service.keyring import Keyring

Kind: TypeAlias = Literal["refresh", "code", "device", "access"]

FORM: dict[Kind, tuple[str, int]] = {
    "refresh": ("hrt_", 4),
    "code": ("hac_", 4),
    "device": ("hdc_", 4),
    "access": ("hat_", 8),
}
"""The prefix of each kind, and how many bytes its number takes: a generation, 0, 0, the commit's sequence."""
FAMILY_BYTES = 16
SEED_BYTES = 16
_CRC_CHARACTERS = 6


class Presented(NamedTuple):
    """A token whose short tag is right. `family_id` and `number` are what it claims until `is_minted_for`."""

    key: int
    family_id: str
    number: int
    authenticated: bytes
    long_tag: bytes


class Tokens:
    """Mints and recognises one tenant's tokens of one kind."""

    def __init__(self, keyring: Keyring, tenant: str, kind: Kind) -> None:
        self._keyring = keyring
        self._prefix, self._number_bytes = FORM[kind]
        self._claim_bytes = 1 + FAMILY_BYTES + self._number_bytes
        self._body_bytes = self._claim_bytes + 8 + 16
        self._characters = len(self._prefix) + base62.length(self._body_bytes) + _CRC_CHARACTERS
        self._short = f"{kind}/{tenant}/short"
        self._long = f"{kind}/{tenant}/long"
        self._family_key = lru_cache(maxsize=4096)(self._derive_family_key)

    def mint(self, key: int, family_id: str, number: int, seed: str) -> str:
        """The token of that number: the same one whenever it is asked for."""
        family = base62.decode(family_id, FAMILY_BYTES)
        if family is None:
            raise ValueError("not a family id of this service")
        claim = bytes((key,)) + family + number.to_bytes(self._number_bytes)
        body = claim + self._short_tag(key, claim) + self._long_tag(key, claim, seed)
        text = self._prefix + base62.encode(body)
        return text + _checksum(text)

    def recognise(self, token: str) -> Presented | None:
        """What the token claims, or None if this service cannot have made it. Needs no read and takes no secret out."""
        if len(token) != self._characters or not token.isascii():
            return None
        text, checksum = token[:-_CRC_CHARACTERS], token[-_CRC_CHARACTERS:]
        if not text.startswith(self._prefix) or checksum != _checksum(text):
            return None
        body = base62.decode(text[len(self._prefix) :], self._body_bytes)
        if body is None or body[0] not in self._keyring:
            return None
        claim, tags = body[: self._claim_bytes], body[self._claim_bytes :]
        short_tag, long_tag = tags[:8], tags[8:]
        if not hmac.compare_digest(short_tag, self._short_tag(body[0], claim)):
            return None
        family_id = base62.encode(claim[1:17])
        return Presented(body[0], family_id, int.from_bytes(claim[17:]), claim, long_tag)

    def is_minted_for(self, presented: Presented, seed: str) -> bool:
        """Whether the long tag is right too, for a family of that seed: then this service made the token."""
        return hmac.compare_digest(presented.long_tag, self._long_tag(presented.key, presented.authenticated, seed))

    def _short_tag(self, key: int, claim: bytes) -> bytes:
        return hmac.digest(self._keyring.derive(key, self._short), claim, "sha256")[:8]

    def _long_tag(self, key: int, claim: bytes, seed: str) -> bytes:
        return hmac.digest(self._family_key(key, seed), claim, "sha256")[:16]

    def _derive_family_key(self, key: int, seed: str) -> bytes:
        return hmac.digest(self._keyring.derive(key, self._long), seed.encode(), "sha256")


def new_id() -> str:
    """128 random bits as 22 characters: a family id, a `jti`, a commit's id."""
    return base62.encode(secrets.token_bytes(FAMILY_BYTES))


def new_seed() -> str:
    """128 random bits: what keys a family's long tags besides the service's key."""
    return base62.encode(secrets.token_bytes(SEED_BYTES))


def short_digest(data: bytes) -> str:
    """128 bits of SHA-256 as 22 characters, for telling a repeated request."""
    return base62.encode(hashlib.sha256(data).digest()[:16])


def _checksum(text: str) -> str:
    return base62.encode_int(zlib.crc32(text.encode()), _CRC_CHARACTERS)
