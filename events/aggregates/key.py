"""The life of a key: the aggregate `tokens.<tenant>.key.<kid>`.

The key itself is derived from the keyring: `secret` is the id of the keyring's entry, `number` counts the keys from it.
The log contains a signing key's public half, so that an auditor can verify tokens of any age. A MAC key
(`mac-<secret>`) has none.
"""

from typing import Literal, TypeAlias, assert_never

import msgspec
from msgspec.structs import replace

from events.aggregates.commit import Codec, Commit
from events.aggregates.settings import SigningAlg

KeyAlg: TypeAlias = SigningAlg | Literal["HS256"]
"""A key's algorithm: for signatures, or (`HS256`) for the MACs of refresh tokens, codes and opaque tokens."""


class _Event(msgspec.Struct, frozen=True, tag_field="type"):
    pass


class KeyPublished(_Event, frozen=True, tag="KeyPublished"):
    """The key was published in the JWKS, and does not sign yet. `jwk` is public (RFC 7517), and empty for a MAC key."""

    alg: KeyAlg
    secret: int
    number: int
    jwk: dict[str, str]


class KeyActivated(_Event, frozen=True, tag="KeyActivated"):
    """The key began to sign."""


class KeyRetired(_Event, frozen=True, tag="KeyRetired"):
    """The key stopped signing. It stays in the JWKS while a token signed by it may be valid."""


KeyEvent: TypeAlias = KeyPublished | KeyActivated | KeyRetired


class KeyState(msgspec.Struct, frozen=True):
    """A key and its status, which goes from `next` over `active` to `retired`."""

    alg: KeyAlg
    secret: int
    number: int
    jwk: dict[str, str]
    status: Literal["next", "active", "retired"] = "next"


KeyCommit: TypeAlias = Commit[KeyEvent, KeyState]
codec: Codec[KeyEvent, KeyState] = Codec(KeyCommit)


def evolve(state: KeyState | None, event: KeyEvent) -> KeyState:
    """The state after `event`. Raises `ValueError` for an event before `KeyPublished`."""
    if isinstance(event, KeyPublished):
        return KeyState(event.alg, event.secret, event.number, event.jwk)
    if state is None:
        raise ValueError("a key begins with KeyPublished")
    match event:
        case KeyActivated():
            return replace(state, status="active")
        case KeyRetired():
            return replace(state, status="retired")
        case _:
            assert_never(event)
