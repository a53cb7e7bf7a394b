"""What a store keeps of one family of tokens, and how it changes; pure.

Every process that shares the store derives the same `Idempotency-Key` from it, so all get the same successor.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from heirloom_client.tokens import Hidden, Tokens

VERSION = 1


class Target(NamedTuple):
    """What an access token is for; None: all that was granted. Resources are sorted, so that equal ones are equal."""

    scope: str | None = None
    resource: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """A text for it: the same one for the same target."""
        return json.dumps(self)


def target(scope: str | None, resource: str | Sequence[str] | None) -> Target:
    """The target of these parameters (RFC 6749 §6, RFC 8707 §2.2)."""
    resources = (resource,) if isinstance(resource, str) else resource
    words = None if scope is None else " ".join(sorted(set(scope.split())))
    return Target(words, None if resources is None else tuple(sorted(set(resources))))


WHOLE = Target()


class Access(Hidden, frozen=True):
    """An access token. `expires_at` is in seconds since 1970, by the clock of the process that got it."""

    access_token: str
    token_type: str
    scope: str
    expires_in: int
    expires_at: float
    id_token: str | None = None


class Record(Hidden, frozen=True):
    """A family: its newest refresh token, the access tokens that live, and the secret that keys are derived from.

    `pending` is a request that was or will be sent with this refresh token; `uses` counts how often the same refresh
    token was redeemed (only a client that does not rotate does so twice); `redeemed_at` is when the one before was, in
    seconds since 1970; `origin` is a digest of the family's first.
    """

    secret: str
    origin: str
    refresh_token: str
    uses: int = 0
    redeemed_at: float = 0.0
    pending: Target | None = None
    access: dict[str, Access] = msgspec.field(default_factory=dict)
    v: int = VERSION

    @property
    def generation(self) -> tuple[str, int]:
        """Differs from that of the record before the last redemption."""
        return self.refresh_token, self.uses


def begin(before: Record | None, first: Tokens, now: float) -> Record:
    """The record of a new family; the store's secret stays. `first` has a refresh token."""
    assert first.refresh_token is not None
    secret = before.secret if before is not None else secrets.token_hex(32)
    access = {WHOLE.name: access_of(first, now)}
    return Record(secret=secret, origin=origin_of(first), refresh_token=first.refresh_token, access=access)


def origin_of(first: Tokens) -> str:
    """By which a family is recognised: two processes that begin with the same tokens begin one record."""
    return hashlib.sha256((first.refresh_token or "").encode()).hexdigest()


def access_of(tokens: Tokens, now: float) -> Access:
    """The access token of an answer whose request was sent at `now`."""
    return Access(
        tokens.access_token,
        tokens.token_type,
        tokens.scope,
        tokens.expires_in,
        now + tokens.expires_in,
        tokens.id_token,
    )


def idempotency_key(record: Record) -> str:
    """HMAC-SHA-256 of the refresh token, under the store's secret: a thief of the token alone cannot make it."""
    text = record.refresh_token if not record.uses else f"{record.refresh_token} {record.uses}"
    return hmac.digest(bytes.fromhex(record.secret), text.encode(), "sha256").hex()


def after(current: Record, presented: Record, asked: Target, tokens: Tokens, now: float) -> Record:
    """The record once `presented` was answered by `tokens`; `current` is what the store holds by then.

    What is newer than the answer stays as it is.
    """
    if current.origin != presented.origin:
        return current
    got = access_of(tokens, now)
    alive = {name: access for name, access in current.access.items() if access.expires_at > now}
    known = alive.get(asked.name)
    if known is None or known.expires_at < got.expires_at:
        alive[asked.name] = got
    if current.generation != presented.generation:
        return msgspec.structs.replace(current, access=alive)
    successor = tokens.refresh_token or presented.refresh_token
    uses = presented.uses + 1 if successor == presented.refresh_token else 0
    return msgspec.structs.replace(
        current, refresh_token=successor, uses=uses, redeemed_at=now, pending=None, access=alive
    )
